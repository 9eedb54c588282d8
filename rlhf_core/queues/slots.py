"""When a slot is taken and when an item is still to be judged, as conditions of SQL.

A slot is taken where its rater judged the item and the judgement stands, or where their lease still
runs. A judgement that was taken back frees the slot when the lease ends: until then it waits for
whoever took it back. All conditions are about `ITEM` and `SLOT`; they read the parameters `rater`
and `now`.
"""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from rlhf_core.feedback.step_labels import WRONG
from rlhf_core.store.base import UtcDateTime, table_of
from rlhf_core.store.tables import (
    Comparison,
    Feedback,
    RatingAssignment,
    RatingQueueItem,
    ReasoningStep,
)
from rlhf_core.vocabulary import AssignmentState, QueueItemKind, QueueSubject

ITEM = table_of(RatingQueueItem)
SLOT = table_of(RatingAssignment)
FEEDBACK = table_of(Feedback)
COMPARISON = table_of(Comparison)
STEP = table_of(ReasoningStep)

RATER = sa.bindparam("rater", type_=sa.Uuid)
NOW = sa.bindparam("now", type_=UtcDateTime)
DONE, LEASED = AssignmentState.DONE, AssignmentState.LEASED

Condition = sa.ColumnElement[bool]


def is_judged(subject: QueueSubject, rater: Any, occasion: Any) -> Condition:
    """Whether this rater's judgement of `ITEM` stands, wherever it was given."""
    if subject is QueueSubject.STEPS:
        return sa.and_(_has_steps(), ~_lacks_a_label(rater, occasion))
    if subject is QueueSubject.COMPARISONS:
        table, about = COMPARISON, [is_comparison_of_item()]
    else:
        table = FEEDBACK
        about = [FEEDBACK.c.interaction_id == ITEM.c.interaction_id, *says_something(subject)]
    own = _standing_of(table, rater, occasion)
    return sa.select(sa.literal(1)).where(*about, *own).correlate_except(table).exists()


def _standing_of(table: Any, rater: Any, occasion: Any) -> list[Condition]:
    return [table.c.rater_id == rater, table.c.occasion == occasion, table.c.withdrawn_at.is_(None)]


def _has_steps() -> Condition:
    """Whether `ITEM` has steps. Where no label is lacking, the first of them has one.

    To ask for a label of the rater too would let SQLite read all that the rater ever said.
    """
    step = STEP.alias("some_step")
    return (
        sa.select(sa.literal(1))
        .where(step.c.interaction_id == ITEM.c.interaction_id)
        .correlate_except(step)
        .exists()
    )


def _lacks_a_label(rater: Any, occasion: Any) -> Condition:
    """Whether a step of `ITEM` that is not behind one labelled wrong has no label of the rater.

    As `feedback.step_labels.are_steps_judged` asks.
    """
    step, earlier = STEP.alias("step"), STEP.alias("earlier_step")
    label, wrong = FEEDBACK.alias("step_label"), FEEDBACK.alias("wrong_label")
    is_labelled = (
        sa.select(sa.literal(1))
        .where(
            label.c.step_id == step.c.id,
            label.c.label.is_not(None),
            *_standing_of(label, rater, occasion),
        )
        .correlate_except(label)
        .exists()
    )
    is_behind_wrong = (
        sa.select(sa.literal(1))
        .select_from(earlier.join(wrong, wrong.c.step_id == earlier.c.id))
        .where(
            earlier.c.interaction_id == step.c.interaction_id,
            earlier.c.position < step.c.position,
            wrong.c.label == WRONG,
            *_standing_of(wrong, rater, occasion),
        )
        .correlate_except(earlier, wrong)
        .exists()
    )
    return (
        sa.select(sa.literal(1))
        .where(step.c.interaction_id == ITEM.c.interaction_id, ~is_labelled, ~is_behind_wrong)
        .correlate_except(step)
        .exists()
    )


def says_something(subject: QueueSubject) -> list[Condition]:
    """Which feedback is a judgement: a mere comment is none."""
    if subject is QueueSubject.STEPS:
        return [FEEDBACK.c.step_id.is_not(None), FEEDBACK.c.label.is_not(None)]
    said = sa.or_(FEEDBACK.c.rating.is_not(None), FEEDBACK.c.thumb.is_not(None))
    return [FEEDBACK.c.step_id.is_(None), said]


def is_comparison_of_item() -> Condition:
    """A comparison of the item's two completions, whichever was on the left."""
    one, other = ITEM.c.interaction_id, ITEM.c.other_interaction_id
    left, right = COMPARISON.c.left_interaction_id, COMPARISON.c.right_interaction_id
    return sa.or_(sa.and_(left == one, right == other), sa.and_(left == other, right == one))


def is_void(subject: QueueSubject, slot: Any = SLOT) -> Condition:
    """Whether what was judged in this slot (of `ITEM`) was taken back, in part or wholly.

    A finished slot whose feedback was erased with its row (`feedback_id` is NULL) stays finished.
    """
    if subject is QueueSubject.COMPARISONS:
        return ~is_judged(subject, slot.c.rater_id, occasion_of_item())
    if subject is QueueSubject.STEPS:
        stands = is_judged(subject, slot.c.rater_id, occasion_of_item())
    else:
        own = [FEEDBACK.c.id == slot.c.feedback_id, FEEDBACK.c.withdrawn_at.is_(None)]
        query = sa.select(sa.literal(1)).where(*own, *says_something(subject))
        stands = query.correlate_except(FEEDBACK).exists()
    return sa.and_(slot.c.feedback_id.is_not(None), ~stands)


def occasion_of_item() -> sa.ColumnElement[int]:
    """The occasion of the judgements that `ITEM` asks for."""
    return sa.case((ITEM.c.kind == QueueItemKind.REPEAT, 1), else_=0)


def is_live(subject: QueueSubject, slot: Any = SLOT) -> Condition:
    """Whether the slot holds a judgement that stands."""
    return sa.and_(slot.c.state == DONE, ~is_void(subject, slot))


def is_taken(subject: QueueSubject, slot: Any = SLOT) -> Condition:
    """Whether nobody else may have the slot."""
    is_held = sa.and_(slot.c.state.in_([LEASED, DONE]), slot.c.lease_expires_at > NOW)
    return sa.or_(is_held, is_live(subject, slot))


def is_open_to_rater(subject: QueueSubject, *, with_repeats: bool) -> Condition:
    """Whether the rater may be given `ITEM` now.

    A normal item has `overlap` slots and is not for who judged it before, in whatever place. One
    whose answer is known is for every rater, and a repeat for those who judged the same thing in
    this queue before `repeat_before`. Reads `overlap` and, with repeats, `repeat_before`.
    """
    mine, mine_live = SLOT.alias("mine"), SLOT.alias("mine_live")
    on_item = SLOT.c.queue_item_id == ITEM.c.id
    num_taken = sa.select(sa.func.count()).where(on_item, is_taken(subject)).scalar_subquery()
    is_owner = (
        sa.select(sa.literal(1))
        .where(mine.c.queue_item_id == ITEM.c.id, mine.c.rater_id == RATER)
        .exists()
    )
    is_done_by_me = (
        sa.select(sa.literal(1))
        .where(
            mine_live.c.queue_item_id == ITEM.c.id,
            mine_live.c.rater_id == RATER,
            is_live(subject, mine_live),
        )
        .exists()
    )
    has_room = sa.or_(
        ITEM.c.kind == QueueItemKind.GOLD,
        num_taken < sa.bindparam("overlap", type_=sa.Integer),
        is_owner,
    )
    first_time = sa.and_(
        ITEM.c.kind != QueueItemKind.REPEAT, ~is_judged(subject, RATER, 0), has_room
    )
    if not with_repeats:
        return sa.and_(first_time, ~is_done_by_me)
    again = sa.and_(
        ITEM.c.kind == QueueItemKind.REPEAT,
        is_judged(subject, RATER, 0),
        ~is_judged(subject, RATER, 1),
        _was_done_here_by_me(),
    )
    return sa.and_(sa.or_(first_time, again), ~is_done_by_me)


def _was_done_here_by_me() -> Condition:
    """Whether the rater finished the same thing in this queue, `repeat_before` or earlier."""
    first, slot = ITEM.alias("first"), SLOT.alias("first_slot")
    return (
        sa.select(sa.literal(1))
        .join_from(first, slot, slot.c.queue_item_id == first.c.id)
        .where(
            first.c.queue_id == ITEM.c.queue_id,
            first.c.interaction_id == ITEM.c.interaction_id,
            first.c.other_interaction_id.is_not_distinct_from(ITEM.c.other_interaction_id),
            first.c.kind != QueueItemKind.REPEAT,
            slot.c.rater_id == RATER,
            slot.c.state == DONE,
            slot.c.finished_at <= sa.bindparam("repeat_before", type_=UtcDateTime),
        )
        .exists()
    )


@lru_cache  # building it takes longer than running it
def find_open_statement(
    subject: QueueSubject, *, with_repeats: bool, from_start: bool, locks: bool
) -> sa.Select[Any]:
    """The first item that the rater may have.

    It reads `queue`, `skip` (an item or an interaction that is not wanted), the parameters of
    `is_open_to_rater`, and unless `from_start` also `below`, a priority: the item lies behind it.
    `locks` passes over the items that others take at this moment, and locks the one found.
    """
    skip = sa.bindparam("skip", type_=sa.Uuid)
    given = SLOT.alias("given")
    query = (
        sa.select(
            ITEM.c.id,
            ITEM.c.interaction_id,
            ITEM.c.other_interaction_id,
            ITEM.c.kind,
            sa.exists().where(given.c.queue_item_id == ITEM.c.id).label("has_slots"),
        )
        .where(
            ITEM.c.queue_id == sa.bindparam("queue", type_=sa.Uuid),
            ITEM.c.id != skip,
            ITEM.c.interaction_id != skip,
            is_open_to_rater(subject, with_repeats=with_repeats),
        )
        .order_by(ITEM.c.priority.desc(), ITEM.c.id)
        .limit(1)
    )
    if locks:
        query = query.with_for_update(key_share=True, skip_locked=True, of=ITEM)
    if not from_start:
        query = query.where(ITEM.c.priority < sa.bindparam("below", type_=sa.Double))
    return query
