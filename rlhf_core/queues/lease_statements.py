"""The statements of leasing, built once: building one takes longer than running it.

They read the parameters `queue`, `rater`, `now`, `item`, `one`, `other`, `after` and `judgement`,
as each needs.
"""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from rlhf_core.queues.slots import (
    COMPARISON,
    FEEDBACK,
    ITEM,
    NOW,
    RATER,
    SLOT,
    is_live,
    is_taken,
    says_something,
)
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import RatingQueue
from rlhf_core.vocabulary import AssignmentState, QueueItemKind, QueueSubject

QUEUE = sa.bindparam("queue", type_=sa.Uuid)
ONE, OTHER = sa.bindparam("one", type_=sa.Uuid), sa.bindparam("other", type_=sa.Uuid)
AFTER = sa.bindparam("after", type_=sa.Uuid)

_mine = sa.and_(SLOT.c.queue_item_id == ITEM.c.id, SLOT.c.rater_id == RATER)

_is_held = sa.and_(SLOT.c.state == AssignmentState.LEASED, SLOT.c.lease_expires_at > NOW)

standing = (
    sa.select(
        ITEM.c.id, ITEM.c.interaction_id, ITEM.c.other_interaction_id, ITEM.c.kind,
        ITEM.c.priority, SLOT.c.id.label("assignment_id"), SLOT.c.lease_expires_at,
        _is_held.label("is_held"),
    )
    .select_from(ITEM.join(SLOT, _mine))
    .where(ITEM.c.queue_id == QUEUE)
    .order_by(sa.case((_is_held, 0), else_=1), SLOT.c.leased_at.desc())
    .limit(1)
)  # fmt: skip
"""Where the rater stands: the item whose lease they hold, else the one that they had last."""

priority_at = (
    sa.select(ITEM.c.priority)
    .outerjoin(SLOT, _mine)
    .where(ITEM.c.queue_id == QUEUE, sa.or_(ITEM.c.id == AFTER, ITEM.c.interaction_id == AFTER))
    .order_by(SLOT.c.leased_at.is_(None), SLOT.c.leased_at.desc())
    .limit(1)
)
"""Where the item (or the one about the interaction) `after` stands; first one that they had."""


@lru_cache
def slots_of_item(subject: QueueSubject) -> sa.Select[Any]:
    """The slots of an item, and whether they are taken and live."""
    return (
        sa.select(
            SLOT.c.id, SLOT.c.slot, SLOT.c.rater_id, SLOT.c.state, SLOT.c.lease_expires_at,
            is_taken(subject).label("is_taken"), is_live(subject).label("is_live"),
        )
        .join(ITEM, ITEM.c.id == SLOT.c.queue_item_id)
        .where(SLOT.c.queue_item_id == sa.bindparam("item", type_=sa.Uuid))
        .order_by(SLOT.c.slot)
    )  # fmt: skip


@lru_cache
def judged_item(*, is_repeat: bool, is_pair: bool) -> sa.Select[Any]:
    """The item of a queue that a judgement of a thing is about."""
    kind = ITEM.c.kind
    other = ITEM.c.other_interaction_id
    return (
        sa.select(ITEM.c.id, kind)
        .where(
            ITEM.c.queue_id == QUEUE,
            ITEM.c.interaction_id == ONE,
            other == OTHER if is_pair else other.is_(None),
            kind == QueueItemKind.REPEAT if is_repeat else kind != QueueItemKind.REPEAT,
        )
        .order_by(kind)  # one that is both gold and normal: the gold one is every rater's
        .limit(1)
    )


@lru_cache
def finish_held(*, is_repeat: bool) -> sa.Update:
    """Sets what is given of the slot whose lease the rater holds on the item of an interaction.

    While the lease runs the slot is nobody else's to take: the item need not be locked.
    """
    item = judged_item(is_repeat=is_repeat, is_pair=False).with_only_columns(ITEM.c.id)
    return sa.update(SLOT).where(
        SLOT.c.queue_item_id == item.scalar_subquery(), SLOT.c.rater_id == RATER, _is_held
    )


_judgement, _QUEUE = FEEDBACK.alias("judgement"), table_of(RatingQueue)
mark_feedback = (
    sa.update(FEEDBACK)
    .where(
        FEEDBACK.c.interaction_id == ONE,
        FEEDBACK.c.rater_id == RATER,
        FEEDBACK.c.withdrawn_at.is_(None),
        FEEDBACK.c.queue_id.is_(None),
        sa.exists().where(_QUEUE.c.id == QUEUE, _QUEUE.c.subject != QueueSubject.COMPARISONS),
        FEEDBACK.c.occasion
        == sa.select(_judgement.c.occasion)
        .where(
            _judgement.c.id == sa.bindparam("judgement", type_=sa.Uuid),
            _judgement.c.rater_id == RATER,
            _judgement.c.interaction_id == ONE,
            _judgement.c.withdrawn_at.is_(None),
        )
        .scalar_subquery(),
    )
    .values(queue_id=QUEUE)
    .returning(FEEDBACK.c.id, FEEDBACK.c.occasion)
)
"""Notes the queue in what the rater said of a thing on the occasion of `judgement`."""


@lru_cache
def judgements_of_rater(subject: QueueSubject) -> sa.Select[Any]:
    """What stands of the rater's judgements of a thing: (id, occasion, queue_id, says)."""
    says: sa.ColumnElement[bool] = sa.true()
    table = FEEDBACK
    if subject is QueueSubject.COMPARISONS:
        table = COMPARISON
        left, right = COMPARISON.c.left_interaction_id, COMPARISON.c.right_interaction_id
        about = sa.and_(left.in_((ONE, OTHER)), right.in_((ONE, OTHER)))
    else:
        says = sa.and_(*says_something(subject))
        about = FEEDBACK.c.interaction_id == ONE
    return (
        sa.select(table.c.id, table.c.occasion, table.c.queue_id, says.label("says"))
        .where(about, table.c.rater_id == RATER, table.c.withdrawn_at.is_(None))
        .order_by(table.c.occasion.desc(), table.c.created_at.desc())
    )
