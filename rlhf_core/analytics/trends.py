"""Approval and ratings over time, from the daily (or hourly) counts."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, time
from enum import StrEnum
from typing import Any, assert_never

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.feedback_counts import (
    RATINGS,
    FeedbackCounts,
    add_up,
    mean_of,
    read_counts,
    read_ratings_of,
    sums,
)
from rlhf_core.analytics.filters import EVERYTHING, Filters, today
from rlhf_core.errors import InvalidInput
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import (
    AspectRollup,
    AspectTotal,
    FeedbackHourRollup,
    FeedbackHourTotal,
    FeedbackRollup,
)

BY_DAY = table_of(FeedbackRollup)
BY_HOUR = table_of(FeedbackHourRollup)
HOUR_TOTALS = table_of(FeedbackHourTotal)
BY_ASPECT = table_of(AspectRollup)
ASPECT_TOTALS = table_of(AspectTotal)

MAX_DAYS_BY_HOUR = 14
OTHERS = "(others)"
"""The name of what is left over where there are too many names to show."""


class Grain(StrEnum):
    """How long a point of a trend is. Weeks begin on Monday; all in UTC."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class Split(StrEnum):
    """By what a trend is told apart: a column of the counts."""

    ACTION_TYPE = "action_type"
    MODEL_NAME = "model_name"
    SOURCE = "source"
    RATER_KIND = "rater_kind"


@dataclass(frozen=True, kw_only=True)
class TrendPoint(FeedbackCounts):
    """What was said from `start` on, for the length of the grain. `name` is '' without a split."""

    start: datetime
    name: str


@dataclass(frozen=True)
class AspectFigures:
    """How often each rating of one aspect came."""

    name: str
    ratings: dict[int, int]

    @property
    def num_ratings(self) -> int:
        """How many rated it."""
        return sum(self.ratings.values())

    @property
    def mean_rating(self) -> float | None:
        """1 to 5."""
        return mean_of(self.ratings)


def read_trend(
    db: Session,
    *,
    actor: Actor,
    filters: Filters = EVERYTHING,
    grain: Grain = Grain.DAY,
    split: Split | None = None,
    max_names: int | None = None,
) -> list[TrendPoint]:
    """Points by time, then name; only of stretches in which something was said.

    Of a split by more than `max_names` names, those with the most feedback are kept; the others
    are one, `OTHERS`. The first and the last week or month may be cut by the filters' period.

    Raises:
        InvalidInput: by hour, of more than 14 days.
    """
    require(actor, Permission.READ_ANALYTICS)
    table = BY_DAY
    if grain is Grain.HOUR:
        _refuse_long(filters)
        is_sliced = filters.is_sliced or split in (Split.ACTION_TYPE, Split.MODEL_NAME)
        table = BY_HOUR if is_sliced else HOUR_TOTALS
    keys = [_first_day(db, table.c.day, grain)]
    if grain is Grain.HOUR:
        keys.append(table.c.hour)
    if split is not None:
        keys.append(table.c[split.value])
    rows = db.execute(
        sa.select(*keys, *sums(table)).where(*filters.conditions(table)).group_by(*keys)
    )
    points = []
    for row in rows:
        start = datetime.combine(row[0], time(row.hour if grain is Grain.HOUR else 0), UTC)
        name = "" if split is None else str(row[len(keys) - 1])
        points.append(TrendPoint(**read_counts(row), start=start, name=name))
    if max_names is not None:
        points = _merge_rare(points, max_names)
    return sorted(points, key=lambda point: (point.start, point.name))


def read_ratings(db: Session, *, actor: Actor, filters: Filters = EVERYTHING) -> FeedbackCounts:
    """How often each rating and each thumb came in the whole period."""
    require(actor, Permission.READ_ANALYTICS)
    columns = [sa.func.coalesce(column.element, 0).label(column.name) for column in sums(BY_DAY)]
    row = db.execute(sa.select(*columns).where(*filters.conditions(BY_DAY))).one()
    return FeedbackCounts(**read_counts(row))


def read_aspects(
    db: Session, *, actor: Actor, filters: Filters = EVERYTHING
) -> list[AspectFigures]:
    """Each aspect that was rated in the period, the most often rated first."""
    require(actor, Permission.READ_ANALYTICS)
    table = BY_ASPECT if filters.is_sliced else ASPECT_TOTALS
    names = [f"num_rating_{value}" for value in RATINGS]
    rows = db.execute(
        sa.select(table.c.name, *(sa.func.sum(table.c[name]).label(name) for name in names))
        .where(*filters.conditions(table))
        .group_by(table.c.name)
    )
    found = [AspectFigures(row.name, read_ratings_of(row)) for row in rows]
    return sorted(found, key=lambda aspect: (-aspect.num_ratings, aspect.name))


def _refuse_long(filters: Filters) -> None:
    until = filters.until or today()
    if filters.since is None or (until - filters.since).days >= MAX_DAYS_BY_HOUR:
        raise InvalidInput(
            f"By hour, choose a period of at most {MAX_DAYS_BY_HOUR} days; longer ones by day.",
            field="grain",
        )


def _first_day(db: Session, day: Any, grain: Grain) -> Any:
    """The day on which the day's week or month begins; the day itself for finer grains."""
    if grain in (Grain.HOUR, Grain.DAY):
        return day.label("start")
    if db.get_bind().dialect.name != "sqlite":
        first = sa.func.date_trunc(sa.literal_column(f"'{grain.value}'"), day)
        return sa.cast(first, sa.Date).label("start")
    match grain:
        case Grain.WEEK:  # to Sunday, then back to its Monday
            first = sa.func.date(day, *map(sa.literal_column, ("'weekday 0'", "'-6 days'")))
        case Grain.MONTH:
            first = sa.func.date(day, sa.literal_column("'start of month'"))
        case _:
            assert_never(grain)
    return sa.type_coerce(first, sa.Date).label("start")


def _merge_rare(points: list[TrendPoint], max_names: int) -> list[TrendPoint]:
    totals: dict[str, int] = defaultdict(int)
    for point in points:
        totals[point.name] += point.num_feedback
    if len(totals) <= max_names:
        return points
    kept = set(sorted(totals, key=lambda name: (-totals[name], name))[:max_names])
    rest: dict[datetime, list[TrendPoint]] = defaultdict(list)
    for point in points:
        if point.name not in kept:
            rest[point.start].append(point)
    merged = [
        TrendPoint(**vars(add_up(each)), start=start, name=OTHERS) for start, each in rest.items()
    ]
    return [point for point in points if point.name in kept] + merged
