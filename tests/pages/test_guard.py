import html
import re
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui import guard, messages
from rlhf_core.accounts import service
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT as ROOT
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role

TRAINING_PAGES = [
    "Raters", "Disputes", "Rate", "Datasets", "Launch training", "Runs", "Retraining", "Models",
    "Import and export", "Workers",
]  # fmt: skip
PAGES_OF = {
    Role.RATER: ["Rate"],
    Role.ANALYST: ["Rate", "Raters", "Disputes", "Models", "Import and export"],
    Role.TRAINER: TRAINING_PAGES,
    Role.ADMIN: TRAINING_PAGES,
}
FILES = {
    "Rate": "collect/rate",
    "Raters": "analyse/raters",
    "Disputes": "analyse/disputes",
    "Datasets": "train/datasets",
    "Launch training": "train/launch",
    "Runs": "train/runs",
    "Models": "models/registry",
    "Retraining": "train/schedules",
    "Import and export": "admin/transfer",
    "Workers": "admin/workers",
}


def guarded_script() -> None:
    import streamlit as st

    from pages._ui.guard import require_page
    from rlhf_core.accounts.permissions import Permission

    actor = require_page(Permission.RUN_JOBS)
    st.write(f"secret of {actor.name}")


def texts(app: AppTest) -> str:
    assert not app.exception
    shown = [*app.error, *app.warning, *app.info, *app.markdown, *app.caption]
    return "\n".join(element.value for element in shown)


def test_without_the_launcher_nothing_is_shown_but_what_to_run(store: Store) -> None:
    for app in (
        AppTest.from_file(ROOT / "app.py"),
        AppTest.from_function(guarded_script),
        AppTest.from_file(ROOT / "pages/collect/rate.py"),
    ):
        app.run(timeout=20)
        assert texts(app) == guard.NOT_LAUNCHED
        assert "make run" in guard.NOT_LAUNCHED
        assert not app.button


def test_without_a_session_the_page_is_not_run(
    store: Store, browser_cookie: dict[str, str | None]
) -> None:
    for secret in (None, "", "forged"):
        browser_cookie["session"] = secret
        for app in (AppTest.from_file(ROOT / "app.py"), AppTest.from_function(guarded_script)):
            app.run(timeout=20)
            assert texts(app) == "You are signed out. Sign in to go on."


@pytest.mark.parametrize(
    ("role", "is_open"), [(Role.RATER, False), (Role.ANALYST, False), (Role.TRAINER, True)]
)
def test_page_runs_only_for_roles_with_its_permission(
    store: Store, sign_in_as: Callable[[Role], Actor], role: Role, is_open: bool
) -> None:
    sign_in_as(role)
    app = AppTest.from_function(guarded_script).run(timeout=20)
    assert ("secret of" in texts(app)) is is_open
    assert ("not open to the role" in texts(app)) is not is_open


def test_sign_out_in_another_tab_stops_this_one_at_its_next_run(
    store: Store, sign_in_as: Callable[[Role], Actor]
) -> None:
    sign_in_as(Role.TRAINER)
    app = AppTest.from_function(guarded_script).run(timeout=20)
    assert "secret of" in texts(app)
    guard.sign_out()
    assert "secret of" not in texts(app.run(timeout=20))


def test_disabled_account_and_lost_role_count_at_the_next_run(
    store: Store, sign_in_as: Callable[[Role], Actor]
) -> None:
    actor = sign_in_as(Role.TRAINER)
    app = AppTest.from_function(guarded_script).run(timeout=20)
    with store.writing() as db:
        service.set_role(db, actor=SYSTEM, account_name=actor.name, role=Role.RATER)
    assert "not open to the role rater" in texts(app.run(timeout=20))
    with store.writing() as db:
        service.disable_account(db, actor=SYSTEM, account_name=actor.name)
    assert "signed out" in texts(app.run(timeout=20))


def fragment_script() -> None:
    import streamlit as st

    from pages._ui.guard import admit
    from rlhf_core.accounts.permissions import Permission

    actor = admit(Permission.RUN_JOBS)
    if actor is not None:
        st.write(f"secret of {actor.name}")
    st.write("what else is drawn in the same pass")


def test_fragment_whose_reader_lost_the_role_lets_the_rest_of_the_pass_go_on(
    store: Store, sign_in_as: Callable[[Role], Actor], browser_cookie: dict[str, str | None]
) -> None:
    sign_in_as(Role.TRAINER)
    assert "secret of" in texts(AppTest.from_function(fragment_script).run(timeout=20))
    sign_in_as(Role.RATER)
    said = texts(AppTest.from_function(fragment_script).run(timeout=20))
    assert "not open to the role rater" in said
    assert "secret of" not in said
    assert "what else is drawn" in said
    browser_cookie["session"] = None
    said = texts(AppTest.from_function(fragment_script).run(timeout=20))
    assert "signed out" in said
    assert "what else is drawn" in said


def test_database_that_does_not_answer_shows_a_sentence_and_no_page(
    store: Store, sign_in_as: Callable[[Role], Actor]
) -> None:
    sign_in_as(Role.TRAINER)
    with store.writing() as db:
        db.connection().exec_driver_sql("ALTER TABLE tokens RENAME TO gone")
    app = AppTest.from_function(guarded_script).run(timeout=20)
    assert "does not answer" in texts(app)
    assert "secret" not in texts(app)


@pytest.mark.parametrize("role", list(Role))
def test_navigation_holds_the_pages_of_the_role_and_no_other(
    store: Store, sign_in_as: Callable[[Role], Actor], role: Role
) -> None:
    sign_in_as(role)
    app = AppTest.from_file(ROOT / "app.py").run(timeout=30)
    assert not app.exception
    for title, file in FILES.items():
        if title in PAGES_OF[role]:
            app.switch_page(f"pages/{file}.py").run(timeout=30)
            assert not app.exception, file
            assert "not open to the role" not in texts(app), file
        else:
            with pytest.raises(ValueError, match="page"):
                app.switch_page(f"pages/{file}.py")


def test_sign_out_button_ends_the_session(
    store: Store, sign_in_as: Callable[[Role], Actor]
) -> None:
    sign_in_as(Role.RATER)
    app = AppTest.from_file(ROOT / "app.py").run(timeout=30)
    app.button(key="sign_out").click().run(timeout=30)
    assert "signed out" in texts(app)


@pytest.mark.parametrize(
    "hostile",
    [
        "![x](https://evil.example/p.png)",
        "[x](javascript:alert(1))",
        "<img src=https://evil.example/p.png>",
        "https://evil.example",
        "www.evil.example",
        "kim@evil.example",
        "$\\href{https://evil.example}{x}$",
        ":material/home: :red[x] :smile:",
        "# title\n    code\n* item",
        "`code`",
        "&amp; <b>",
    ],
)
def test_plain_text_keeps_no_mark_that_markdown_reads(hostile: str) -> None:
    shown = messages.plain(hostile)
    outside_references = re.sub(r"&#\d+;", "", shown)
    assert not set(outside_references) & set("![]()<>`$*#:@&\\_")
    restored = html.unescape(shown).replace(messages.JOINER, "").replace("\u00a0", " ")
    assert restored == hostile
    assert "://" not in html.unescape(shown)
    assert "www." not in html.unescape(shown)


def errors_script() -> None:
    from pages._ui.messages import empty_state, reporting
    from rlhf_core.errors import Conflict, Forbidden, InvalidInput, Unavailable

    for kind in (Conflict, Forbidden, InvalidInput, Unavailable):
        with reporting():
            raise kind("what, **which**, do")
    empty_state("Nothing here", "Import some", page="pages/none.py", page_label="Go")


def test_expected_errors_become_sentences() -> None:
    app = AppTest.from_function(errors_script).run(timeout=20)
    assert not app.exception
    expected = messages.plain("what, **which**, do")
    assert [element.value for element in app.error] == [expected] * 3
    assert [element.value for element in app.warning] == [expected]


def test_page_outside_of_the_navigation_does_not_run(
    store: Store, sign_in_as: Callable[[Role], Actor]
) -> None:
    sign_in_as(Role.RATER)
    app = AppTest.from_file(ROOT / "pages/train/runs.py").run(timeout=20)
    assert "not open to the role rater" in texts(app)
