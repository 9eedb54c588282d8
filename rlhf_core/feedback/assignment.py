"""Who gets which item to rate.

Interactions are rated in the order in which they were stored. The next one is looked for from where
the rater stands (their last rating), in a window: of those that they have not rated, the one with
the fewest ratings, so that ratings spread over the items and over the raters. At the end it starts
again from the beginning, so nothing is left out for ever.
"""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.feedback.raters import find_rater
from rlhf_core.feedback.views import InteractionView, get_interaction
from rlhf_core.store.queries.answers import is_whole
from rlhf_core.store.tables import Feedback, Interaction

WINDOW = 1_000
BEFORE_ALL = uuid.UUID(int=0)
AFTER_ALL = uuid.UUID(int=2**128 - 1)
NOBODY = uuid.UUID(int=0)


def next_to_rate(
    db: Session,
    *,
    actor: Actor,
    after: uuid.UUID | None = None,
    before: uuid.UUID | None = None,
) -> InteractionView | None:
    """The interaction that this rater sees next, of all there are; None where there is none.

    Without `after` and `before`: the next that they have not rated. `before` an item: the one that
    they rated before it. `after` an item: the one that they rated after it, else the next that they
    have not rated, looked for from that item on.
    """
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor) or NOBODY
    if before is not None:
        found = find_in_history(db, rater_id, before, forward=False)
        return None if found is None else get_interaction(db, found, actor=actor)
    found = None if after is None else find_in_history(db, rater_id, after, forward=True)
    if found is None:
        start = after or _find_last_rated(db, rater_id) or BEFORE_ALL
        found = _find_unrated(db, rater_id, start, AFTER_ALL)
        found = found or _find_unrated(db, rater_id, BEFORE_ALL, start, skip=after)
    return None if found is None else get_interaction(db, found, actor=actor)


def rating_progress(db: Session, *, actor: Actor) -> tuple[int, int]:
    """(interactions that the actor rated, all interactions)."""
    return count_rated(db, actor=actor), count_interactions(db, actor=actor)


def count_rated(db: Session, *, actor: Actor) -> int:
    """How many interactions the actor rated."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return 0
    return db.scalar(sa.select(sa.func.count()).where(*_is_rating_of(rater_id))) or 0


def count_interactions(db: Session, *, actor: Actor) -> int:
    """How many interactions there are."""
    require(actor, Permission.RATE)
    return db.scalar(sa.select(sa.func.count()).select_from(Interaction)) or 0


def _is_rating() -> list[sa.ColumnElement[bool]]:
    """A current judgement of a completion: a mere comment is none."""
    return [
        Feedback.step_id.is_(None),
        Feedback.occasion == 0,
        Feedback.withdrawn_at.is_(None),
        sa.or_(Feedback.rating.is_not(None), Feedback.thumb.is_not(None)),
    ]


def _is_rating_of(rater_id: uuid.UUID) -> list[sa.ColumnElement[bool]]:
    return [Feedback.rater_id == rater_id, *_is_rating()]


def _find_last_rated(db: Session, rater_id: uuid.UUID) -> uuid.UUID | None:
    return db.scalar(
        sa.select(Feedback.interaction_id)
        .where(*_is_rating_of(rater_id))
        .order_by(Feedback.created_at.desc())
        .limit(1)
    )


def find_in_history(
    db: Session, rater_id: uuid.UUID, here: uuid.UUID, *, forward: bool
) -> uuid.UUID | None:
    """The item rated next after (or last before) `here`; of an unrated one, the last rated."""
    rated_at = db.scalar(
        sa.select(Feedback.created_at).where(
            Feedback.interaction_id == here, *_is_rating_of(rater_id)
        )
    )
    if rated_at is None and forward:
        return None
    query = sa.select(Feedback.interaction_id).where(*_is_rating_of(rater_id)).limit(1)
    if forward:
        query = query.where(Feedback.created_at > rated_at).order_by(Feedback.created_at)
    else:
        query = query.order_by(Feedback.created_at.desc())
        if rated_at is not None:
            query = query.where(Feedback.created_at < rated_at)
    return db.scalar(query)


def _find_unrated(
    db: Session,
    rater_id: uuid.UUID,
    start: uuid.UUID,
    end: uuid.UUID,
    *,
    skip: uuid.UUID | None = None,
) -> uuid.UUID | None:
    """The best item to rate with `start` < id <= `end`, of the first window that has one."""
    while True:
        window = (
            sa.select(Interaction.id)
            .where(Interaction.id > start, Interaction.id <= end, is_whole())
            .order_by(Interaction.id)
            .limit(WINDOW)
            .subquery()
        )
        num_ratings = sa.func.count(Feedback.id)
        num_mine = num_ratings.filter(Feedback.rater_id == rater_id)
        found: uuid.UUID | None = db.scalar(
            sa.select(window.c.id)
            .outerjoin(Feedback, sa.and_(Feedback.interaction_id == window.c.id, *_is_rating()))
            .where(window.c.id != (skip or NOBODY))
            .group_by(window.c.id)
            .having(num_mine == 0)
            .order_by(num_ratings, window.c.id)
            .limit(1)
        )
        if found is not None:
            return found
        last = db.scalar(sa.select(window.c.id).order_by(window.c.id.desc()).limit(1))
        if last is None:
            return None
        start = last
