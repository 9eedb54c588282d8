"""Counts a day, by slice, from the rollups: what most rules look at."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.alerts.findings import NOT_GIVEN
from rlhf_core.analytics.filters import Filters
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import FeedbackHourRollup, FeedbackRollup

MAX_SLICES = 500
"""Of more, those with the least feedback are left out."""

_FEEDBACK = table_of(FeedbackRollup)
_HOURS = table_of(FeedbackHourRollup)


@dataclass(frozen=True)
class DailyCounts:
    """`num`, `good` and `bad` are (slices, days), from `first_day` on."""

    first_day: date
    names: tuple[str, ...]
    num: np.ndarray[Any, np.dtype[np.int64]]
    good: np.ndarray[Any, np.dtype[np.int64]]
    bad: np.ndarray[Any, np.dtype[np.int64]]

    def place(self, day: date) -> int:
        """The column of a day."""
        return (day - self.first_day).days


def read_daily(
    db: Session, filters: Filters, *, split: str, since: date, until: date
) -> DailyCounts:
    """Standing feedback on completions a day; `split` is a column of the rollups, or nothing."""
    where = replace(filters, since=since, until=until).conditions(FeedbackRollup)
    sums = [sa.func.sum(_FEEDBACK.c[name]) for name in ("num_feedback", "num_good", "num_bad")]
    keys = [_FEEDBACK.c[split]] if split else []
    rows = db.execute(
        sa.select(_FEEDBACK.c.day, *keys, *sums).where(*where).group_by(_FEEDBACK.c.day, *keys)
    ).all()
    totals: dict[str, int] = {} if split else {"": 0}
    for row in rows:
        name = (row[1] or NOT_GIVEN) if split else ""
        totals[name] = totals.get(name, 0) + int(row[-3])
    names = tuple(sorted(sorted(totals, key=lambda name: (-totals[name], name))[:MAX_SLICES]))
    places = {name: place for place, name in enumerate(names)}
    table = np.zeros((3, len(names), (until - since).days + 1), dtype=np.int64)
    for row in rows:
        place = places.get((row[1] or NOT_GIVEN) if split else "")
        if place is not None:
            table[:, place, (row[0] - since).days] += [int(value) for value in row[-3:]]
    return DailyCounts(since, names, *table)


def read_first_days(db: Session, filters: Filters) -> dict[str, date]:
    """The first day with feedback of each action type that was given."""
    where = [*filters.conditions(FeedbackRollup), _FEEDBACK.c.action_type != ""]
    first = sa.func.min(_FEEDBACK.c.day)
    rows = db.execute(
        sa.select(_FEEDBACK.c.action_type, first).where(*where).group_by(_FEEDBACK.c.action_type)
    )
    return {name: day for name, day in rows}


def read_hours(
    db: Session, filters: Filters, *, since: datetime, until: datetime
) -> list[datetime]:
    """The hours with feedback (their beginnings), in order, and the last one before `since`."""
    day, hour = _HOURS.c.day, _HOURS.c.hour
    where = [*filters.conditions(FeedbackHourRollup), _HOURS.c.num_feedback > 0]
    query = sa.select(day, hour).distinct().order_by(day, hour)
    rows = db.execute(query.where(*where, day >= since.date(), day <= until.date())).all()
    before = db.execute(
        sa.select(day, hour)
        .where(*where, day < since.date())
        .order_by(day.desc(), hour.desc())
        .limit(1)
    ).all()
    zone = since.tzinfo
    return [
        datetime(row.day.year, row.day.month, row.day.day, row.hour, tzinfo=zone)
        for row in [*before, *rows]
    ]


def days_before(moment: datetime, days: int) -> date:
    """The first of the `days` days that end with the moment's."""
    return moment.date() - timedelta(days=days - 1)
