"""Making, finding, changing and closing rating queues. The caller commits."""

import dataclasses
import random
import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, NotFound
from rlhf_core.queues.checks import (
    check_aspects,
    check_assignees,
    check_items,
    check_name,
    check_numbers,
)
from rlhf_core.queues.controls import add_controls
from rlhf_core.queues.doubt import sort_by_doubt
from rlhf_core.queues.leases import release_expired
from rlhf_core.queues.slots import SLOT
from rlhf_core.queues.terms import release_leases
from rlhf_core.queues.views import (
    DEFAULT_ASPECTS,
    DEFAULT_LEASE_S,
    Assignable,
    ChosenItem,
    QueueView,
)
from rlhf_core.store.tables import Account, Rater, RatingQueue, RatingQueueItem, RatingQueueMember
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import QueueItemKind, QueueOrder, QueueSubject

GONE = "This rating queue does not exist, or is closed: choose another one."


def create_queue(
    db: Session,
    *,
    actor: Actor,
    name: str,
    interaction_ids: Sequence[uuid.UUID] = (),
    pairs: Sequence[tuple[uuid.UUID, uuid.UUID]] = (),
    items: Sequence[ChosenItem] = (),
    subject: QueueSubject = QueueSubject.COMPLETIONS,
    instructions: str | None = None,
    aspects: Sequence[str] | None = None,
    order: QueueOrder = QueueOrder.OLDEST_FIRST,
    overlap: int = 1,
    gold_rate: float = 0.0,
    repeat_rate: float = 0.0,
    assignee_ids: Sequence[uuid.UUID] = (),
    is_blind: bool = True,
    lease_s: int = DEFAULT_LEASE_S,
    filters: dict[str, Any] | None = None,
) -> QueueView:
    """Make a queue of these items, to be judged in this order.

    Give `interaction_ids`, in a queue of comparisons `pairs`, or `items` as `select_items` chose
    them, which stay in their order. Interactions named by their ids are put into the `order`:
    INFORMATIVE brings those first of which a reward model was least sure. `gold_rate` and
    `repeat_rate` are shares of the whole queue: items whose answer is known go to every rater, and
    repeats show a rater again what they judged a while ago. `aspects` None: the usual four.
    `filters` notes what the items were chosen by.

    Raises:
        InvalidInput: no name, no item, or too many; a number out of its range; known answers are
            asked for and there are none.
        Conflict: a queue of this name exists.
        NotFound: an item or an assignee is not there (any more).
    """
    require(actor, Permission.MANAGE_QUEUES)
    name = check_name(name)
    aspects = check_aspects(aspects)
    check_numbers(overlap=overlap, gold_rate=gold_rate, repeat_rate=repeat_rate, lease_s=lease_s)
    if db.scalar(sa.select(RatingQueue.id).where(RatingQueue.name == name)):
        raise Conflict(f"There is a queue {name!r} already: choose another name.")
    if order is QueueOrder.INFORMATIVE and interaction_ids:
        interaction_ids = sort_by_doubt(db, list(interaction_ids))
    chosen = check_items(db, subject, interaction_ids, pairs, items)
    check_assignees(db, assignee_ids)
    queue_id = new_id()
    chosen = add_controls(
        db, chosen, actor=actor, subject=subject, gold_rate=gold_rate, repeat_rate=repeat_rate,
        rng=random.Random(queue_id.int),
    )  # fmt: skip
    row = {
        "id": queue_id,
        "name": name,
        "instructions": (instructions or "").strip() or None,
        "subject": subject,
        "filters": filters,
        "aspects": None if aspects is None else list(aspects),
        "order": order,
        "overlap": overlap,
        "gold_rate": gold_rate,
        "repeat_rate": repeat_rate,
        "is_blind": is_blind,
        "lease_s": lease_s,
        "created_by": actor.account_id,
        "created_at": utcnow(),
    }
    try:
        with db.begin_nested():
            _insert(db, row, chosen, assignee_ids)
    except sa.exc.IntegrityError as error:
        if db.scalar(sa.select(RatingQueue.id).where(RatingQueue.name == name)):
            raise Conflict(f"There is a queue {name!r} already: choose another name.") from error
        raise NotFound("An item of the queue was deleted meanwhile: look again.") from error
    _record(db, actor, "create", queue_id, {"name": name, "items": len(chosen)})
    return _load_one(db, queue_id)


def list_queues(db: Session, *, actor: Actor, with_closed: bool = False) -> list[QueueView]:
    """The queues that the actor may rate in; who manages queues sees those of others too.

    Newest first; closed ones only where they are asked for.
    """
    require(actor, Permission.RATE)
    queues = _load(db, *(() if with_closed else (RatingQueue.closed_at.is_(None),)))
    if actor.may(Permission.MANAGE_QUEUES):
        return queues
    return [queue for queue in queues if queue.is_for(actor)]


def get_queue(
    db: Session, queue_id: uuid.UUID, *, actor: Actor, with_closed: bool = False
) -> QueueView:
    """The queue, if the actor may see it; a closed one only where it is asked for."""
    return check_visible(_load_one(db, queue_id), actor=actor, with_closed=with_closed)


def check_visible(queue: QueueView, *, actor: Actor, with_closed: bool = False) -> QueueView:
    """The queue, as `get_queue` of one that was read already. Raises NotFound likewise."""
    require(actor, Permission.RATE)
    is_visible = queue.is_for(actor) or actor.may(Permission.MANAGE_QUEUES)
    if not is_visible or not (queue.is_open or with_closed):
        raise NotFound(GONE)
    return queue


def list_assignable(
    db: Session, *, actor: Actor, also: Sequence[uuid.UUID] = ()
) -> list[Assignable]:
    """Who can be assigned to a queue, by name; `also` those of these accounts that are disabled."""
    require(actor, Permission.MANAGE_QUEUES)
    is_disabled = Account.disabled_at.is_not(None)
    query = sa.select(Account.id, Account.name, Account.role, is_disabled).where(
        ~is_disabled | Account.id.in_(also)
    )
    return [Assignable(*row) for row in db.execute(query.order_by(Account.name))]


def set_queue(
    db: Session,
    queue_id: uuid.UUID,
    *,
    actor: Actor,
    instructions: str | None,
    assignee_ids: Sequence[uuid.UUID],
) -> QueueView:
    """Change what raters are told, and who they are (nobody named: everyone).

    Who was assigned before stays so where named, even if the account was disabled since.
    What a person holds who is not assigned any more is free at once; what they submit is kept.
    """
    require(actor, Permission.MANAGE_QUEUES)
    before = _load_one(db, queue_id)
    check_assignees(db, list(set(assignee_ids) - set(before.assignee_ids)))
    db.execute(
        sa.update(RatingQueue)
        .where(RatingQueue.id == queue_id)
        .values(instructions=(instructions or "").strip() or None)
    )
    if set(before.assignee_ids) != set(assignee_ids):
        db.execute(sa.delete(RatingQueueMember).where(RatingQueueMember.queue_id == queue_id))
        _insert_members(db, queue_id, assignee_ids)
        if assignee_ids:
            staying = sa.select(Rater.id).where(Rater.account_id.in_(assignee_ids))
            release_leases(db, queue_id, SLOT.c.rater_id.not_in(staying))
    after = _load_one(db, queue_id)
    if after != before:
        _record(db, actor, "set", queue_id, {"assignees": [str(one) for one in after.assignee_ids]})
    return after


def close_queue(db: Session, queue_id: uuid.UUID, *, actor: Actor) -> QueueView:
    """Give out nothing more of it. What raters hold they may still submit.

    Raises:
        Conflict: it is closed already.
    """
    require(actor, Permission.MANAGE_QUEUES)
    release_expired(db, queue_id, actor=actor)
    return _set_closed(db, queue_id, actor, is_closed=True)


def reopen_queue(db: Session, queue_id: uuid.UUID, *, actor: Actor) -> QueueView:
    """Go on with a closed queue where it stands.

    Raises:
        Conflict: it is open.
    """
    require(actor, Permission.MANAGE_QUEUES)
    return _set_closed(db, queue_id, actor, is_closed=False)


def _set_closed(db: Session, queue_id: uuid.UUID, actor: Actor, *, is_closed: bool) -> QueueView:
    is_open = RatingQueue.closed_at.is_(None)
    result = db.execute(
        sa.update(RatingQueue)
        .where(RatingQueue.id == queue_id, is_open if is_closed else ~is_open)
        .values(closed_at=utcnow() if is_closed else None)
    )
    if not changed_rows(result):
        queue = _load_one(db, queue_id)
        raise Conflict(f"The queue {queue.name!r} is {'closed' if is_closed else 'open'} already.")
    _record(db, actor, "close" if is_closed else "reopen", queue_id)
    return _load_one(db, queue_id)


def _record(
    db: Session,
    actor: Actor,
    deed: str,
    queue_id: uuid.UUID,
    details: dict[str, Any] | None = None,
) -> None:
    record_event(
        db, actor=actor, action=f"queue.{deed}", target_kind="rating_queue", target_id=queue_id,
        details=details,
    )  # fmt: skip


def _insert(
    db: Session,
    row: dict[str, Any],
    chosen: Sequence[ChosenItem],
    assignee_ids: Sequence[uuid.UUID],
) -> None:
    db.execute(sa.insert(RatingQueue).values(**row))
    rows = []
    for place, item in enumerate(chosen):
        fields = dataclasses.asdict(item)
        fields["selection_reason"] = fields.pop("reason")
        fields |= {"id": new_id(), "queue_id": row["id"], "created_at": row["created_at"]}
        rows.append(fields | {"priority": -float(place)})  # the highest first
    db.execute(sa.insert(RatingQueueItem), rows)
    _insert_members(db, row["id"], assignee_ids)


def _insert_members(db: Session, queue_id: uuid.UUID, assignee_ids: Sequence[uuid.UUID]) -> None:
    rows = [{"queue_id": queue_id, "account_id": one} for one in dict.fromkeys(assignee_ids)]
    if rows:
        db.execute(sa.insert(RatingQueueMember), rows)


def _load_one(db: Session, queue_id: uuid.UUID) -> QueueView:
    found = _load(db, RatingQueue.id == queue_id)
    if not found:
        raise NotFound(GONE)
    return found[0]


def _load(db: Session, *conditions: sa.ColumnElement[bool]) -> list[QueueView]:
    names = (
        "id", "name", "instructions", "subject", "aspects", "order", "overlap", "gold_rate",
        "repeat_rate", "is_blind", "lease_s", "created_by", "created_at", "closed_at",
    )  # fmt: skip
    query = (
        sa.select(*(getattr(RatingQueue, name) for name in names))
        .where(*conditions)
        .order_by(RatingQueue.created_at.desc(), RatingQueue.id.desc())
    )
    rows = db.execute(query).all()
    counts: dict[tuple[uuid.UUID, QueueItemKind], int] = {}
    for queue_id, kind, count in db.execute(
        sa.select(RatingQueueItem.queue_id, RatingQueueItem.kind, sa.func.count())
        .join(RatingQueue, RatingQueue.id == RatingQueueItem.queue_id)
        .where(*conditions)
        .group_by(RatingQueueItem.queue_id, RatingQueueItem.kind)
    ):
        counts[queue_id, kind] = count
    members: dict[uuid.UUID, list[uuid.UUID]] = {}
    for queue_id, account_id in db.execute(
        sa.select(RatingQueueMember.queue_id, RatingQueueMember.account_id)
        .join(RatingQueue, RatingQueue.id == RatingQueueMember.queue_id)
        .where(*conditions)
        .order_by(RatingQueueMember.account_id)
    ):
        members.setdefault(queue_id, []).append(account_id)
    views = []
    for row in rows:
        normal, gold, repeats = (
            counts.get((row.id, kind), 0)
            for kind in (QueueItemKind.NORMAL, QueueItemKind.GOLD, QueueItemKind.REPEAT)
        )
        fields = row._asdict()
        fields["aspects"] = DEFAULT_ASPECTS if row.aspects is None else tuple(row.aspects)
        fields["assignee_ids"] = tuple(members.get(row.id, ()))
        fields |= {"num_items": normal + gold, "num_gold": gold, "num_repeats": repeats}
        views.append(QueueView(**fields))
    return views
