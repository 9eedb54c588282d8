"""Aspects, steps, texts and queues of the rate page."""

import uuid
from collections.abc import Callable

import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.feedback.views import get_interaction
from rlhf_core.queues.service import close_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, RatingAssignment
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


def slots(store: Store) -> dict[AssignmentState, int]:
    with store.reading() as db:
        rows = db.execute(
            sa.select(RatingAssignment.state, sa.func.count()).group_by(RatingAssignment.state)
        )
        return {state: num for state, num in rows}


def test_digits_rate_the_aspects_after_their_key_and_then_the_whole(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    press(page, "target")
    for digit in (5, 4, 3, 2):
        assert find(page, "target").label == "Aspect"
        press(page, f"rating_{digit}")
        assert shown_item(page) == str(items[0])
    assert find(page, "target").label == "Overall"
    press(page, "rating_1")
    assert shown_item(page) == str(items[1])
    with store.reading() as db:
        mine = get_interaction(db, items[0], actor=actor).my_feedback
    assert mine is not None
    assert (mine.rating, mine.aspects) == (
        1, {"accuracy": 5, "helpfulness": 4, "safety": 3, "tone": 2},
    )  # fmt: skip


def test_aspect_chosen_by_mouse_is_stored_at_once_and_taken_back(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    (item,) = make_items(1)
    page = open_page()
    page.segmented_control[2].set_value(5).run()
    with store.reading() as db:
        mine = get_interaction(db, item, actor=actor).my_feedback
        assert mine is not None
        assert mine.aspects == {"safety": 5}
    press(page, "undo")
    assert page.segmented_control[2].value is None
    assert stored() == {}


def test_key_for_an_item_that_was_left_is_not_counted(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    find(page, "rating_4").click()
    find(page, "rating_2").click()  # both pressed before the next item showed
    page.run()
    assert [(row.interaction_id, row.revision) for row in stored().values()] == [(items[0], 0)]
    assert any("Not counted" in toast.value for toast in page.toast)


def test_run_with_the_address_of_the_item_just_left_shows_the_next(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    page = open_page()
    press(page, "rating_4")
    page.query_params["item"] = str(items[0])  # as a browser that had not heard of the next
    page.run()
    assert shown_item(page) == str(items[1])
    press(page, "back")
    assert shown_item(page) == str(items[0])


def test_first_wrong_step_takes_one_key_and_one_undo(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    make_items(1, steps=4)
    page = open_page()
    press(page, "step_Down")
    press(page, "step_Down")
    press(page, "first_wrong_2")
    assert sorted(row.label or 0 for row in stored().values()) == [-1, 1, 1]
    assert any("first wrong: step 3" in text.value for text in page.markdown)
    press(page, "undo")
    assert stored() == {}


def test_correction_is_kept_while_typed_and_sent_with_the_rating(
    store: Store, sign_in_as: SignIn
) -> None:
    actor = sign_in_as(Role.RATER)
    items = make_items(2, completion="Two and two is five.")
    page = open_page()
    press(page, "correct")
    assert page.text_area[0].value == "Two and two is five."
    page.text_area[0].input("Two and two is four.").run()
    with store.reading() as db:
        assert get_interaction(db, items[0], actor=actor).unsent == {
            "correction": "Two and two is four."
        }
    page = open_page(items[0])  # a reload
    assert page.text_area[0].value == "Two and two is four."
    press(page, "rating_2")
    row = stored()[items[0]]
    assert (row.rating, row.correction) == (2, "Two and two is four.")
    press(page, "back")
    press(page, "discard")
    assert stored()[items[0]].correction is None
    assert stored()[items[0]].rating == 2


def test_completion_typed_back_corrects_nothing(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2, completion="Right.")
    page = open_page()
    press(page, "correct")
    page.text_area[0].input("Wrong.").run()
    page.text_area[0].input("Right.").run()
    press(page, "rating_5")
    assert stored()[items[0]].correction is None


def test_long_comment_in_two_directions_survives_a_reload(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    comment = ("שלום 👩‍👩‍👧 " * 2_000)[:20_000].strip()
    page = open_page()
    page.text_area[0].input(comment).run()
    page = open_page(items[0])
    assert page.text_area[0].value == comment
    press(page, "thumb_Y")
    assert stored()[items[0]].comment == comment


def test_queue_leases_finishes_and_skips_items(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(3)
    queue = make_queue(store, items, aspects=("wit",))
    page = open_queue(queue)
    other_tab = open_queue(queue)
    assert shown_item(page) == shown_item(other_tab)
    assert [control.label for control in page.segmented_control] == ["Wit"]
    assert slots(store) == {AssignmentState.LEASED: 1}
    first = shown_item(page)
    press(page, "rating_4")
    assert stored()[uuid.UUID(first)].queue_id == queue
    second = shown_item(page)
    press(page, "next")
    third = shown_item(page)
    assert {first, second, third} == {str(item) for item in items}
    press(page, "thumb_N")
    assert shown_item(page) == second  # given back, it comes again
    press(page, "rating_1")
    assert any("This queue is done" in text.value for text in page.markdown)
    assert slots(store) == {AssignmentState.DONE: 3}


def test_queue_closed_meanwhile_keeps_a_late_rating(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    queue = make_queue(store, items)
    page = open_queue(queue)
    shown = uuid.UUID(shown_item(page))
    with store.writing() as db:
        close_queue(db, queue, actor=SYSTEM)
    press(page, "rating_2")
    assert {item: row.rating for item, row in stored().items()} == {shown: 2}
    press(page, "retry")
    assert "queue" not in page.query_params


def test_second_tab_that_rates_later_leaves_one_current_rating(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    page, other_tab = open_page(), open_page()
    press(page, "rating_4")
    press(other_tab, "rating_2")
    assert {item: row.rating for item, row in stored().items()} == {items[0]: 2}
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 1


def test_queue_about_steps_goes_on_when_the_first_wrong_one_is_found(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2, steps=3)
    page = open_queue(make_queue(store, items, subject=QueueSubject.STEPS))
    assert not any("rating_" in f"{button.key}" for button in page.button)
    first = shown_item(page)
    press(page, "label_0_G")
    press(page, "first_wrong_1")
    assert shown_item(page) != first
    for position in range(3):
        press(page, f"label_{position}_G")
    assert any("This queue is done" in text.value for text in page.markdown)
    assert slots(store) == {AssignmentState.DONE: 2}


def test_others_show_only_after_ones_own_rating(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    items = make_items(2)
    with store.writing() as db:
        for item in items:
            make_feedback(db, item, actor=make_actor(db), rating=1, comment="**bold** no")
    page = open_page(items[0])
    assert not any("others" in f"{button.key}" for button in page.button)
    press(page, "rating_5")
    press(page, "back")
    press(page, "others_open")
    assert any(text.value == "**bold** no" for text in page.text)
    assert any("1 of 5" in caption.value for caption in page.caption)


def test_voice_notes_open_with_a_word_where_nothing_writes_them_down(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    make_items(1)
    page = open_page()
    press(page, "voice_open")
    assert any("no speech model is configured" in caption.value for caption in page.caption)
