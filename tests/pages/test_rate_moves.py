"""The rate page where browser and page part ways, and where a lease would hold its rater up."""

import io
import uuid
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import get_settings
from rlhf_core.feedback.attachments import add_voice_note
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import RatingAssignment
from rlhf_core.vocabulary import AssignmentState, QueueSubject, Role
from tests.builders import make_actor, make_feedback
from tests.pages.rating_desk import (
    find,
    make_items,
    make_queue,
    open_page,
    open_queue,
    press,
    shown_item,
    stored,
)  # fmt: skip

SignIn = Callable[[Role], Actor]


def states(store: Store) -> list[AssignmentState]:
    with store.reading() as db:
        return list(db.scalars(sa.select(RatingAssignment.state).order_by(RatingAssignment.state)))


def test_browsers_back_button_shows_the_item_rated_before(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(3)
    page = open_page()
    press(page, "rating_4")
    page.run()  # the browser sends the new address: it knows it
    assert shown_item(page) == str(items[1])
    page.query_params["item"] = str(items[0])
    page.run()
    assert shown_item(page) == str(items[0])
    press(page, "rating_2")
    assert {item: row.rating for item, row in stored().items()} == {items[0]: 2}


def test_link_in_my_ratings_opens_the_item_rated_last(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    items = make_items(3)
    with store.writing() as db:
        entry = make_feedback(db, items[0], actor=actor, rating=2).id
    page = open_page(items[0])
    press(page, "rating_4")
    assert shown_item(page) == str(items[1])
    page.query_params["entry"] = str(entry)
    page.switch_page("pages/collect/my_ratings.py").run()
    assert not page.exception
    page.query_params["item"] = str(items[0])
    page.switch_page("pages/collect/rate.py").run()
    assert shown_item(page) == str(items[0])


def test_item_rated_as_a_whole_is_skipped_in_a_queue_about_steps(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    items = make_items(2, steps=2)
    with store.writing() as db:
        for item in items:
            make_feedback(db, item, actor=actor, rating=3)
    page = open_queue(make_queue(store, items, subject=QueueSubject.STEPS))
    first = shown_item(page)
    assert find(page, "next").label == "Skip"
    press(page, "next")
    assert shown_item(page) != first
    assert states(store) == [AssignmentState.LEASED, AssignmentState.SKIPPED]


def test_item_judged_elsewhere_while_held_is_counted_and_left(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_queue(make_queue(store, items))
    first = shown_item(page)
    with store.writing() as db:
        make_feedback(db, uuid.UUID(first), actor=actor, rating=5)
    page.run()
    assert find(page, "next").label == "Next"
    press(page, "next")
    assert shown_item(page) != first
    assert states(store) == [AssignmentState.DONE, AssignmentState.LEASED]


def test_manager_who_is_not_assigned_goes_on_outside_of_the_queue(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    items = make_items(2)
    with store.writing() as db:
        other = make_actor(db).account_id
    page = open_queue(make_queue(store, items, assignee_ids=[other]))
    assert any("assigned to others" in error.value for error in page.error)
    press(page, "retry")
    assert "queue" not in page.query_params
    assert shown_item(page) == str(items[0])


def test_signed_out_tab_has_no_voice_note_written_down(
    store: Store,
    sign_in_as: SignIn,
    browser_cookie: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("RLHF_SPEECH_MODEL", str(tmp_path))
    get_settings.cache_clear()
    actor = sign_in_as(Role.RATER)
    (item,) = make_items(1)
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(b"\0\0" * 8_000)
    with store.writing() as db:
        add_voice_note(db, item, out.getvalue(), actor=actor)
    page = open_page(item)
    press(page, "voice_open")
    browser_cookie["session"] = None
    press(page, "transcribe")
    assert any("signed out" in info.value for info in page.info)
    assert "rating_failure" not in page.session_state  # the inference process was not asked
    get_settings.cache_clear()
