"""Did the answers change, or those who judge them? Told by what stays the same.

Experts' approval moves when answers get better or worse, and also when raters get milder or
stricter. On items whose right answer is known, and on items that a rater is shown again, the
answers are the same before and after: what moves there is the raters alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from math import sqrt
from statistics import fmean, variance

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval, wilson_interval
from rlhf_core.analytics.differences import NORMAL_95, subtract_shares
from rlhf_core.analytics.filters import start_of_day
from rlhf_core.analytics.rater_rows import TwoAnswers, read_gold, read_repeats, verdict_of
from rlhf_core.analytics.raw_rows import is_by
from rlhf_core.analytics.rollup_days import day_of
from rlhf_core.analytics.scope import EVERYTHING, Scope, about
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_counted, is_good
from rlhf_core.store.tables import RatingQueueItem
from rlhf_core.vocabulary import QueueItemKind, QueueSubject, RaterKind

MIN_FIXED = 10
"""Verdicts on fixed items that each half needs."""
NUM_HALVES = 2


class DriftCause(StrEnum):
    """What the change of approval is due to, as far as the fixed items tell."""

    NOTHING = "nothing"
    ANSWERS = "answers"
    RATERS = "raters"
    BOTH = "both"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class DriftWeek:
    """The week that begins on this Monday. `leniency`: by how much more often raters called items
    with a known answer good than these are (0: they are right on the whole); None without any.
    """  # noqa: D205

    start: date
    approval: Interval | None
    num_verdicts: int
    leniency: float | None
    num_known: int


@dataclass(frozen=True)
class RaterDrift:
    """The days from `split_on` on against those before it; changes are of shares, -1 to 1.

    `on_known`: of experts' leniency on items with a known answer. `approval`: of their verdicts on
    all others. `on_repeats`: of a rater's verdict on an item that was shown before and again
    after. `raters`: the two together, weighted by how sure they are. `answers`: what is left of the
    approval's change without the raters'. All with 95 % intervals, None where too little is known.
    """

    weeks: tuple[DriftWeek, ...]
    split_on: date
    approval: Interval | None
    on_known: Interval | None
    num_known: int
    on_repeats: Interval | None
    num_repeats: int
    raters: Interval | None
    answers: Interval | None
    cause: DriftCause


def read_rater_drift(db: Session, *, actor: Actor, scope: Scope = EVERYTHING) -> RaterDrift | None:
    """The change between the two halves of the experts' verdicts; None where there are none.

    The first half ends where half of the verdicts had been given.
    """
    require(actor, Permission.READ_ANALYTICS)
    days = _count_days(db, scope)
    if not days:
        return None
    split_on = _find_middle(days)
    known = [
        (row.other_at.astimezone(UTC).date(), shift)
        for row in read_gold(db, QueueSubject.COMPLETIONS, scope)
        if (shift := _shift(row)) is not None
    ]
    middle = start_of_day(split_on)
    repeats = [
        shift
        for row in read_repeats(db, QueueSubject.COMPLETIONS, scope)
        if _is_across(row, middle) and (shift := _shift(row)) is not None
    ]
    before = [shift for day, shift in known if day < split_on]
    after = [shift for day, shift in known if day >= split_on]
    approval = _change_of_approval(days, split_on)
    on_known = _subtract_means(after, before)
    on_repeats = _mean(repeats)
    raters = _combine([one for one in (on_known, on_repeats) if one is not None])
    answers = _subtract(approval, raters) if approval and raters else None
    return RaterDrift(
        weeks=_list_weeks(days, known),
        split_on=split_on,
        approval=approval,
        on_known=on_known,
        num_known=len(known),
        on_repeats=on_repeats,
        num_repeats=len(repeats),
        raters=raters,
        answers=answers,
        cause=_judge(raters, answers),
    )


def _count_days(db: Session, scope: Scope) -> dict[date, tuple[int, int]]:
    """(good, bad) verdicts of experts on completions whose answer nobody knows, by day."""
    good, bad = is_good(FEEDBACK), is_bad(FEEDBACK)
    day = day_of(db, FEEDBACK.c.occurred_at).label("day")
    known = sa.select(RatingQueueItem.interaction_id).where(
        RatingQueueItem.kind == QueueItemKind.GOLD
    )
    rows = db.execute(
        sa.select(day, sa.func.count().filter(good), sa.func.count().filter(bad))
        .where(
            FEEDBACK.c.step_id.is_(None),
            is_counted(FEEDBACK),
            is_by([RaterKind.SME]),
            FEEDBACK.c.interaction_id.not_in(known),
            sa.or_(good, bad),
            *about(scope, FEEDBACK.c.interaction_id),
        )
        .group_by(day)
        .order_by(day)
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def _find_middle(days: dict[date, tuple[int, int]]) -> date:
    total = sum(good + bad for good, bad in days.values())
    so_far = 0
    ordered = sorted(days)
    for day in ordered[:-1]:
        so_far += sum(days[day])
        if so_far * NUM_HALVES >= total:
            return day + timedelta(days=1)
    return ordered[-1]


def _shift(row: TwoAnswers) -> int | None:
    """+1: called good what is known, or was called, bad before; -1 the opposite; 0: the same."""
    one, other = (verdict_of(QueueSubject.COMPLETIONS, value) for value in (row.one, row.other))
    return None if one is None or other is None else other - one


def _is_across(row: TwoAnswers, middle: datetime) -> bool:
    return row.one_at is not None and row.one_at < middle <= row.other_at


def _change_of_approval(days: dict[date, tuple[int, int]], split_on: date) -> Interval | None:
    halves = []
    for is_after in (True, False):
        own = [counts for day, counts in days.items() if (day >= split_on) is is_after]
        num_good = sum(good for good, _ in own)
        halves.append(wilson_interval(num_good, num_good + sum(bad for _, bad in own)))
    after, before = halves
    return subtract_shares(after, before) if after and before else None


def _mean(values: Sequence[int]) -> Interval | None:
    if len(values) < MIN_FIXED:
        return None
    return _around(fmean(values), _variance_of_mean(values))


def _subtract_means(after: Sequence[int], before: Sequence[int]) -> Interval | None:
    if min(len(after), len(before)) < MIN_FIXED:
        return None
    spread = _variance_of_mean(after) + _variance_of_mean(before)
    return _around(fmean(after) - fmean(before), spread)


def _variance_of_mean(values: Sequence[int]) -> float:
    """At least what one odd verdict among them would make it: all alike is no certainty."""
    num = len(values)
    return max(variance(values), 1 / num) / num


def _around(value: float, spread: float) -> Interval:
    half = NORMAL_95 * sqrt(spread)
    return Interval(value, max(-1.0, value - half), min(1.0, value + half))


def _spread(interval: Interval) -> float:
    return ((interval.high - interval.low) / (2 * NORMAL_95)) ** 2


def _combine(intervals: Sequence[Interval]) -> Interval | None:
    if not intervals:
        return None
    weights = [1 / _spread(one) for one in intervals]
    pairs = zip(intervals, weights, strict=True)
    value = sum(one.value * weight for one, weight in pairs) / sum(weights)
    return _around(value, 1 / sum(weights))


def _subtract(one: Interval, other: Interval) -> Interval:
    return _around(one.value - other.value, _spread(one) + _spread(other))


def _judge(raters: Interval | None, answers: Interval | None) -> DriftCause:
    if raters is None or answers is None:
        return DriftCause.UNKNOWN
    changed = (not raters.low <= 0 <= raters.high, not answers.low <= 0 <= answers.high)
    return {
        (False, False): DriftCause.NOTHING,
        (False, True): DriftCause.ANSWERS,
        (True, False): DriftCause.RATERS,
        (True, True): DriftCause.BOTH,
    }[changed]


def _list_weeks(
    days: dict[date, tuple[int, int]], known: Iterable[tuple[date, int]]
) -> tuple[DriftWeek, ...]:
    verdicts: dict[date, list[tuple[int, int]]] = {}
    for day, counts in days.items():
        verdicts.setdefault(_monday(day), []).append(counts)
    shifts: dict[date, list[int]] = {}
    for day, shift in known:
        shifts.setdefault(_monday(day), []).append(shift)
    weeks = []
    for start in sorted({*verdicts, *shifts}):
        num_good = sum(good for good, _ in verdicts.get(start, ()))
        num_all = num_good + sum(bad for _, bad in verdicts.get(start, ()))
        own = shifts.get(start, [])
        weeks.append(
            DriftWeek(
                start=start,
                approval=wilson_interval(num_good, num_all),
                num_verdicts=num_all,
                leniency=fmean(own) if own else None,
                num_known=len(own),
            )
        )
    return tuple(weeks)


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())
