"""From feedback to a frozen version and its file, and from what is short to the rating queue."""

import html
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.messages import JOINER
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.dataset.service import list_versions, load_rows
from rlhf_core.queues.service import create_queue, list_queues
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.dataset.frozen import fill
from tests.learning.rated import add_rated, make_rows
from tests.pages.rating_desk import press

SignIn = Callable[[Role], Actor]


def open_page(name: str = "pages/train/datasets.py") -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30).run()
    page.switch_page(name).run()
    assert not page.exception
    return page


def choose(page: AppTest, key: str, value: object) -> AppTest:
    page.segmented_control(key=key).set_value(value).run()
    assert not page.exception
    return page


def said(page: AppTest) -> str:
    shown = [*page.markdown, *page.caption, *page.warning, *page.success, *page.info, *page.error]
    return html.unescape("\n".join(element.value for element in shown)).replace(JOINER, "")


def item_of(page: AppTest) -> str:
    value = page.query_params["item"]
    return value[0] if isinstance(value, list) else value


def test_rows_are_previewed_frozen_and_exported(store: Store, sign_in_as: SignIn) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(60))
    sign_in_as(Role.TRAINER)
    page = open_page()
    assert {metric.label: metric.value for metric in page.metric}["Rated completions"] == "60"
    assert len(page.dataframe[0].value) == 20
    page.text_input(key="dataset_name_scores").set_value("first")
    page.button(key="dataset_start").click().run()
    assert not page.exception
    with store.reading() as db:
        (version,) = list_versions(db, actor=SYSTEM)
    assert version.name == "first v1"
    assert sum(version.card["parts"].values()) == 60
    assert len(load_rows(version, split=None)) == 60
    assert page.segmented_control(key="dataset_part").value == "Versions"
    assert "first v1" in [header.value for header in page.header]
    choose(page, "version_tab", "Rows")
    choose(page, "version_tab", "Export")
    page.button(key="dataset_prepare").click().run()
    assert not page.exception
    assert page.session_state["dataset_file"][2] == 60


@pytest.mark.parametrize("purpose", DatasetPurpose)
def test_every_purpose_can_be_built(
    store: Store, sign_in_as: SignIn, purpose: DatasetPurpose
) -> None:
    with store.writing() as db:
        fill(db, 4)
    sign_in_as(Role.TRAINER)
    page = choose(open_page(), "dataset_purpose", purpose)
    assert len(page.dataframe[0].value) > 0
    page.button(key="dataset_start").click().run()
    assert not page.exception
    with store.reading() as db:
        (version,) = list_versions(db, actor=SYSTEM)
    assert version.purpose is purpose


def test_how_raters_are_merged_is_asked_of_all_but_prompts(
    store: Store, sign_in_as: SignIn
) -> None:
    with store.writing() as db:
        fill(db)
    sign_in_as(Role.TRAINER)
    page = open_page()
    asked = set()
    for purpose in DatasetPurpose:
        choose(page, "dataset_purpose", purpose)
        if any(control.key == "dataset_merge" for control in page.segmented_control):
            asked.add(purpose)
    assert asked == set(DatasetPurpose) - {DatasetPurpose.PROMPTS}


def test_what_is_short_becomes_a_queue_that_leads_to_the_items(
    store: Store, sign_in_as: SignIn
) -> None:
    with store.writing() as db:
        rated = make_interaction(db, prompt="Which tea?", completion="Green.").id
        wanted = make_interaction(db, prompt="Which tea?", completion="Black.").id
        make_interaction(db, prompt="Another question?")
        make_feedback(db, rated, actor=make_actor(db), rating=5)
    actor = sign_in_as(Role.TRAINER)
    page = choose(open_page(), "dataset_purpose", DatasetPurpose.PREFERENCES)
    assert "second rated answer" in said(page)
    page.button(key="dataset_queue").click().run()
    with store.reading() as db:
        (queue,) = list_queues(db, actor=actor)
    assert queue.num_items == 1
    rate = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30)
    rate.query_params["queue"] = str(queue.id)
    rate.run().switch_page("pages/collect/rate.py").run()
    assert item_of(rate) == str(wanted)
    press(rate, "rating_1")
    assert not rate.exception
    assert "This queue is done" in said(rate)
    rate.button(key="leave_queue").click().run()
    assert item_of(rate) != str(wanted)


def test_queue_is_chosen_on_the_rate_page(store: Store, sign_in_as: SignIn) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(3)]
        queue = create_queue(db, actor=SYSTEM, name="mine", interaction_ids=[ids[2]])
    sign_in_as(Role.RATER)
    page = open_page("pages/collect/rate.py")
    assert item_of(page) == str(ids[0])
    page.selectbox(key="rating_queue").set_value(queue.id).run()
    assert not page.exception
    assert item_of(page) == str(ids[2])


def test_address_of_a_queue_that_is_gone_leads_back(store: Store, sign_in_as: SignIn) -> None:
    with store.writing() as db:
        make_interaction(db)
    sign_in_as(Role.RATER)
    for wrong in ("00000000-0000-0000-0000-000000000000", "nonsense"):
        page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30)
        page.query_params["queue"] = wrong
        page.run().switch_page("pages/collect/rate.py").run()
        assert "queue" in said(page)
        page.button(key="retry").click().run()
        assert "item" in page.query_params
        assert "queue" not in page.query_params


def test_nothing_there_is_said(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    page = open_page()
    assert "0 rated interactions, 50 short" in said(page)
    choose(page, "dataset_part", "Versions")
    assert "Nothing is frozen yet" in said(page)


def test_page_is_closed_to_raters_and_analysts(store: Store, sign_in_as: SignIn) -> None:
    for role in (Role.RATER, Role.ANALYST):
        sign_in_as(role)
        page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=30).run()
        with pytest.raises(ValueError, match="datasets"):
            page.switch_page("pages/train/datasets.py").run()
