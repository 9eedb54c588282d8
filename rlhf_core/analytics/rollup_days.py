"""The days that are counted anew, as conditions that mean the same on both databases."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.analytics.filters import start_of_day

NOTHING: Any = sa.literal_column("''")
"""'Not given' in a table of counts. No parameter: PostgreSQL takes two of them for two values, and
then does not see that a column and the GROUP BY are the same."""


def given(column: Any) -> Any:
    """The value, or '' where there is none."""
    return sa.func.coalesce(column, NOTHING)


def day_of(db: Session, moment: Any) -> Any:
    """The UTC day of a moment.

    Connections to PostgreSQL are in UTC. On SQLite the moment is text; its `date()` would round the
    last half of a millisecond up to the next day.
    """
    if db.get_bind().dialect.name == "sqlite":
        text = sa.type_coerce(moment, sa.String)
        return sa.type_coerce(
            sa.func.substr(text, sa.literal_column("1"), sa.literal_column("10")), sa.Date
        )
    return sa.cast(moment, sa.Date)


def hour_of(db: Session, moment: Any) -> Any:
    """The hour of its UTC day, 0 to 23."""
    if db.get_bind().dialect.name == "sqlite":
        text = sa.type_coerce(moment, sa.String)
        digits = sa.func.substr(text, sa.literal_column("12"), sa.literal_column("2"))
        return sa.cast(digits, sa.Integer)
    return sa.cast(sa.extract("hour", moment), sa.SmallInteger)


def within(moment: Any, days: Iterable[date]) -> sa.ColumnElement[bool]:
    """The moment lies on one of the days: one range, which an index serves, a run of days."""
    ranges = []
    for first, last in _runs(days):
        since = moment >= start_of_day(first)
        is_end = last == date.max  # no day comes after it
        ranges.append(
            since if is_end else sa.and_(since, moment < start_of_day(last + timedelta(days=1)))
        )
    return sa.or_(sa.false(), *ranges)


def on_days(table: sa.Table, days: Iterable[date]) -> sa.ColumnElement[bool]:
    """The counts are of one of the days."""
    return sa.or_(sa.false(), *(table.c.day.between(first, last) for first, last in _runs(days)))


def delete_days(db: Session, table: sa.Table, days: Iterable[date]) -> None:
    """Take the counts of these days out."""
    db.execute(sa.delete(table).where(on_days(table, days)))


def _runs(days: Iterable[date]) -> list[tuple[date, date]]:
    """First and last day of each run of days without a gap."""
    runs: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if runs and day - runs[-1][1] == timedelta(days=1):
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs
