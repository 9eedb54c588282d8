"""How doubtful an item is: how unsure a reward model was of it, how far its raters lie apart."""

import uuid

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.queues.slots import FEEDBACK
from rlhf_core.store.tables import InteractionReward

IDS_A_QUERY = 500


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


def find_doubtful(
    db: Session, among: sa.Select[uuid.UUID], *, skip: set[uuid.UUID], limit: int
) -> list[tuple[uuid.UUID, str]]:
    """(interaction, reason) of the most doubtful of `among`, at most `limit`, the most first.

    Doubt runs from 0 to 1: of a reward r = P(good) by the version that scored last it is
    1 - 2|r - 0.5|, of ratings their spread as a share of the widest (1 to 5; a thumb up and one
    down). The greater of the two counts. Items without doubt are left out.
    """
    found: dict[uuid.UUID, tuple[float, str]] = {}
    for reason, query in (("uncertain", _by_reward(among)), ("disagreed", _by_spread(among))):
        for row in db.execute(query.limit(limit + len(skip))):
            known, _ = found.get(row.interaction_id, (0.0, ""))
            if row.interaction_id not in skip and row.doubt > known:
                found[row.interaction_id] = (float(row.doubt), reason)
    ranked = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
    return [(interaction_id, reason) for interaction_id, (_, reason) in ranked[:limit]]


def _by_reward(among: sa.Select[uuid.UUID]) -> sa.Select[uuid.UUID, float]:
    latest = (
        sa.select(InteractionReward.model_version_id)
        .order_by(InteractionReward.scored_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    doubt = (1 - 2 * sa.func.abs(InteractionReward.reward - 0.5)).label("doubt")
    return (
        sa.select(InteractionReward.interaction_id, doubt)
        .where(
            InteractionReward.model_version_id == latest,
            InteractionReward.interaction_id.in_(among),
        )
        .order_by(doubt.desc(), InteractionReward.interaction_id)
    )


def _by_spread(among: sa.Select[uuid.UUID]) -> sa.Select[uuid.UUID, float]:
    def range_of(column: sa.Column[int], widest: float) -> sa.ColumnElement[float]:
        spread = (sa.func.max(column) - sa.func.min(column)) / widest
        return sa.func.coalesce(spread, 0.0)

    ratings, thumbs = range_of(FEEDBACK.c.rating, 4.0), range_of(FEEDBACK.c.thumb, 2.0)
    spread = sa.case((ratings > thumbs, ratings), else_=thumbs).label("doubt")
    return (
        sa.select(FEEDBACK.c.interaction_id, spread)
        .where(
            FEEDBACK.c.interaction_id.in_(among),
            FEEDBACK.c.step_id.is_(None),
            FEEDBACK.c.occasion == 0,
            FEEDBACK.c.withdrawn_at.is_(None),
        )
        .group_by(FEEDBACK.c.interaction_id)
        .having(spread > 0)
        .order_by(spread.desc(), FEEDBACK.c.interaction_id)
    )
