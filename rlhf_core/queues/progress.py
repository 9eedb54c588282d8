"""How far a queue is, how quickly it moves, and who did what."""

import statistics
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.feedback.raters import account_pseudonym, find_rater, of_pseudonym
from rlhf_core.queues.lease_statements import QUEUE
from rlhf_core.queues.leases import repeat_before
from rlhf_core.queues.slots import (
    COMPARISON,
    FEEDBACK,
    ITEM,
    SLOT,
    is_comparison_of_item,
    is_live,
    is_open_to_rater,
    occasion_of_item,
)
from rlhf_core.queues.terms import load_terms
from rlhf_core.queues.views import QueueView
from rlhf_core.store.tables import Account, Rater
from rlhf_core.vocabulary import AssignmentState, QueueItemKind, QueueSubject

PACE_DAYS = 7
SHOWN_DAYS = 14
NOBODY = uuid.UUID(int=0)


@dataclass(frozen=True)
class QueueProgress:
    """Of the queue's items, those that are done, and those that this rater may still judge."""

    num_items: int
    num_done: int
    num_open: int


@dataclass(frozen=True)
class RaterProgress:
    """What one rater did in a queue. `median_s` is seconds an item; None where none was timed."""

    rater_id: uuid.UUID
    name: str
    num_done: int
    num_open_leases: int
    median_s: float | None
    last_at: datetime | None


@dataclass(frozen=True)
class Pace:
    """How quickly a queue moves: judgements a day over the last week, or since the first of it.

    `num_left` judgements are wanted still, which takes `days_left` at this pace (None: it stands
    still). `daily` counts those of the last 14 days, today last, in UTC.
    """

    per_day: float
    num_left: int
    days_left: float | None
    daily: tuple[int, ...]


def count_progress(db: Session, queue: QueueView, *, actor: Actor) -> QueueProgress:
    """How far the queue is, for everybody and for this rater. Repeats are not counted as items."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor) or NOBODY
    now = utcnow()
    has_repeats = queue.num_repeats > 0
    asked: dict[str, Any] = {"rater": rater_id, "now": now, "overlap": queue.overlap}
    if has_repeats:
        asked["repeat_before"] = repeat_before(db, queue.id, rater_id, now)
    is_open = is_open_to_rater(queue.subject, with_repeats=has_repeats)
    num_open = 0
    if queue.is_open and queue.is_for(actor):
        query = sa.select(sa.func.count()).where(ITEM.c.queue_id == queue.id, is_open)
        num_open = db.scalar(query, asked) or 0
    return QueueProgress(queue.num_items, count_done(db, queue), num_open)


def count_done(db: Session, queue: QueueView) -> int:
    """How many items have all the judgements that they need."""
    full = (
        _live_slots(queue.id, queue.subject, SLOT.c.queue_item_id)
        .where(ITEM.c.kind != QueueItemKind.REPEAT)
        .group_by(SLOT.c.queue_item_id)
        .having(sa.func.count() >= queue.overlap)
        .subquery()
    )
    return db.scalar(sa.select(sa.func.count()).select_from(full)) or 0


def count_own(db: Session, queue: QueueView, *, actor: Actor) -> int:
    """How many items of the queue the actor judged, repeats too: quick however long it is."""
    require(actor, Permission.RATE)
    asked = {"queue": queue.id, "pseudonym": account_pseudonym(actor)}
    return db.scalar(_own_count(queue.subject), asked) or 0


def list_rater_progress(db: Session, queue_id: uuid.UUID, *, actor: Actor) -> list[RaterProgress]:
    """Who did how many in the queue, in what time, and when last; the busiest first.

    The time is what the page measured, else from the lease to the end.
    """
    require(actor, Permission.MANAGE_QUEUES)
    terms = load_terms(db, queue_id)
    duration, joined = _durations(terms.subject)
    rows = db.execute(
        _slots(
            queue_id, SLOT.c.rater_id, SLOT.c.leased_at, SLOT.c.finished_at, SLOT.c.state,
            duration.label("duration_s"), is_live(terms.subject).label("is_live"),
            Account.name, Rater.pseudonym,
            table=joined,
        )
        .join(Rater, Rater.id == SLOT.c.rater_id)
        .outerjoin(Account, Account.id == Rater.account_id)
        .where(sa.or_(is_live(terms.subject), _is_leased_now()))
    ).all()  # fmt: skip
    by_rater: dict[uuid.UUID, list[Any]] = {}
    for row in rows:
        by_rater.setdefault(row.rater_id, []).append(row)
    found = [_sum_up(rater_id, slots) for rater_id, slots in by_rater.items()]
    return sorted(found, key=lambda one: (-one.num_done, one.name))


def compute_pace(db: Session, queue: QueueView, *, actor: Actor) -> Pace:
    """How quickly the queue moves, and when it would be done."""
    require(actor, Permission.MANAGE_QUEUES)
    now = utcnow()
    done = _live_slots(queue.id, queue.subject, SLOT.c.finished_at, ITEM.c.kind)
    rows = db.execute(done).all()
    num_normal = sum(row.kind is QueueItemKind.NORMAL for row in rows)
    num_left = max(0, (queue.num_items - queue.num_gold) * queue.overlap - num_normal)
    moments = [row.finished_at for row in rows]
    week = [at for at in moments if at > now - timedelta(days=PACE_DAYS)]
    per_day = 0.0
    if week:
        days = (now - max(min(moments), now - timedelta(days=PACE_DAYS))) / timedelta(days=1)
        per_day = len(week) / max(days, 1.0)  # of a first hour nothing is foretold
    share = num_normal / len(rows) if rows else 1.0  # known answers and repeats take time too
    days_left = num_left / (per_day * share) if per_day * share else None
    daily = [0] * SHOWN_DAYS
    for at in moments:
        ago = (now.date() - at.date()).days
        if ago < SHOWN_DAYS:
            daily[-1 - ago] += 1
    return Pace(per_day, num_left, 0.0 if not num_left else days_left, tuple(daily))


def _sum_up(rater_id: uuid.UUID, slots: list[Any]) -> RaterProgress:
    done = [slot for slot in slots if slot.is_live]
    times = [
        slot.duration_s or (slot.finished_at - slot.leased_at).total_seconds() for slot in done
    ]
    times = [seconds for seconds in times if seconds > 0]  # judged without a lease, and untimed
    return RaterProgress(
        rater_id=rater_id,
        name=slots[0].name or f"rater {slots[0].pseudonym[2:10]}",
        num_done=len(done),
        num_open_leases=len(slots) - len(done),
        median_s=statistics.median(times) if times else None,
        last_at=max((slot.finished_at for slot in done), default=None),
    )


def _slots(queue_id: uuid.UUID, *columns: Any, table: Any = None) -> sa.Select[Any]:
    joined = SLOT.join(ITEM, ITEM.c.id == SLOT.c.queue_item_id) if table is None else table
    return sa.select(*columns).select_from(joined).where(ITEM.c.queue_id == queue_id)


def _live_slots(queue_id: uuid.UUID, subject: QueueSubject, *columns: Any) -> sa.Select[Any]:
    return _slots(queue_id, *columns).where(is_live(subject))


@lru_cache  # building it takes longer than running it
def _own_count(subject: QueueSubject) -> sa.Select[Any]:
    joined = SLOT.join(ITEM, ITEM.c.id == SLOT.c.queue_item_id)
    return (
        sa.select(sa.func.count())
        .select_from(joined)
        .where(
            ITEM.c.queue_id == QUEUE,
            SLOT.c.rater_id == of_pseudonym.scalar_subquery(),
            is_live(subject),
        )
    )


def _is_leased_now() -> sa.ColumnElement[bool]:
    return sa.and_(SLOT.c.state == AssignmentState.LEASED, SLOT.c.lease_expires_at > utcnow())


def _durations(subject: QueueSubject) -> tuple[sa.ColumnElement[float], Any]:
    """The seconds that the page measured, and the slots joined with where they stand."""
    slots = SLOT.join(ITEM, ITEM.c.id == SLOT.c.queue_item_id)
    if subject is QueueSubject.COMPARISONS:
        same = sa.and_(
            is_comparison_of_item(),
            COMPARISON.c.rater_id == SLOT.c.rater_id,
            COMPARISON.c.occasion == occasion_of_item(),
            COMPARISON.c.withdrawn_at.is_(None),
        )
        return COMPARISON.c.duration_s, slots.outerjoin(COMPARISON, same)
    return FEEDBACK.c.duration_s, slots.outerjoin(FEEDBACK, FEEDBACK.c.id == SLOT.c.feedback_id)
