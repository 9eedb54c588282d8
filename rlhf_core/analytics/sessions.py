"""What end users do: sessions, how long they last, who comes back, and who gives feedback."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval, wilson_interval
from rlhf_core.analytics.filters import EVERYTHING, Filters
from rlhf_core.analytics.rollup_sessions import BOUNDS_S, NUM_BUCKETS
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import FeedbackRollup, SessionRollup, UserSession
from rlhf_core.vocabulary import RaterKind

BY_DAY = table_of(SessionRollup)
SESSIONS = table_of(UserSession)
FEEDBACK = table_of(FeedbackRollup)

MAX_SESSIONS_READ = 16_000
"""Users are counted one by one in about so many sessions; of more, those of a part of the users."""
RANGES = ("num_single", *(f"num_under_{bound}" for bound in BOUNDS_S), "num_longer")


class Segment(StrEnum):
    """By what users are told apart."""

    ACTION_TYPE = "action_type"
    MODEL_NAME = "model_name"


@dataclass(frozen=True)
class SessionCounts:
    """Sessions, and how many lasted how long: a single act, less than 60 s, ..., longer."""

    num_sessions: int = 0
    num_with_feedback: int = 0
    num_interactions: int = 0
    sum_duration_s: float = 0.0
    num_single: int = 0
    num_under_60: int = 0
    num_under_300: int = 0
    num_under_900: int = 0
    num_under_1800: int = 0
    num_under_3600: int = 0
    num_longer: int = 0

    @property
    def mean_duration_s(self) -> float | None:
        """Of sessions with more than one act: how long a single one lasts, nobody knows."""
        num = self.num_sessions - self.num_single
        return self.sum_duration_s / num if num else None

    @property
    def with_feedback(self) -> Interval | None:
        """The share of sessions in which the user gave feedback, with Wilson's interval."""
        return wilson_interval(self.num_with_feedback, self.num_sessions)


@dataclass(frozen=True)
class DaySessions:
    """The sessions of one UTC day."""

    day: date
    counts: SessionCounts


@dataclass(frozen=True)
class UserFigures:
    """Users seen in the period. `returning`: seen on two days or more; `speaking`: gave feedback.

    `one_in` is 1 where all were counted; else one user in so many was, chosen by a hash, and
    `num_users` is an estimate.
    """

    num_users: int
    one_in: int
    returning: Interval | None
    speaking: Interval | None


@dataclass(frozen=True)
class SegmentFigures:
    """End users' feedback on one action type or model ('': none was given), and its sessions.

    `satisfaction` is the mean of good (1), neutral (0.5) and bad (0), with Wilson's interval, which
    takes each piece of feedback as drawn alone.
    """

    name: str
    num_feedback: int
    satisfaction: Interval | None
    sessions: SessionCounts


def read_sessions(
    db: Session, *, actor: Actor, filters: Filters = EVERYTHING
) -> tuple[SessionCounts, list[DaySessions]]:
    """The sessions of the period, and of each of its days that has some."""
    require(actor, Permission.READ_ANALYTICS)
    rows = db.execute(
        sa.select(BY_DAY.c.day, *_sums())
        .where(*filters.conditions(BY_DAY))
        .group_by(BY_DAY.c.day)
        .order_by(BY_DAY.c.day)
    )
    days = [DaySessions(row.day, _counts(row)) for row in rows]
    return add_up([one.counts for one in days]), days


def add_up(counts: Sequence[SessionCounts]) -> SessionCounts:
    """All of them together."""
    names = [field.name for field in fields(SessionCounts)]
    return SessionCounts(**{name: sum(getattr(one, name) for one in counts) for name in names})


def read_users(db: Session, *, actor: Actor, filters: Filters = EVERYTHING) -> UserFigures:
    """How many users there were, and how many of them came back or gave feedback."""
    require(actor, Permission.READ_ANALYTICS)
    sample, one_in = sample_users(db, filters)
    users = (
        sa.select(
            (sa.func.min(SESSIONS.c.day) < sa.func.max(SESSIONS.c.day)).label("came_back"),
            sa.func.sum(SESSIONS.c.num_feedback).label("num_feedback"),
        )
        .where(sample, *filters.conditions(SESSIONS))
        .group_by(SESSIONS.c.user_pseudonym)
        .subquery()
    )
    counts = sa.select(
        sa.func.count(),
        sa.func.count().filter(users.c.came_back),
        sa.func.count().filter(users.c.num_feedback > 0),
    ).select_from(users)
    num_users, num_returning, num_speaking = db.execute(counts).one()
    return UserFigures(
        num_users=num_users * one_in,
        one_in=one_in,
        returning=wilson_interval(num_returning, num_users),
        speaking=wilson_interval(num_speaking, num_users),
    )


def sample_users(db: Session, filters: Filters) -> tuple[sa.ColumnElement[bool], int]:
    """A condition on sessions: the period's, of one user in so many; and how many.

    Whole users: a share of users, and an interval that is clustered by user, stay right.
    """
    rows = db.execute(
        sa.select(BY_DAY.c.day, sa.func.sum(BY_DAY.c.num_sessions))
        .where(*filters.conditions(BY_DAY))
        .group_by(BY_DAY.c.day)
    ).all()
    num_sessions = sum(num for _, num in rows)
    one_in = 1
    while num_sessions > one_in * MAX_SESSIONS_READ and one_in < NUM_BUCKETS:
        one_in *= 2
    # the days one by one: the key leads to the buckets of each
    of_days = SESSIONS.c.day.in_([day for day, _ in rows])
    return sa.and_(of_days, SESSIONS.c.bucket.between(0, NUM_BUCKETS // one_in - 1)), one_in


def read_segments(
    db: Session, *, actor: Actor, by: Segment, filters: Filters = EVERYTHING
) -> list[SegmentFigures]:
    """Each action type or model that end users met, those with the most sessions first."""
    require(actor, Permission.READ_ANALYTICS)
    own, said = BY_DAY.c[by.value], FEEDBACK.c[by.value]
    sessions = {
        row.name: _counts(row)
        for row in db.execute(
            sa.select(own.label("name"), *_sums()).where(*filters.conditions(BY_DAY)).group_by(own)
        )
    }
    names = ("num_feedback", "num_good", "num_neutral", "num_bad")
    feedback = {
        row.name: row
        for row in db.execute(
            sa.select(said.label("name"), *(sa.func.sum(FEEDBACK.c[n]).label(n) for n in names))
            .where(FEEDBACK.c.rater_kind == RaterKind.END_USER, *filters.conditions(FEEDBACK))
            .group_by(said)
        )
    }
    found = []
    for name in {*sessions, *feedback}:
        row = feedback.get(name)
        num = int(row.num_good + row.num_neutral + row.num_bad) if row else 0
        points = float(row.num_good + row.num_neutral / 2) if row else 0.0
        counts = sessions.get(name, SessionCounts())
        num_feedback = int(row.num_feedback) if row else 0
        found.append(SegmentFigures(name, num_feedback, wilson_interval(points, num), counts))
    return sorted(found, key=lambda one: (-one.sessions.num_sessions, -one.num_feedback, one.name))


def _sums() -> list[Any]:
    return [sa.func.sum(BY_DAY.c[field.name]).label(field.name) for field in fields(SessionCounts)]


def _counts(row: Any) -> SessionCounts:
    names = [field.name for field in fields(SessionCounts)]
    values = {name: int(getattr(row, name)) for name in names if name != "sum_duration_s"}
    return SessionCounts(**values, sum_duration_s=float(row.sum_duration_s))
