import sqlite3
import uuid
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.store import engine
from rlhf_core.store.engine import Store, get_store
from rlhf_core.store.tables import ReasoningStep
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_feedback
from tests.pages.rating_desk import (
    completion_of,
    find,
    make_items,
    name_of,
    open_page,
    press,
    shown_item,
    stored,
)

SignIn = Callable[[Role], Actor]


def test_each_rating_is_stored_and_the_next_item_shows(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(3)
    page = open_page()
    assert shown_item(page) == str(items[0])
    press(page, "rating_4")
    assert stored()[items[0]].rating == 4
    assert shown_item(page) == str(items[1])
    assert page.toast[0].value == "Saved: 4 of 5"
    press(page, "thumb_N")
    assert stored()[items[1]].thumb == -1
    assert shown_item(page) == str(items[2])
    press(page, "rating_1")
    assert any("All is rated" in text.value for text in page.markdown)
    press(page, "back")
    assert shown_item(page) == str(items[2])


def test_a_reload_stays_on_the_item_and_shows_ones_own_rating(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    items = make_items(2)
    with store.writing() as db:
        make_feedback(db, items[0], actor=actor, rating=2, comment="vague")
        make_feedback(db, items[0], actor=make_actor(db), rating=5, comment="not mine")
    page = open_page(items[0])
    assert shown_item(page) == str(items[0])
    assert page.text_area[0].value == "vague"
    pressed = [name_of(button) for button in page.button if button.proto.type == "primary"]
    assert pressed == ["rating_2"]


def test_steps_are_labelled_before_and_stay_on_the_item(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    (item,) = make_items(1, steps=3)
    page = open_page()
    press(page, "label_0_G")
    press(page, "label_1_J")
    press(page, "label_1_H")  # changed one's mind
    with store.reading() as db:
        steps = db.scalars(sa.select(ReasoningStep.id).order_by(ReasoningStep.position)).all()
    labels = {step: row.label for step, row in stored().items()}
    assert labels == {steps[0]: 1, steps[1]: 0}
    assert shown_item(page) == str(item)
    with_key = {name_of(button) for button in page.button if button.proto.shortcut.lower() == "g"}
    assert with_key == {"label_2_G"}  # the keys are those of the first step without a label


def test_comment_is_stored_with_the_rating_and_alone(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    page.text_area[0].input("too long").run()
    assert stored() == {}
    press(page, "rating_3")
    assert stored()[items[0]].comment == "too long"
    assert page.text_area[0].value == ""
    page.text_area[0].input("unclear").run()
    press(page, "save_texts")
    assert stored()[items[1]].comment == "unclear"
    assert shown_item(page) == str(items[1])
    page.text_area[0].input("").run()
    press(page, "save_texts")
    assert items[1] not in stored()


def test_comment_is_kept_when_moving_on_without_a_rating(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    page.text_area[0].input("later").run()
    press(page, "next")
    assert stored()[items[0]].comment == "later"
    assert shown_item(page) == str(items[1])
    press(page, "back")
    assert shown_item(page) == str(items[0])
    assert page.text_area[0].value == "later"


def test_undo_works_after_a_reload_and_goes_to_the_item(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(3)
    page = open_page()
    press(page, "rating_4")
    press(page, "rating_5")
    page = open_page(items[2])
    press(page, "undo")
    assert shown_item(page) == str(items[1])
    press(page, "undo")
    assert shown_item(page) == str(items[0])
    assert stored() == {}
    press(page, "undo")
    assert "nothing to undo" in page.toast[0].value


def test_undo_keeps_a_typed_comment_and_restores_a_former_one(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    page.text_area[0].input("first thought").run()
    press(page, "rating_1")
    press(page, "undo")  # the wrong key: the comment need not be typed again
    assert page.text_area[0].value == "first thought"
    press(page, "rating_2")
    press(page, "back")
    page.text_area[0].input("second thought").run()
    press(page, "rating_3")
    press(page, "undo")
    assert shown_item(page) == str(items[0])
    assert page.text_area[0].value == "first thought"
    assert (stored()[items[0]].rating, stored()[items[0]].comment) == (2, "first thought")


def test_locked_database_says_so_and_keeps_what_was_typed(
    store: Store, sign_in_as: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SQLITE_BUSY_TIMEOUT_S", 0.05)
    store.close()
    get_store.cache_clear()
    sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    page.text_area[0].input("keep me").run()
    other = sqlite3.connect(store.engine.url.database or "", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    press(page, "rating_2")
    assert any("database is locked" in error.value for error in page.error)
    assert shown_item(page) == str(items[0])
    assert page.text_area[0].value == "keep me"
    other.execute("ROLLBACK")
    other.close()
    press(page, "rating_2")
    assert (stored()[items[0]].rating, stored()[items[0]].comment) == (2, "keep me")
    get_store().close()


def test_item_that_is_gone_is_named_and_one_goes_on(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(1)
    for wanted in (uuid.uuid4(), "nonsense"):
        page = open_page(wanted)
        assert len(page.warning) == 1
        press(page, "retry")
        assert shown_item(page) == str(items[0])


def test_nothing_to_rate_says_what_to_do(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    assert any("Ask an admin" in caption.value for caption in open_page().caption)
    sign_in_as(Role.ADMIN)
    assert any("Import interactions" in caption.value for caption in open_page().caption)


def test_text_of_others_is_shown_as_it_is(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    evil = "![x](https://evil.example/a.png) <b>bold</b>\n**stars**"
    make_items(1, prompt=evil, completion=evil, steps=[evil], action_type=evil[:30],
               action_data={evil: {"list": [1, None, True], evil: evil}},
               context=[{"role": evil[:20], "content": evil}])  # fmt: skip
    page = open_page()
    assert [text.value for text in page.text].count(evil) == 4  # and the completion, drawn by us
    assert completion_of(page)["text"] == evil
    assert "1, none, yes" in [text.value for text in page.text]
    assert not any("![" in element.value for element in (*page.markdown, *page.caption))


def test_very_long_text_is_shown_in_part_first(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    make_items(1, completion="  word" + " word" * 20_000)
    page = open_page()
    assert len(completion_of(page)["text"]) < 7_000
    page.toggle[0].set_value(True).run()
    assert len(completion_of(page)["text"]) == 100_006


def test_rating_of_a_signed_out_tab_is_refused(
    store: Store, sign_in_as: SignIn, browser_cookie: dict[str, str | None]
) -> None:
    sign_in_as(Role.RATER)
    make_items(1)
    page = open_page()
    browser_cookie["session"] = None
    find(page, "rating_5").click().run()
    assert stored() == {}


def test_second_rater_sees_an_item_that_the_first_left(store: Store, sign_in_as: SignIn) -> None:
    items = make_items(2)
    with store.writing() as db:
        submit_feedback(db, items[0], FeedbackDraft(rating=1), actor=make_actor(db))
    sign_in_as(Role.RATER)
    assert shown_item(open_page()) == str(items[1])
