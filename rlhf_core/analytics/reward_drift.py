"""Whether a reward model still tells what people call good from what they call bad, by week.

As policies learn to please it, or as the questions change, its rewards rise while people are no
happier: then it no longer measures what it was trained for.
"""

import uuid
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval, wilson_interval
from rlhf_core.analytics.differences import NORMAL_95
from rlhf_core.analytics.filters import EVERYTHING, Filters
from rlhf_core.analytics.raw_rows import SLICES, row_conditions
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_good
from rlhf_core.store.tables import (
    FeedbackRollup,
    InteractionReward,
    Model,
    ModelAlias,
    ModelVersion,
)
from rlhf_core.vocabulary import Alias

BY_DAY = table_of(FeedbackRollup)
REWARD = table_of(InteractionReward)

MAX_WEEKS = 26
MAX_ROWS_A_WEEK = 2_000
"""Pieces of feedback that are looked at; of more, the latest of the week."""
MIN_EACH = 10
"""Good ones and bad ones without which there is no AUC."""


@dataclass(frozen=True)
class ScoringVersion:
    """A version of a reward model that scored stored interactions."""

    id: uuid.UUID
    name: str
    is_production: bool


@dataclass(frozen=True)
class RewardWeek:
    """Feedback of the week that begins on this Monday, on answers that the version scored.

    `auc`: how often an answer called good has the higher reward than one called bad (0.5: no
    better than chance), with DeLong's 95 % interval; None of fewer than `MIN_EACH` on a side.
    """

    start: date
    num_good: int
    num_bad: int
    auc: Interval | None
    mean_reward: float

    @property
    def approval(self) -> Interval | None:
        """Good among good and bad."""
        return wilson_interval(self.num_good, self.num_good + self.num_bad)


def list_scoring_versions(db: Session, *, actor: Actor) -> list[ScoringVersion]:
    """The versions with scores: those in production first, then the newest."""
    require(actor, Permission.READ_ANALYTICS)
    has_scores = sa.exists().where(REWARD.c.model_version_id == ModelVersion.id)
    live = sa.exists().where(
        ModelAlias.version_id == ModelVersion.id, ModelAlias.alias == Alias.PRODUCTION
    )
    rows = db.execute(
        sa.select(ModelVersion.id, Model.name, ModelVersion.number, live)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(has_scores, ModelVersion.deleted_at.is_(None))
        .order_by(ModelVersion.created_at.desc())
    )
    found = [
        ScoringVersion(version_id, f"{name} v{number}", bool(is_live))
        for version_id, name, number, is_live in rows
    ]
    return sorted(found, key=lambda one: not one.is_production)


def read_reward_drift(
    db: Session, version_id: uuid.UUID, *, actor: Actor, filters: Filters = EVERYTHING
) -> list[RewardWeek]:
    """The last weeks of the period (at most `MAX_WEEKS` of them) with judged and scored answers."""
    require(actor, Permission.READ_ANALYTICS)
    weeks = []
    for start in _list_weeks(db, filters):
        good, bad = _read_week(db, version_id, start, filters)
        if len(good) + len(bad):
            mean = float(np.concatenate([good, bad]).mean())
            weeks.append(RewardWeek(start, len(good), len(bad), compute_auc(good, bad), mean))
    return weeks


def compute_auc(good: Any, bad: Any) -> Interval | None:
    """P(a good one's reward is higher than a bad one's), a tie counting half; DeLong 1988."""
    good, bad = np.asarray(good, float), np.asarray(bad, float)
    if min(len(good), len(bad)) < MIN_EACH:
        return None
    ranks = _midranks(np.concatenate([good, bad]))
    of_good = (ranks[: len(good)] - _midranks(good)) / len(bad)
    of_bad = 1 - (ranks[len(good) :] - _midranks(bad)) / len(good)
    value = float(of_good.mean())
    variance = of_good.var(ddof=1) / len(good) + of_bad.var(ddof=1) / len(bad)
    # where nothing varies, as with full separation, at least the rule of three
    half = NORMAL_95 * float(np.sqrt(variance)) or 3 / min(len(good), len(bad))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def _midranks(values: Any) -> Any:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]


def _list_weeks(db: Session, filters: Filters) -> list[date]:
    """Mondays of the last weeks with feedback."""
    where = filters.conditions(BY_DAY)
    last = db.scalar(sa.select(sa.func.max(BY_DAY.c.day)).where(*where))
    if last is None:
        return []
    since = last - timedelta(days=last.weekday())  # the first day of all is a Monday
    if since.toordinal() > 7 * MAX_WEEKS:
        since -= timedelta(weeks=MAX_WEEKS - 1)
    days = db.scalars(sa.select(BY_DAY.c.day).where(BY_DAY.c.day >= since, *where).distinct())
    return sorted({day - timedelta(days=day.weekday()) for day in days})


def _read_week(
    db: Session, version_id: uuid.UUID, start: date, filters: Filters
) -> tuple[list[float], list[float]]:
    """Rewards of the good ones, and of the bad ones."""
    sunday = date.fromordinal(min(start.toordinal() + 6, date.max.toordinal()))
    week = replace(
        filters,
        since=max(start, filters.since or date.min),
        until=min(sunday, filters.until or date.max),
    )
    latest = (
        sa.select(FEEDBACK.c.interaction_id, sa.case((is_good(FEEDBACK), 1), else_=0).label("good"))
        .join(SLICES, SLICES.c.id == FEEDBACK.c.interaction_id)
        .where(
            FEEDBACK.c.step_id.is_(None),
            sa.or_(is_good(FEEDBACK), is_bad(FEEDBACK)),
            *row_conditions(week),
        )
        .order_by(FEEDBACK.c.occurred_at.desc())
        .limit(MAX_ROWS_A_WEEK)
        .subquery("latest")
    )
    of_it = sa.and_(
        REWARD.c.interaction_id == latest.c.interaction_id,
        REWARD.c.model_version_id == version_id,
    )
    rows = db.execute(sa.select(REWARD.c.reward, latest.c.good).join(REWARD, of_it)).all()
    good = [row.reward for row in rows if row.good]
    return good, [row.reward for row in rows if not row.good]
