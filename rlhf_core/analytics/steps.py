"""Where reasoning goes wrong: labels of steps by position and kind, and the first mistake."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval, wilson_interval
from rlhf_core.analytics.differences import subtract_shares
from rlhf_core.analytics.filters import EVERYTHING, Filters
from rlhf_core.analytics.rollup_steps import NO_MISTAKE
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import StepAnswerRollup, StepRollup

LABELS = table_of(StepRollup)
ANSWERS = table_of(StepAnswerRollup)

FEW = 5
"""Labels (right or wrong) under which a place is not ranked."""


@dataclass(frozen=True)
class StepLabels:
    """Labels of the steps at one position (from 0), of one kind ('': none), or both; None: any."""

    position: int | None
    kind: str | None
    num_good: int
    num_neutral: int
    num_wrong: int

    @property
    def num_labels(self) -> int:
        """All of them."""
        return self.num_good + self.num_neutral + self.num_wrong

    @property
    def wrong(self) -> Interval | None:
        """The share of wrong among right and wrong, with Wilson's 95 % interval."""
        return wilson_interval(self.num_wrong, self.num_good + self.num_wrong)


@dataclass(frozen=True)
class MistakeFigures:
    """Answers whose first wrong step is at `position`; None: those without a mistake.

    `approval` is that of people's feedback on these answers.
    """

    position: int | None
    num_answers: int
    num_good: int
    num_bad: int

    @property
    def approval(self) -> Interval | None:
        """Good among good and bad."""
        return wilson_interval(self.num_good, self.num_good + self.num_bad)


@dataclass(frozen=True)
class StepReport:
    """`worst` are places (position and kind), the most surely wrong first.

    `mistakes` are the answers by their first mistake, in order of its position; `flawless` those
    without; `flawed` all with one. `approval_change`: what a mistake in a step does to the
    approval of the answer, with Newcombe's interval; None where one side has no feedback.
    """

    all_labels: StepLabels
    by_position: tuple[StepLabels, ...]
    by_kind: tuple[StepLabels, ...]
    worst: tuple[StepLabels, ...]
    mistakes: tuple[MistakeFigures, ...]
    flawed: MistakeFigures
    flawless: MistakeFigures
    approval_change: Interval | None


def read_steps(
    db: Session, *, actor: Actor, filters: Filters = EVERYTHING, num_worst: int = 10
) -> StepReport:
    """The labels given in the period, and the answers of the period that have labels.

    A kind of rater narrows the labels, and leaves the answers as they are: which step of them is
    wrong, all raters of the step say together.
    """
    require(actor, Permission.READ_ANALYTICS)
    names = ("num_good", "num_neutral", "num_wrong")
    rows = db.execute(
        sa.select(LABELS.c.position, LABELS.c.kind, *(sa.func.sum(LABELS.c[n]) for n in names))
        .where(*filters.conditions(LABELS))
        .group_by(LABELS.c.position, LABELS.c.kind)
        .order_by(LABELS.c.position, LABELS.c.kind)
    )
    places = [StepLabels(row[0], row[1], *(int(value) for value in row[2:])) for row in rows]
    mistakes, flawless = _read_mistakes(db, filters)
    flawed = MistakeFigures(
        None,
        sum(one.num_answers for one in mistakes),
        sum(one.num_good for one in mistakes),
        sum(one.num_bad for one in mistakes),
    )
    by_kind = _merge((None, one.kind, one) for one in places)
    with_mistake, without = flawed.approval, flawless.approval
    return StepReport(
        all_labels=(_merge((None, None, one) for one in places) or [_NONE])[0],
        by_position=tuple(_merge((one.position, None, one) for one in places)),
        by_kind=tuple(sorted(by_kind, key=lambda one: (-one.num_labels, one.kind or ""))),
        worst=tuple(_rank(places)[:num_worst]),
        mistakes=tuple(mistakes),
        flawed=flawed,
        flawless=flawless,
        approval_change=(
            subtract_shares(with_mistake, without) if with_mistake and without else None
        ),
    )


_NONE = StepLabels(None, None, 0, 0, 0)


def _read_mistakes(db: Session, filters: Filters) -> tuple[list[MistakeFigures], MistakeFigures]:
    names = ("num_answers", "num_good", "num_bad")
    rows = db.execute(
        sa.select(ANSWERS.c.first_wrong, *(sa.func.sum(ANSWERS.c[name]) for name in names))
        .where(*filters.conditions(ANSWERS))
        .group_by(ANSWERS.c.first_wrong)
        .order_by(ANSWERS.c.first_wrong)
    )
    flawless = MistakeFigures(None, 0, 0, 0)
    mistakes = []
    for position, *counts in rows:
        numbers = [int(value) for value in counts]
        if position == NO_MISTAKE:
            flawless = MistakeFigures(None, *numbers)
        else:
            mistakes.append(MistakeFigures(position, *numbers))
    return mistakes, flawless


def _merge(
    places: Iterable[tuple[int | None, str | None, StepLabels]],
) -> list[StepLabels]:
    """The labels of all places with the same (position, kind), in the order in which they come."""
    sums: dict[tuple[int | None, str | None], Counter[str]] = defaultdict(Counter)
    for position, kind, one in places:
        sums[position, kind].update(
            num_good=one.num_good, num_neutral=one.num_neutral, num_wrong=one.num_wrong
        )
    return [
        StepLabels(position, kind, sum_["num_good"], sum_["num_neutral"], sum_["num_wrong"])
        for (position, kind), sum_ in sums.items()
    ]


def _rank(places: list[StepLabels]) -> list[StepLabels]:
    """By the lower end of the interval: so one wrong label of one is not the worst place."""
    ranked = [
        (one.wrong.low, one)
        for one in places
        if one.wrong is not None and one.num_wrong and one.num_good + one.num_wrong >= FEW
    ]
    ranked.sort(key=lambda pair: (-pair[0], pair[1].position or 0, pair[1].kind or ""))
    return [one for _, one in ranked]
