"""What leasing needs to know of a queue, and leases that end by its manager's hand."""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.errors import Forbidden, NotFound
from rlhf_core.queues.slots import ITEM, SLOT
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import RatingQueue, RatingQueueMember
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import AssignmentState, QueueSubject

_QUEUE, _MEMBER = table_of(RatingQueue), table_of(RatingQueueMember)
_members = sa.select(_MEMBER.c.account_id).where(_MEMBER.c.queue_id == _QUEUE.c.id)
_account = sa.bindparam("account", type_=sa.Uuid)
_terms = sa.select(
    _QUEUE.c.subject,
    _QUEUE.c.overlap,
    _QUEUE.c.repeat_rate,
    _QUEUE.c.is_blind,
    _QUEUE.c.lease_s,
    _QUEUE.c.closed_at,
    _members.exists().label("is_assigned"),
    _members.where(_MEMBER.c.account_id == _account).exists().label("is_mine"),
).where(_QUEUE.c.id == sa.bindparam("queue", type_=sa.Uuid))


@dataclass(frozen=True)
class QueueTerms:
    """What leasing needs to know of a queue."""

    id: uuid.UUID
    subject: QueueSubject
    overlap: int
    has_repeats: bool
    is_blind: bool
    lease_s: int


def load_terms(db: Session, queue_id: uuid.UUID, *, actor: Actor | None = None) -> QueueTerms:
    """What leasing needs to know. With an `actor`: only if the queue is open, and theirs."""
    account_id = actor.account_id if actor else None
    row = db.execute(_terms, {"queue": queue_id, "account": account_id}).one_or_none()
    if row is None or (actor is not None and row.closed_at is not None):
        raise NotFound("This rating queue does not exist, or is closed: choose another one.")
    if actor is not None and row.is_assigned and not row.is_mine:
        raise Forbidden("This rating queue is assigned to others: choose another one.")
    return QueueTerms(
        queue_id, row.subject, row.overlap, row.repeat_rate > 0, row.is_blind, row.lease_s
    )


def release_leases(db: Session, queue_id: uuid.UUID, which: sa.ColumnElement[bool]) -> int:
    """End those leases of the queue (a condition on `SLOT`); how many there were."""
    result = db.execute(
        sa.update(SLOT)
        .where(
            SLOT.c.state == AssignmentState.LEASED,
            SLOT.c.queue_item_id.in_(sa.select(ITEM.c.id).where(ITEM.c.queue_id == queue_id)),
            which,
        )
        .values(state=AssignmentState.EXPIRED, lease_expires_at=utcnow())
    )
    return changed_rows(result)
