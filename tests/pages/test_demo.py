"""The demo world on the pages: offered where there is nothing, cleared after a question."""

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.demo.service import find_demo, load_demo
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role

SignIn = Callable[[Role], Actor]


def open_app() -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=60).run()
    assert not page.exception
    return page


def keys_of(page: AppTest) -> set[str]:
    return {button.key for button in page.button}


def is_loaded(store: Store) -> bool:
    with store.reading() as db:
        return find_demo(db) is not None


def test_an_empty_product_offers_the_demo_world_and_shows_it_marked(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    page = open_app()
    page.button(key="demo_load").click().run()
    assert not page.exception
    assert is_loaded(store)
    assert "demo_load" not in keys_of(page)
    assert any("demo" in element.value for element in page.get("markdown"))


def test_a_rater_is_not_offered_what_they_may_not_load(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    assert "demo_load" not in keys_of(open_app())


def test_the_demo_world_is_cleared_after_a_question(store: Store, sign_in_as: SignIn) -> None:
    with store.writing() as db:
        load_demo(db, actor=SYSTEM)
    sign_in_as(Role.TRAINER)
    page = open_app().switch_page("pages/admin/transfer.py").run()
    page.segmented_control(key="transfer_part").set_value("Demo world").run()
    page.button(key="demo_clear").click().run()
    assert is_loaded(store)
    page.button(key="demo_clear_keep").click().run()
    assert is_loaded(store)
    page.button(key="demo_clear").click().run()
    page.button(key="demo_clear_confirm").click().run()
    assert not page.exception
    assert not is_loaded(store)
    assert "demo_load" in keys_of(page)
