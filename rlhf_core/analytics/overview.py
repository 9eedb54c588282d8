"""What people think of the answers, at a glance: a period, the one before it, and each day."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.filters import EVERYTHING, Filters, previous_period, today
from rlhf_core.analytics.key_figures import KeyFigures
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import FeedbackRollup, InteractionRollup, RaterDayRollup, RaterRollup
from rlhf_core.vocabulary import RaterKind

INTERACTIONS = table_of(InteractionRollup)
FEEDBACK = table_of(FeedbackRollup)
BY_RATER = table_of(RaterRollup)
RATER_DAYS = table_of(RaterDayRollup)

MAX_DAYS = 3660
_COUNTS = [field.name for field in fields(KeyFigures) if field.name != "num_raters"]


@dataclass(frozen=True)
class DayFigures:
    """One UTC day."""

    day: date
    figures: KeyFigures


@dataclass(frozen=True)
class Overview:
    """`before` is None where the period has no beginning, or nothing is known of the one before.

    `days` are all days of the period, without a gap: from its beginning, or else the first day with
    data; to its end, or else today, or the last day with data where that is later. A period of more
    than `MAX_DAYS` begins and ends with these days at the latest; where it is too long even then,
    only days with data are there.
    """

    now: KeyFigures
    before: KeyFigures | None
    days: list[DayFigures]


def read_overview(db: Session, *, actor: Actor, filters: Filters = EVERYTHING) -> Overview:
    """The figures of a period, from the daily counts."""
    require(actor, Permission.READ_ANALYTICS)
    previous = previous_period(filters)
    begin = date.min if previous is None or filters.since is None else filters.since
    both = filters if previous is None else replace(filters, since=previous.since)
    by_day = _read_days(db, both)
    num_raters, num_now, num_before = _count_raters(db, both, begin)
    days = {day: KeyFigures(**each, num_raters=num_raters.get(day, 0))
            for day, each in by_day.items()}  # fmt: skip
    own = {day: each for day, each in days.items() if day >= begin}
    earlier = [each for day, each in days.items() if day < begin]
    return Overview(
        now=_add_up(own.values(), num_now),
        before=_add_up(earlier, num_before) if earlier else None,
        days=[DayFigures(day, own.get(day, KeyFigures())) for day in _list_days(filters, own)],
    )


def _read_days(db: Session, filters: Filters) -> dict[date, dict[str, int]]:
    """The sums of the days on which anything was counted."""
    found: dict[date, dict[str, int]] = {}
    for query in (_feedback(filters), _interactions(filters)):
        for row in db.execute(query).mappings():
            of_day = found.setdefault(row["day"], {})
            of_day |= {name: int(value) for name, value in row.items() if name != "day"}
    return found


def _count_raters(db: Session, filters: Filters, begin: date) -> tuple[dict[date, int], int, int]:
    """How many SMEs gave feedback: by day, from `begin` on, and before it."""
    table = BY_RATER if filters.is_sliced else RATER_DAYS
    said = (
        sa.select(table.c.day, table.c.rater_id)
        .where(table.c.rater_kind == RaterKind.SME, *filters.conditions(table))
        .distinct()
        .cte("said")  # read once for all three
    )
    num, part = sa.func.count(said.c.rater_id.distinct()), sa.literal_column
    query = sa.union_all(
        sa.select(part("0").label("part"), said.c.day, sa.func.count()).group_by(said.c.day),
        sa.select(part("1"), sa.null(), num).where(said.c.day >= begin),
        sa.select(part("2"), sa.null(), num).where(said.c.day < begin),
    )
    rows = db.execute(query).all()
    of_part = {number: count for number, day, count in rows if day is None}
    return {day: count for _, day, count in rows if day is not None}, of_part[1], of_part[2]


def _feedback(filters: Filters) -> sa.Select[Any]:
    columns = FEEDBACK.c
    ratings = {value: columns[f"num_rating_{value}"] for value in range(1, 6)}
    is_user = columns.rater_kind == RaterKind.END_USER
    sums = {
        "num_feedback": columns.num_feedback,
        "num_good": columns.num_good,
        "num_bad": columns.num_bad,
        "num_ratings": sum(ratings.values(), sa.literal(0)),
        "sum_ratings": sum((value * num for value, num in ratings.items()), sa.literal(0)),
        **{
            f"num_user_{verdict}": sa.case((is_user, columns[f"num_{verdict}"]), else_=0)
            for verdict in ("good", "neutral", "bad")
        },
    }
    return _by_day(FEEDBACK, sums, filters)


def _interactions(filters: Filters) -> sa.Select[Any]:
    names = ("num_interactions", "num_with_feedback")
    return _by_day(INTERACTIONS, {name: INTERACTIONS.c[name] for name in names}, filters)


def _by_day(table: sa.Table, counts: dict[str, Any], filters: Filters) -> sa.Select[Any]:
    sums = [sa.func.sum(count).label(name) for name, count in counts.items()]
    return sa.select(table.c.day, *sums).where(*filters.conditions(table)).group_by(table.c.day)


def _add_up(days: Iterable[KeyFigures], num_raters: int) -> KeyFigures:
    each = list(days)
    sums = {name: sum(getattr(one, name) for one in each) for name in _COUNTS}
    return KeyFigures(**sums, num_raters=num_raters)


def _list_days(filters: Filters, known: dict[date, KeyFigures]) -> list[date]:
    since = filters.since or min(known, default=None)
    if since is None:
        return []
    last = max([today(), *known])
    until = filters.until or last
    if (until - since).days >= MAX_DAYS:
        since, until = max(since, min(known, default=last)), min(until, last)
        if (until - since).days >= MAX_DAYS:
            return sorted(known)
    return [since + timedelta(days=n) for n in range((until - since).days + 1)]
