"""Leasing: who judges which item now. No two raters hold one slot, whatever the timing.

Giving an item out takes a writing transaction. On PostgreSQL the item's row is locked while one of
its slots is given; others who look at that moment pass over it. On SQLite a writer is alone.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput
from rlhf_core.feedback.raters import find_or_create_rater, find_rater, lock_rater
from rlhf_core.queues.lease_statements import (
    finish_held,
    judged_item,
    judgements_of_rater,
    mark_feedback,
    priority_at,
    slots_of_item,
    standing,
)
from rlhf_core.queues.slots import (
    COMPARISON,
    FEEDBACK,
    ITEM,
    SLOT,
    find_open_statement,
)
from rlhf_core.queues.terms import QueueTerms, load_terms, release_leases
from rlhf_core.queues.views import Claim
from rlhf_core.store.queries.dirty_days import mark_days_of_feedback
from rlhf_core.store.upsert import changed_rows, insert_ignoring
from rlhf_core.vocabulary import AssignmentState, QueueItemKind, QueueSubject, RaterKind

MAX_TRIES = 100
NOTHING = uuid.UUID(int=0)
REPEAT_GAP = 20
"""Items that a rater judges in a queue before one of them comes again ..."""
REPEAT_AFTER_S = 3_600
"""... or the time after which it may come sooner."""


def claim_next(
    db: Session, queue_id: uuid.UUID, *, actor: Actor, after: uuid.UUID | None = None
) -> Claim | None:
    """The item that the actor judges next, leased to them; None where none is left.

    It is the one that they hold already, so that two tabs show the same. Else the first behind the
    one that they had last, then from the beginning. `after` names the item (or its interaction)
    that they leave: it is not given again now, and a lease on it ends as skipped. Who judged a
    thing before, in this queue or elsewhere, is not asked again but by a repeat.

    Raises:
        NotFound: there is no such queue, or it is closed.
        Forbidden: it is assigned to others.
    """
    require(actor, Permission.RATE)
    terms = load_terms(db, queue_id, actor=actor)
    rater_id = find_or_create_rater(db, external_id=None, rater_kind=RaterKind.SME, actor=actor)
    lock_rater(db, rater_id)  # of two tabs at once one waits for the other
    now = utcnow()
    if after is not None:
        _skip(db, rater_id, _items_named(queue_id, after), now)
    last = db.execute(standing, {"queue": queue_id, "rater": rater_id, "now": now}).one_or_none()
    if last is not None and last.is_held:
        return _claim(terms, last, last.assignment_id, last.lease_expires_at)
    below = None if last is None else last.priority
    if after is not None:
        at = {"queue": queue_id, "rater": rater_id, "after": after}
        found_at = db.scalar(priority_at, at)
        below = below if found_at is None else found_at
    asked = {
        "queue": queue_id,
        "rater": rater_id,
        "now": now,
        "overlap": terms.overlap,
        "skip": after or NOTHING,
        "repeat_before": repeat_before(db, queue_id, rater_id, now) if terms.has_repeats else None,
        "below": below,
    }
    for _ in range(MAX_TRIES):
        found = _find_open(db, terms, asked)
        if found is None:
            return None
        assignment_id = _take(db, terms, found, rater_id, now, is_untouched=not found.has_slots)
        if assignment_id is not None:
            return _claim(terms, found, assignment_id, now + timedelta(seconds=terms.lease_s))
    raise Conflict("Many others take items of this queue at this moment; try again.")


def finish_claim(
    db: Session,
    *,
    actor: Actor,
    queue_id: uuid.UUID,
    interaction_id: uuid.UUID,
    other_interaction_id: uuid.UUID | None = None,
    feedback_id: uuid.UUID | None = None,
) -> bool:
    """Note that the actor judged an item, after storing the judgement; whether a slot counts it.

    The judgement is marked as given in this queue. A late one fills the slot if that is still the
    actor's or another is free; else it stays without a slot, as does one of an item that the queue
    does not hold. It may be called again after a change. Also closed queues take what comes late.

    Raises:
        NotFound: there is no such queue.
        Forbidden: the feedback is somebody else's.
        InvalidInput: the actor has not judged the item.
    """
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    pair = _sort_pair(interaction_id, other_interaction_id)
    now = utcnow()
    asked = {"queue": queue_id, "rater": rater_id, "one": pair[0], "other": pair[1], "now": now}
    if feedback_id and pair[1] is None and _finish_held(db, asked, feedback_id):
        return True
    terms = load_terms(db, queue_id)
    if rater_id is None:
        raise InvalidInput("You have not judged this item yet: rate it first.")
    occasion, feedback_id = _mark_judged(db, terms, rater_id, pair, feedback_id)
    item = db.execute(
        judged_item(is_repeat=occasion > 0, is_pair=pair[1] is not None).with_for_update(
            key_share=True
        ),
        asked,
    ).one_or_none()
    done = {"state": AssignmentState.DONE, "finished_at": now, "feedback_id": feedback_id}
    return item is not None and _take(db, terms, item, rater_id, now, done=done) is not None


def _finish_held(db: Session, asked: dict[str, Any], feedback_id: uuid.UUID) -> bool:
    """What `finish_claim` does in the usual case, in two statements: the rater holds the lease.

    False: it is another case, and what was noted on the way is right in it too.
    """
    marked = db.execute(mark_feedback, {**asked, "judgement": feedback_id}).all()
    occasion = marked[0].occasion if marked else 0
    if occasion:  # as a queue's repeat it counts in no figure
        mark_days_of_feedback(db, [row.id for row in marked])
    if all(row.id != feedback_id for row in marked):
        return False
    done = {
        "state": AssignmentState.DONE, "finished_at": asked["now"], "feedback_id": feedback_id,
    }  # fmt: skip
    return changed_rows(db.execute(finish_held(is_repeat=occasion > 0), {**asked, **done})) > 0


def skip_claim(
    db: Session,
    *,
    actor: Actor,
    queue_id: uuid.UUID,
    interaction_id: uuid.UUID,
    other_interaction_id: uuid.UUID | None = None,
) -> bool:
    """Give an item back unjudged: others may have it, and the actor too, later. False: not held."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    items = sa.select(ITEM.c.id).where(
        ITEM.c.queue_id == queue_id,
        *_is_about(*_sort_pair(interaction_id, other_interaction_id)),
    )
    return rater_id is not None and _skip(db, rater_id, items, utcnow())


def holds_pair(
    db: Session, queue_id: uuid.UUID, interaction_ids: Collection[uuid.UUID], *, actor: Actor
) -> bool:
    """Whether these completions are a pair that the queue asks about."""
    require(actor, Permission.RATE)
    if len(interaction_ids) != 2:
        return False
    item = sa.select(ITEM.c.id).where(
        ITEM.c.queue_id == queue_id, *_is_about(*_sort_pair(*interaction_ids))
    )
    return db.scalar(item.limit(1)) is not None


def release_expired(db: Session, queue_id: uuid.UUID, *, actor: Actor) -> int:
    """Mark the leases that ended as such; how many. Their items are free without it, too."""
    require(actor, Permission.MANAGE_QUEUES)
    return release_leases(db, queue_id, SLOT.c.lease_expires_at <= utcnow())


def repeat_before(db: Session, queue_id: uuid.UUID, rater_id: uuid.UUID, now: datetime) -> datetime:
    """What the rater finished in the queue until then may come a second time."""
    long_ago = now - timedelta(seconds=REPEAT_AFTER_S)
    several_ago = db.scalar(
        sa.select(SLOT.c.finished_at)
        .join(ITEM, ITEM.c.id == SLOT.c.queue_item_id)
        .where(
            SLOT.c.rater_id == rater_id,
            SLOT.c.state == AssignmentState.DONE,
            ITEM.c.queue_id == queue_id,
        )
        .order_by(SLOT.c.finished_at.desc())
        .offset(REPEAT_GAP)
        .limit(1)
    )
    return long_ago if several_ago is None else max(long_ago, several_ago)


def _find_open(db: Session, terms: QueueTerms, asked: dict[str, Any]) -> Any:
    """The first open item: behind the last one, else from the start.

    At last it is looked for among the locked ones too, of which others take one slot of several.
    That look locks nothing: two who wait for each other's items would never come to an end.
    """
    is_sqlite = db.get_bind().dialect.name == "sqlite"
    for from_start, locks in ((False, True), (True, True), (True, False)):
        if (not from_start and asked["below"] is None) or (is_sqlite and not locks):
            continue
        statement = find_open_statement(
            terms.subject, with_repeats=terms.has_repeats, from_start=from_start, locks=locks
        )
        found = db.execute(statement, asked).one_or_none()
        if found is not None:
            return found
    return None


def _take(
    db: Session,
    terms: QueueTerms,
    item: Any,
    rater_id: uuid.UUID,
    now: datetime,
    *,
    done: dict[str, Any] | None = None,
    is_untouched: bool = False,
) -> uuid.UUID | None:
    """Give the rater a slot of the item: leased, or with `done` finished; None: all are taken.

    A slot of their own comes first, then a new one, then one that its rater let go. Of an item
    that is `is_untouched`, no slot was given yet when it was found.
    """
    slots: Sequence[Any] = ()
    if not is_untouched:
        slots = db.execute(slots_of_item(terms.subject), {"item": item.id, "now": now}).all()
    expires_at = now + timedelta(seconds=terms.lease_s)
    values = {"rater_id": rater_id, "leased_at": now, "lease_expires_at": expires_at}
    values |= {"state": AssignmentState.LEASED, "finished_at": None, "feedback_id": None}
    mine = next((slot for slot in slots if slot.rater_id == rater_id), None)
    if mine is not None:
        if done is not None:
            return _change(db, mine, done)
        return None if mine.is_live else _change(db, mine, values)
    values |= done or {}
    is_capped = item.kind is QueueItemKind.NORMAL
    if not is_capped or len(slots) < terms.overlap:
        number = min(set(range(len(slots) + 1)) - {slot.slot for slot in slots})
        row = {"id": new_id(), "queue_item_id": item.id, "slot": number, **values}
        return row["id"] if changed_rows(db.execute(insert_ignoring(db, SLOT), row)) else None
    for slot in slots:
        if not slot.is_taken:
            return _change(db, slot, values)
    return None


def _change(db: Session, seen: Any, values: dict[str, Any]) -> uuid.UUID | None:
    """Set a slot unless somebody changed it since it was seen."""
    result = db.execute(
        sa.update(SLOT)
        .where(
            SLOT.c.id == seen.id,
            SLOT.c.rater_id == seen.rater_id,
            SLOT.c.state == seen.state,
            SLOT.c.lease_expires_at == seen.lease_expires_at,
        )
        .values(**values)
    )
    return seen.id if changed_rows(result) else None


def _claim(terms: QueueTerms, item: Any, assignment_id: uuid.UUID, expires_at: datetime) -> Claim:
    is_hidden = terms.is_blind and item.kind is QueueItemKind.GOLD
    return Claim(
        assignment_id=assignment_id,
        item_id=item.id,
        interaction_id=item.interaction_id,
        other_interaction_id=item.other_interaction_id,
        kind=QueueItemKind.NORMAL if is_hidden else item.kind,
        occasion=1 if item.kind is QueueItemKind.REPEAT else 0,
        expires_at=expires_at,
    )


def _mark_judged(
    db: Session,
    terms: QueueTerms,
    rater_id: uuid.UUID,
    pair: tuple[uuid.UUID, uuid.UUID | None],
    feedback_id: uuid.UUID | None,
) -> tuple[int, uuid.UUID | None]:
    """(occasion, feedback) of the rater's judgement of the thing; notes the queue in it."""
    table = COMPARISON if terms.subject is QueueSubject.COMPARISONS else FEEDBACK
    asked = {"rater": rater_id, "one": pair[0], "other": pair[1]}
    is_named = feedback_id is not None and table is FEEDBACK
    rows = db.execute(judgements_of_rater(terms.subject), asked).all()
    wanted = [row for row in rows if (row.id == feedback_id if is_named else row.says)]
    if not wanted:
        if is_named and _is_of_other(db, feedback_id, rater_id):
            raise Forbidden("This feedback is somebody else's: its rater finishes the item.")
        raise InvalidInput("You have not judged this item yet: judge it first.")
    judged = wanted[0]
    unmarked = [row.id for row in rows if row.occasion == judged.occasion and row.queue_id is None]
    if unmarked:
        db.execute(sa.update(table).where(table.c.id.in_(unmarked)).values(queue_id=terms.id))
        if judged.occasion and table is FEEDBACK:  # as a queue's repeat it counts in no figure
            mark_days_of_feedback(db, unmarked)
    return judged.occasion, None if table is COMPARISON else judged.id


def _is_of_other(db: Session, feedback_id: uuid.UUID | None, rater_id: uuid.UUID) -> bool:
    owner = db.scalar(sa.select(FEEDBACK.c.rater_id).where(FEEDBACK.c.id == feedback_id))
    return owner is not None and owner != rater_id


def _skip(db: Session, rater_id: uuid.UUID, items: sa.Select[Any], now: datetime) -> bool:
    """End the rater's leases on these items."""
    result = db.execute(
        sa.update(SLOT)
        .where(
            SLOT.c.rater_id == rater_id,
            SLOT.c.state == AssignmentState.LEASED,
            SLOT.c.queue_item_id.in_(items),
        )
        .values(state=AssignmentState.SKIPPED, lease_expires_at=now)
    )
    return changed_rows(result) > 0


def _items_named(queue_id: uuid.UUID, name: uuid.UUID) -> sa.Select[Any]:
    return sa.select(ITEM.c.id).where(ITEM.c.queue_id == queue_id, _is_named(name))


def _is_named(name: uuid.UUID) -> sa.ColumnElement[bool]:
    """Whether it is the item of this id, or one about the interaction of this id."""
    return sa.or_(ITEM.c.id == name, ITEM.c.interaction_id == name)


def _is_about(one: uuid.UUID, other: uuid.UUID | None) -> list[sa.ColumnElement[bool]]:
    return [ITEM.c.interaction_id == one, ITEM.c.other_interaction_id.is_not_distinct_from(other)]


def _sort_pair(one: uuid.UUID, other: uuid.UUID | None) -> tuple[uuid.UUID, uuid.UUID | None]:
    """The two of a pair as an item holds them: the lower id first."""
    return (one, other) if other is None or one < other else (other, one)
