"""Rating queues: a named list of items that need ratings, such as those a dataset is short of."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.feedback.raters import find_rater
from rlhf_core.store.tables import Feedback, InteractionReward, RatingQueue, RatingQueueItem
from rlhf_core.vocabulary import QueueOrder

MAX_NAME_CHARS = 200
MAX_ITEMS = 10_000
MAX_OVERLAP = 100
ABOUT, STEPS = "about", "steps"
NOBODY = uuid.UUID(int=0)
IDS_A_QUERY = 500


Ratings = sa.Select[uuid.UUID, float, int, int]


@dataclass(frozen=True)
class QueueView:
    """A queue. An item is done when `overlap` raters rated it since the queue was made."""

    id: uuid.UUID
    name: str
    instructions: str | None
    overlap: int
    is_about_steps: bool
    num_items: int
    created_at: datetime


@dataclass(frozen=True)
class QueueProgress:
    """Of the queue's items, those that are done, and those that this rater may still rate."""

    num_items: int
    num_done: int
    num_open: int


def create_queue(
    db: Session,
    *,
    actor: Actor,
    name: str,
    interaction_ids: Sequence[uuid.UUID],
    instructions: str | None = None,
    overlap: int = 1,
    is_about_steps: bool = False,
    order: QueueOrder = QueueOrder.OLDEST_FIRST,
) -> QueueView:
    """Make a queue of these items, to be rated in this order.

    `is_about_steps`: an item is done when its steps got labels, not when it got a rating. `order`
    INFORMATIVE: those first of which a reward model was least sure; the others stay behind them.

    Raises:
        InvalidInput: no name, no item, or too many.
        Conflict: a queue of this name exists.
        NotFound: an item was deleted meanwhile.
    """
    require(actor, Permission.MANAGE_DATASETS)
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInput(
            f"A queue needs a name of 1 to {MAX_NAME_CHARS} printable characters.", field="name"
        )
    ids = list(dict.fromkeys(interaction_ids))
    if not 1 <= len(ids) <= MAX_ITEMS:
        raise InvalidInput(
            f"A queue needs 1 to {MAX_ITEMS:,} items, not {len(ids):,}.", field="interaction_ids"
        )
    if not 1 <= overlap <= MAX_OVERLAP:
        raise InvalidInput(f"overlap {overlap}: choose 1 to {MAX_OVERLAP}.", field="overlap")
    if db.scalar(sa.select(RatingQueue.id).where(RatingQueue.name == name)):
        raise Conflict(f"There is a queue {name!r} already: choose another name.")
    if order is QueueOrder.INFORMATIVE:
        ids = sort_by_doubt(db, ids)
    view = QueueView(new_id(), name, instructions, overlap, is_about_steps, len(ids), utcnow())
    try:
        with db.begin_nested():
            _insert(db, view, ids, order, actor)
    except sa.exc.IntegrityError as error:
        if db.scalar(sa.select(RatingQueue.id).where(RatingQueue.name == name)):
            raise Conflict(f"There is a queue {name!r} already: choose another name.") from error
        raise NotFound("An item of the queue was deleted meanwhile: look again.") from error
    record_event(
        db,
        actor=actor,
        action="queue.create",
        target_kind="rating_queue",
        target_id=view.id,
        details={"name": name, "items": len(ids)},
    )
    return view


def list_queues(db: Session, *, actor: Actor) -> list[QueueView]:
    """The queues that are not closed, newest first."""
    require(actor, Permission.RATE)
    return _load(db, RatingQueue.closed_at.is_(None))


def get_queue(db: Session, queue_id: uuid.UUID, *, actor: Actor) -> QueueView:
    """The queue, unless it is closed."""
    require(actor, Permission.RATE)
    found = _load(db, RatingQueue.id == queue_id, RatingQueue.closed_at.is_(None))
    if not found:
        raise NotFound("This rating queue does not exist, or is closed: choose another one.")
    return found[0]


def count_progress(db: Session, queue: QueueView, *, actor: Actor) -> QueueProgress:
    """How far the queue is, for everybody and for this rater."""
    require(actor, Permission.RATE)
    counted = count_ratings(queue, find_rater(db, actor=actor)).subquery()
    is_done = counted.c.num_ratings >= queue.overlap
    is_open = sa.and_(~is_done, counted.c.num_mine == 0)
    query = sa.select(
        sa.func.count(),
        sa.func.count(sa.case((is_done, 1))),
        sa.func.count(sa.case((is_open, 1))),
    ).select_from(counted)
    return QueueProgress(*db.execute(query).one())


def find_open_item(
    db: Session,
    queue: QueueView,
    rater_id: uuid.UUID | None,
    *,
    after: uuid.UUID | None = None,
) -> uuid.UUID | None:
    """The first item that this rater has not rated and that others have not finished.

    `after` an item: the first behind it, then from the beginning; never that item itself.
    """
    counted = count_ratings(queue, rater_id).subquery()
    query = (
        sa.select(counted.c.interaction_id)
        .where(counted.c.num_ratings < queue.overlap, counted.c.num_mine == 0)
        .order_by(counted.c.place)
        .limit(1)
    )
    if after is None:
        return db.scalar(query)
    here = db.scalar(sa.select(counted.c.place).where(counted.c.interaction_id == after))
    behind = None if here is None else db.scalar(query.where(counted.c.place > here))
    return behind or db.scalar(query.where(counted.c.interaction_id != after))


def count_ratings(queue: QueueView, rater_id: uuid.UUID | None) -> Ratings:
    """Items with `place`, `num_ratings` since the queue was made, and `num_mine` at any time.

    Earlier ratings do not count: an item may be in the queue because it needs a second one.
    """
    mine = Feedback.rater_id == (rater_id or NOBODY)
    says = sa.or_(Feedback.rating.is_not(None), Feedback.thumb.is_not(None))
    if queue.is_about_steps:
        says = sa.or_(Feedback.label.is_not(None))
    is_rating = sa.and_(
        Feedback.interaction_id == RatingQueueItem.interaction_id,
        Feedback.step_id.is_not(None) if queue.is_about_steps else Feedback.step_id.is_(None),
        Feedback.occasion == 0,
        Feedback.withdrawn_at.is_(None),
        says,
    )
    place = -RatingQueueItem.priority
    is_new = Feedback.created_at >= queue.created_at
    return (
        sa.select(
            RatingQueueItem.interaction_id,
            place.label("place"),
            sa.func.count(sa.distinct(sa.case((is_new, Feedback.rater_id)))).label("num_ratings"),
            sa.func.count(sa.case((mine, 1))).label("num_mine"),
        )
        .outerjoin(Feedback, is_rating)
        .where(RatingQueueItem.queue_id == queue.id)
        .group_by(RatingQueueItem.interaction_id, place)
    )


def sort_by_doubt(db: Session, ids: list[uuid.UUID]) -> list[uuid.UUID]:
    """The items by how near their newest stored reward, P(good), is to a half; then the unscored.

    Which rating of an item would tell the model most: it is least sure there.
    """
    doubt: dict[uuid.UUID, float] = {}
    for start in range(0, len(ids), IDS_A_QUERY):
        query = (
            sa.select(InteractionReward.interaction_id, InteractionReward.reward)
            .where(InteractionReward.interaction_id.in_(ids[start : start + IDS_A_QUERY]))
            .order_by(InteractionReward.scored_at)
        )
        doubt |= {row.interaction_id: abs(row.reward - 0.5) for row in db.execute(query)}
    return sorted(ids, key=lambda item: doubt.get(item, 1.0))  # stable: the unscored as they came


def _insert(
    db: Session, view: QueueView, ids: list[uuid.UUID], order: QueueOrder, actor: Actor
) -> None:
    db.execute(
        sa.insert(RatingQueue).values(
            id=view.id,
            name=view.name,
            instructions=view.instructions,
            overlap=view.overlap,
            order=order,
            filters={ABOUT: STEPS} if view.is_about_steps else None,
            created_by=actor.account_id,
            created_at=view.created_at,
        )
    )
    items = [
        {
            "id": new_id(),
            "queue_id": view.id,
            "interaction_id": interaction_id,
            "priority": -float(place),  # the highest first
            "created_at": view.created_at,
        }
        for place, interaction_id in enumerate(ids)
    ]
    db.execute(sa.insert(RatingQueueItem), items)


def _load(db: Session, *conditions: sa.ColumnElement[bool]) -> list[QueueView]:
    count = (
        sa.select(sa.func.count())
        .where(RatingQueueItem.queue_id == RatingQueue.id)
        .scalar_subquery()
    )
    query = (
        sa.select(
            RatingQueue.id,
            RatingQueue.name,
            RatingQueue.instructions,
            RatingQueue.overlap,
            RatingQueue.filters,
            count,
            RatingQueue.created_at,
        )
        .where(*conditions)
        .order_by(RatingQueue.created_at.desc(), RatingQueue.id.desc())
    )
    return [
        QueueView(
            id=row[0],
            name=row[1],
            instructions=row[2],
            overlap=row[3],
            is_about_steps=(row[4] or {}).get(ABOUT) == STEPS,
            num_items=row[5] or 0,
            created_at=row[6],
        )
        for row in db.execute(query)
    ]
