"""The page Compare: choosing by keys, blind and shuffled, in and outside of queues."""

import html
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.queues.service import close_queue, create_queue, set_queue
from rlhf_core.queues.views import QueueView
from rlhf_core.store.engine import Store, get_store
from rlhf_core.store.tables import Comparison, Interaction, RatingAssignment
from rlhf_core.vocabulary import Choice, QueueSubject, Role
from tests.builders import make_actor, make_interaction
from tests.core.feedback.pairs import compare, make_completions

SignIn = Callable[[Role], Actor]
EVIL = "![x](https://evil.example/a.png) <b>bold</b>\n**stars**"


def make_pairs(num: int, **fields: Any) -> list[list[uuid.UUID]]:
    with get_store().writing() as db:
        return [make_completions(db, prompt=f"Prompt {n}", **fields) for n in range(num)]


def open_page(**query: str) -> AppTest:
    page = AppTest.from_file(SOURCE_ROOT / "app.py", default_timeout=60).run()
    for name, value in query.items():
        page.query_params[name] = value
    page.switch_page("pages/collect/compare.py").run()
    assert not page.exception
    return page


def press(page: AppTest, key: str) -> None:
    """Press the button whose key begins so: the rest of it names the pair."""
    (button,) = [one for one in page.button if (one.key or "").startswith(key)]
    button.click().run()
    assert not page.exception


def shown(page: AppTest) -> list[uuid.UUID]:
    """The pair that the address names."""
    value = page.query_params["item"]
    return [uuid.UUID(one) for one in (value if isinstance(value, str) else value[-1]).split(".")]


def sides(page: AppTest) -> list[uuid.UUID]:
    """The completions as they stand on screen, from the left."""
    with get_store().reading() as db:
        by_text = {row.completion: row.id for row in db.scalars(sa.select(Interaction))}
    return [by_text[text.value] for text in page.text if text.value in by_text]


def stored() -> list[Comparison]:
    with get_store().reading() as db:
        query = sa.select(Comparison).where(Comparison.withdrawn_at.is_(None))
        return list(db.scalars(query.order_by(Comparison.created_at)))


def make_queue(pair: list[uuid.UUID], **fields: Any) -> QueueView:
    with get_store().writing() as db:
        return create_queue(
            db, actor=SYSTEM, name="q", pairs=[(pair[0], pair[1])],
            subject=QueueSubject.COMPARISONS, **fields,
        )  # fmt: skip


def toasts(page: AppTest) -> list[str]:
    return [toast.value for toast in page.toast]


def test_each_choice_is_stored_as_shown_and_the_next_pair_comes(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    make_pairs(4)
    page = open_page()
    seen = []
    for key in ("choice_1", "choice_2", "choice_0", "choice_B"):
        seen.append(sides(page))
        press(page, key)
    rows = stored()
    assert [[r.left_interaction_id, r.right_interaction_id] for r in rows] == seen
    assert [r.choice for r in rows] == [Choice.LEFT, Choice.RIGHT, Choice.TIE, Choice.BOTH_BAD]
    assert all(r.is_blind and r.duration_s is not None for r in rows)
    assert all((r.extra or {})["side_seed"] >= 0 for r in rows)
    assert any("All is compared" in text.value for text in page.markdown)


def test_strength_belongs_to_the_pair_on_screen(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    make_pairs(3)
    page = open_page()
    press(page, "strength_3")
    press(page, "choice_1")
    press(page, "choice_1")
    press(page, "strength_2")
    press(page, "choice_0")  # of a tie there is no strength
    assert [row.strength for row in stored()] == [3, None, None]


def test_strength_pressed_twice_is_taken_away(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    make_pairs(1)
    page = open_page()
    press(page, "strength_1")
    press(page, "strength_1")
    press(page, "choice_2")
    assert [row.strength for row in stored()] == [None]


def test_reason_survives_a_reload_and_goes_with_the_choice(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    make_pairs(2)
    page = open_page()
    page.text_area[0].input("because").run()
    page = open_page()
    assert page.text_area[0].value == "because"
    press(page, "choice_1")
    assert [row.reason for row in stored()] == ["because"]
    assert page.text_area[0].value == ""


def test_reload_stays_and_undo_shows_the_pair_again_after_it(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    make_pairs(3)
    page = open_page()
    first = shown(page)
    press(page, "choice_1")
    second = shown(page)
    page = open_page(item=".".join(map(str, second)))
    assert shown(page) == second
    press(page, "undo")
    assert shown(page) == first
    assert stored() == []
    press(page, "choice_2")
    assert shown(page) == second
    press(page, "undo")
    press(page, "undo")
    assert any("nothing to undo" in toast for toast in toasts(page))


def test_way_back_shows_ones_own_choice_which_can_be_changed(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    make_pairs(2)
    page = open_page()
    first = shown(page)
    press(page, "choice_1")
    press(page, "back_")
    assert shown(page) == first
    chosen = [b.key for b in page.button if b.proto.type == "primary"]
    assert [key.startswith("choice_1") for key in chosen if key] == [True]
    press(page, "choice_2")
    assert [(r.choice, r.revision) for r in stored()] == [(Choice.RIGHT, 1)]
    assert shown(page) != first


def test_skip_passes_over_a_pair_without_a_word(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    make_pairs(2)
    page = open_page()
    first = shown(page)
    press(page, "next_")
    assert shown(page) != first
    press(page, "next_")
    assert shown(page) == first
    assert stored() == []


def test_queue_gives_its_pairs_and_counts_them(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.RATER)
    pairs = make_pairs(3, model_name="secret-7b")
    with store.writing() as db:
        queue = create_queue(
            db, actor=SYSTEM, name="Night shift", pairs=[(p[0], p[1]) for p in pairs[:2]],
            subject=QueueSubject.COMPARISONS, instructions="Which is ![x](http://a.b) shorter?",
        )  # fmt: skip
    page = open_page(queue=str(queue.id))
    assert any("shorter?" in html.unescape(caption.value) for caption in page.caption)
    assert not any("![" in caption.value for caption in page.caption)
    assert shown(page) == pairs[0]
    press(page, "next_")
    assert shown(page) == pairs[1]
    press(page, "choice_1")
    assert shown(page) == pairs[0]
    press(page, "choice_1")
    assert any("This queue is done" in text.value for text in page.markdown)
    assert {row.queue_id for row in stored()} == {queue.id}
    with store.reading() as db:
        states = db.execute(sa.select(RatingAssignment.state, RatingAssignment.slot)).all()
    assert states == [("done", 0)] * 2
    assert actor.account_id is not None
    press(page, "leave_queue")
    assert shown(page) == pairs[2]


@pytest.mark.parametrize("is_blind", [True, False])
def test_model_is_shown_in_an_open_queue_only(
    store: Store, sign_in_as: SignIn, is_blind: bool
) -> None:
    sign_in_as(Role.RATER)
    (pair,) = make_pairs(1, model_name="secret-7b")
    with store.writing() as db:
        queue = create_queue(
            db, actor=SYSTEM, name="q", pairs=[(pair[0], pair[1])], is_blind=is_blind,
            subject=QueueSubject.COMPARISONS,
        )  # fmt: skip
    page = open_page(queue=str(queue.id))
    texts = html.unescape(" ".join(markdown.value for markdown in page.markdown))
    assert ("secret-7b" in texts) is not is_blind
    press(page, "choice_1")
    assert stored()[0].is_blind is is_blind


def test_address_does_not_make_a_pair_of_another_place_open(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.RATER)
    pair, other = make_pairs(2, model_name="secret-7b")
    queue = make_queue(pair, is_blind=False)
    page = open_page(queue=str(queue.id), item=".".join(map(str, other)))
    assert shown(page) == other
    assert "secret-7b" not in html.unescape(" ".join(text.value for text in page.markdown))
    press(page, "choice_1")
    assert [(row.is_blind, row.queue_id) for row in stored()] == [(True, None)]
    assert shown(page) == pair


@pytest.mark.parametrize("is_closed", [True, False])
def test_queue_closed_or_reassigned_meanwhile_keeps_a_late_choice(
    store: Store, sign_in_as: SignIn, is_closed: bool
) -> None:
    sign_in_as(Role.RATER)
    first, second = make_pairs(2)
    with store.writing() as db:
        queue = create_queue(
            db, actor=SYSTEM, name="q", pairs=[(first[0], first[1]), (second[0], second[1])],
            subject=QueueSubject.COMPARISONS,
        )  # fmt: skip
    page = open_page(queue=str(queue.id))
    with store.writing() as db:
        if is_closed:
            close_queue(db, queue.id, actor=SYSTEM)
        else:
            other = make_actor(db)
            assert other.account_id is not None
            set_queue(
                db, queue.id, actor=SYSTEM, instructions=None, assignee_ids=[other.account_id]
            )
    press(page, "choice_1")
    assert [(row.choice, row.queue_id) for row in stored()] == [(Choice.LEFT, queue.id)]
    press(page, "retry")
    assert shown(page) == second


@pytest.mark.parametrize("way", ["back_", "undo"])
def test_three_of_another_place_are_judged_outside_of_the_queue(
    store: Store, sign_in_as: SignIn, way: str
) -> None:
    sign_in_as(Role.RATER)
    (pair,) = make_pairs(1)
    with store.writing() as db:
        three = make_completions(db, 3, prompt="Three?")
    page = open_page(item=".".join(map(str, three)))
    press(page, "choice_1")
    queue = make_queue(pair)
    page.query_params["queue"] = str(queue.id)
    page.query_params.pop("item", None)
    page.run()
    assert shown(page) == pair
    press(page, way)
    assert shown(page) == three
    press(page, "next_")  # goes on in the queue
    assert shown(page) == pair
    press(page, "back_")
    assert shown(page) == three
    press(page, "choice_2")
    assert shown(page) == pair
    assert [row.queue_id for row in stored()] == [None, None]


def test_three_side_by_side_store_what_the_best_beats(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    with store.writing() as db:
        make_completions(db, 3)
    page = open_page()
    assert len(sides(page)) == 2
    page.segmented_control(key="compare_most").set_value(3).run()
    assert len(sides(page)) == 3
    best = sides(page)[1]
    press(page, "choice_2")
    rows = stored()
    assert len(rows) == 2
    winners = [
        r.left_interaction_id if r.choice is Choice.LEFT else r.right_interaction_id for r in rows
    ]
    assert winners == [best, best]
    press(page, "undo")
    assert stored() == []


def test_others_are_shown_after_ones_own_choice(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    ((one, other),) = make_pairs(1)
    with store.writing() as db:
        compare(db, one, other, make_actor(db), reason="shorter and right")
    page = open_page()
    assert not any("shorter and right" in text.value for text in page.text)
    press(page, "choice_1")
    press(page, "back_")
    assert any("shorter and right" in text.value for text in page.text)


def test_text_of_others_is_shown_as_it_is(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    with store.writing() as db:
        for number in range(2):
            make_interaction(
                db, prompt=EVIL, completion=f"{EVIL}{number}", steps=[EVIL], action_type=EVIL[:30],
                action_data={"note": EVIL}, context=[{"role": EVIL[:20], "content": EVIL}],
            )  # fmt: skip
    page = open_page()
    values = [text.value for text in page.text]
    assert {f"{EVIL}0", f"{EVIL}1"} <= set(values)
    assert values.count(EVIL) == 6
    for element in (*page.markdown, *page.caption):
        assert "![" not in element.value


def test_address_that_names_nothing_is_said_and_left(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    pairs = make_pairs(1)
    for wanted in ("nonsense", f"{uuid.uuid4()}.{uuid.uuid4()}"):
        page = open_page(item=wanted)
        assert len(page.warning) == 1
        press(page, "retry")
        assert shown(page) == pairs[0]


def test_nothing_to_compare_says_what_is_needed(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.RATER)
    page = open_page()
    assert any("Two answers to the same prompt" in caption.value for caption in page.caption)


def test_choice_of_a_signed_out_tab_is_refused(
    store: Store, sign_in_as: SignIn, browser_cookie: dict[str, str | None]
) -> None:
    sign_in_as(Role.RATER)
    make_pairs(1)
    page = open_page()
    browser_cookie["session"] = None
    (button,) = [one for one in page.button if (one.key or "").startswith("choice_1")]
    button.click().run()
    assert stored() == []


def test_manager_who_is_not_assigned_goes_on_outside_of_the_queue(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.TRAINER)
    (pair,) = make_pairs(1)
    with store.writing() as db:
        other = make_actor(db).account_id
    page = open_page(queue=str(make_queue(pair, assignee_ids=[other]).id))
    assert any("assigned to others" in error.value for error in page.error)
    press(page, "retry")
    assert "queue" not in page.query_params
    assert shown(page) == pair
