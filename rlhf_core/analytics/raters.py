"""How reliable each rater is: against the others, known answers, and themselves."""

import statistics
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval, dawid_skene, wilson_interval
from rlhf_core.agreement.dawid_skene import MIN_ANSWERS
from rlhf_core.analytics.rater_rows import (
    Answer,
    TwoAnswers,
    judgements,
    read_durations,
    read_gold,
    read_repeats,
    read_shared,
    verdict_of,
)
from rlhf_core.analytics.scope import EVERYTHING, Scope
from rlhf_core.store.tables import Account, Rater
from rlhf_core.vocabulary import QueueSubject, RaterKind

MAX_RATERS = 200


@dataclass(frozen=True)
class RaterFigures:
    """One rater. Shares are of verdicts (good or bad, right or wrong, the one or the other).

    `with_others`: how often the verdict is that of most others, each time without the rater's own,
    of `num_shared` things (evenly split ones left out). `points_above`: rating points above the
    mean of the others, of completions. `gold`: of `num_gold` known answers. `with_self`: of
    `num_repeats` things shown again. `quality`: P(right) by one-coin Dawid-Skene, which learns the
    truth and the raters from each other; None under 20 things shared with others. Shares come with
    95 % Wilson intervals, which take the things as independent.
    """

    rater_id: uuid.UUID
    name: str
    rater_kind: RaterKind
    num_judged: int
    median_s: float | None
    with_others: Interval | None
    num_shared: int
    points_above: float | None
    gold: Interval | None
    num_gold: int
    with_self: Interval | None
    num_repeats: int
    quality: float | None


@dataclass(frozen=True)
class RaterReport:
    """The raters with the most judgements first; `num_more` others judged less.

    End users are never listed: `num_end_users` of them gave `num_by_end_users` judgements, which
    count among "the others".
    """

    raters: tuple[RaterFigures, ...]
    num_more: int
    num_end_users: int
    num_by_end_users: int


def report_raters(
    db: Session,
    *,
    actor: Actor,
    subject: QueueSubject = QueueSubject.COMPLETIONS,
    scope: Scope = EVERYTHING,
    limit: int = MAX_RATERS,
) -> RaterReport:
    """The figures of everyone who judged completions, steps or pairs within the scope."""
    require(actor, Permission.READ_ANALYTICS)
    table, where = judgements(subject, scope)
    rows = db.execute(
        sa.select(Rater.id, Rater.pseudonym, Rater.rater_kind, Account.name, sa.func.count())
        .select_from(table)
        .join(Rater, Rater.id == table.rater_id)
        .outerjoin(Account, Account.id == Rater.account_id)
        .where(*where, Rater.rater_kind != RaterKind.END_USER)
        .group_by(Rater.id, Rater.pseudonym, Rater.rater_kind, Account.name)
    ).all()
    num_end_users, num_by_end_users = db.execute(
        sa.select(sa.func.count(sa.distinct(table.rater_id)), sa.func.count())
        .select_from(table)
        .join(Rater, Rater.id == table.rater_id)
        .where(*where, Rater.rater_kind == RaterKind.END_USER)
    ).one()
    others = sorted(rows, key=lambda row: (-row[4], row.pseudonym))
    shown = others[:limit]
    times = read_durations(db, subject, scope, [row.id for row in shown])
    shared = _compare_with_others(read_shared(db, subject, scope), subject)
    gold = _count_hits(read_gold(db, subject, scope), subject)
    repeats = _count_hits(read_repeats(db, subject, scope), subject)
    figures = []
    for row in shown:
        seconds = times.get(row.id)
        known, again = gold.get(row.id, (0, 0)), repeats.get(row.id, (0, 0))
        among = shared.get(row.id, _NOBODY)
        figures.append(
            RaterFigures(
                rater_id=row.id,
                name=row.name or short_name(row.pseudonym),
                rater_kind=row.rater_kind,
                num_judged=row[4],
                median_s=statistics.median(seconds) if seconds else None,
                with_others=wilson_interval(among.num_equal, among.num_decided),
                num_shared=among.num_decided,
                points_above=among.points_above,
                gold=wilson_interval(*known),
                num_gold=known[1],
                with_self=wilson_interval(*again),
                num_repeats=again[1],
                quality=among.quality,
            )
        )
    return RaterReport(
        raters=tuple(figures),
        num_more=len(others) - len(shown),
        num_end_users=num_end_users,
        num_by_end_users=num_by_end_users,
    )


def short_name(pseudonym: str) -> str:
    """What a rater without an account is called on screen."""
    return f"rater {pseudonym[2:10]}"


@dataclass(frozen=True)
class _AmongOthers:
    num_equal: int = 0
    num_decided: int = 0
    points_above: float | None = None
    quality: float | None = None


_NOBODY = _AmongOthers()


def _compare_with_others(
    answers: Iterable[Answer], subject: QueueSubject
) -> dict[uuid.UUID, _AmongOthers]:
    """Each rater against the others of each thing, without their own answer."""
    equal: Counter[uuid.UUID] = Counter()
    decided: Counter[uuid.UUID] = Counter()
    above: dict[uuid.UUID, list[float]] = {}
    said: list[tuple[int, uuid.UUID, int]] = []
    for number, (_, group) in enumerate(groupby(answers, key=lambda one: one.thing)):
        rows = list(group)
        total = sum(row.answer for row in rows)
        verdicts = {row.rater_id: verdict_of(subject, row.answer) for row in rows}
        given = {rater: verdict for rater, verdict in verdicts.items() if verdict is not None}
        num_for = sum(given.values())
        for rater, verdict in given.items():
            said.append((number, rater, verdict))
            lead = 2 * (num_for - verdict) - (len(given) - 1)  # of yes over no among the others
            if lead:
                decided[rater] += 1
                equal[rater] += verdict == (lead > 0)
        if subject is QueueSubject.COMPLETIONS:
            for row in rows:
                others = (total - row.answer) / (len(rows) - 1)
                above.setdefault(row.rater_id, []).append(row.answer - others)
    quality = _learn_quality(said)
    return {
        rater: _AmongOthers(
            num_equal=equal[rater],
            num_decided=decided[rater],
            points_above=statistics.fmean(above[rater]) if rater in above else None,
            quality=quality.get(rater),
        )
        for rater in {*above, *(rater for _, rater, _ in said)}
    }


def _learn_quality(said: list[tuple[int, uuid.UUID, int]]) -> dict[uuid.UUID, float]:
    """P(right) of every rater with enough answers to things that others judged, too."""
    if not said:
        return {}
    things, raters, verdicts = zip(*said, strict=True)
    accuracy = dawid_skene(things, raters, verdicts, num_values=2).accuracy
    counts = Counter(raters)
    return {rater: accuracy[rater] for rater, count in counts.items() if count >= MIN_ANSWERS}


def _count_hits(
    rows: Iterable[TwoAnswers], subject: QueueSubject
) -> dict[uuid.UUID, tuple[int, int]]:
    """(how often both answers are the same verdict, of how many), by rater."""
    found: dict[uuid.UUID, tuple[int, int]] = {}
    for row in rows:
        wanted, got = verdict_of(subject, row.one), verdict_of(subject, row.other)
        if wanted is not None and got is not None:
            hits, trials = found.get(row.rater_id, (0, 0))
            found[row.rater_id] = (hits + (wanted == got), trials + 1)
    return found
