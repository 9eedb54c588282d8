"""What a version says of frozen rows, as it is compared: completions, pairs, and steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlhf_core.errors import InvalidInput
from rlhf_core.examples import Example, SteppedCompletion
from rlhf_core.rewards import evaluate
from rlhf_core.rewards.base import Floats, RewardModel
from rlhf_core.rewards.cases import Cases, judge_rows
from rlhf_core.rewards.logistic import Indices, Labels
from rlhf_core.rewards.measures import labelled_statistics, pair_statistics
from rlhf_core.rewards.paired import Block, Row, Sheet
from rlhf_core.rewards.slices import cut_parts, cut_segments
from rlhf_core.rewards.steps_examination import NAMES, check_stepped, to_log_odds
from rlhf_core.rewards.steps_model import StepRewardModel
from rlhf_core.rewards.steps_rows import flatten, flatten_labels
from rlhf_core.rewards.steps_search import (
    KnownErrors,
    compute_first_error,
    find_places,
    know_errors,
    locate_error,
)

NUM_STEPS = "number of steps"


def judge_sheet(model: RewardModel, rows: Sequence[Example], *, threshold: float) -> Sheet:
    """Let a version judge the rows. `threshold`: a rating at or above it is good.

    Raises NotEnoughData where there is nothing to judge, InvalidInput for rows that do not fit.
    """
    if rows and all(isinstance(row, SteppedCompletion) for row in rows):
        return judge_steps(model, [row for row in rows if isinstance(row, SteppedCompletion)])
    return CaseSheet(judge_rows(model, rows, threshold=threshold))


@dataclass(frozen=True)
class CaseSheet:
    """Completions that are good or not, or pairs with a better side."""

    cases: Cases

    @cached_property
    def rows(self) -> Sequence[Row]:
        """The rows with something to be right about."""
        found = self.cases
        return [
            Row(
                row=int(found.rows[place]),
                group=found.groups[place],
                interaction_id=found.ids[place][0],
                other_id=found.ids[place][1],
                rating=float(found.ratings[place]),
                is_good=None if found.is_paired else bool(found.labels[place]),
            )
            for place in range(len(found.scores))
        ]

    @property
    def said(self) -> Floats:
        """The scores; of pairs P(the better side is better)."""
        if self.cases.is_paired and self.cases.probabilities is not None:
            return self.cases.probabilities
        return self.cases.scores

    @property
    def verdicts(self) -> Labels:
        """P >= 0.5; of free numbers those above their median."""
        middle = 0.5 if self.is_probability else float(np.median(self.said))
        found: Labels = self.said >= middle if self.is_probability else self.said > middle
        return found

    @property
    def is_probability(self) -> bool:
        """Whether a score is a chance."""
        return self.cases.probabilities is not None

    @property
    def told(self) -> tuple[Floats, Labels] | None:
        """Chances and what is so."""
        return self.cases.told

    def cut_parts(self) -> list[tuple[str, str, Indices]]:
        """By segment and by length."""
        return cut_parts(self.cases)

    def make_blocks(self, part: Indices | None = None) -> list[Block]:
        """One block: all figures are of the same rows."""
        found = self.cases
        place = np.arange(len(found.scores)) if part is None else part
        groups = [found.groups[row] for row in place]
        told = None if found.probabilities is None else found.probabilities[place]
        if found.is_paired and told is not None:
            return [Block(groups, pair_statistics(told))]
        return [
            Block(
                groups,
                labelled_statistics(
                    found.scores[place],
                    found.labels[place],
                    groups,
                    probabilities=told,
                    ratings=found.ratings[place],
                ),
            )
        ]


def judge_steps(model: RewardModel, rows: Sequence[SteppedCompletion]) -> "StepSheet":
    """Let a step model judge solutions. Raises as `steps_examination.examine_steps`."""
    if not isinstance(model, StepRewardModel):
        raise InvalidInput("Only step models can be compared on step labels: choose other rows.")
    check_stepped(rows)
    scores = model.score_steps([row.prompt for row in rows], [row.completions for row in rows])
    return StepSheet(tuple(rows), tuple(scores), model.spec.threshold)


@dataclass(frozen=True)
class StepSheet:
    """Solutions in steps: P(right) of each step, and the threshold from which one is faultless."""

    solutions: tuple[SteppedCompletion, ...]
    scores: tuple[Floats, ...]
    threshold: float
    is_probability = True

    @cached_property
    def known(self) -> KnownErrors:
        """The solutions of which people said where the first mistake is."""
        return know_errors(self.solutions)

    @cached_property
    def rows(self) -> Sequence[Row]:
        """All solutions; nobody said of some whether they are faultless."""
        faultless = dict(zip(self.known.rows.tolist(), self.known.is_faultless, strict=True))
        return [
            Row(
                row=number,
                group=solution.group,
                interaction_id=solution.interaction_id,
                other_id="",
                rating=float(faultless[number]) if number in faultless else None,
                is_good=bool(faultless[number]) if number in faultless else None,
            )
            for number, solution in enumerate(self.solutions)
        ]

    @cached_property
    def said(self) -> Floats:
        """P(no mistake) of each solution."""
        return np.array([float(locate_error(of_steps)[-1]) for of_steps in self.scores])

    @cached_property
    def verdicts(self) -> Labels:
        """The solutions in which it names no mistake."""
        places = find_places(self.scores, self.threshold)
        found: Labels = places == np.array([len(of_steps) for of_steps in self.scores])
        return found

    @property
    def told(self) -> tuple[Floats, Labels] | None:
        """P(right) of the judged steps, and whether they are."""
        return flatten(self.scores, self.solutions), flatten_labels(self.solutions)[0]

    def cut_parts(self) -> list[tuple[str, str, Indices]]:
        """By segment, and by the number of steps in quartiles."""
        counts = np.array([len(solution.labels) for solution in self.solutions])
        bounds = np.quantile(counts, [0.25, 0.5, 0.75])
        quartiles = np.searchsorted(bounds, counts) + 1
        by_steps = [
            (NUM_STEPS, f"quartile {number}", np.flatnonzero(quartiles == number))
            for number in np.unique(quartiles)
        ]
        return [*cut_segments([one.segments for one in self.solutions]), *by_steps]

    def make_blocks(self, part: Indices | None = None) -> list[Block]:
        """Two blocks: the first mistakes of solutions, and single steps."""
        wanted = np.arange(len(self.solutions)) if part is None else part
        solutions = [self.solutions[row] for row in wanted]
        scores = [self.scores[row] for row in wanted]
        blocks = []
        known = know_errors(solutions)
        if len(known.rows):
            found = find_places([scores[row] for row in known.rows], self.threshold)
            blocks.append(
                Block(known.groups, {name: _figure(found, known, name) for name in NAMES})
            )
        labels, of_row = flatten_labels(solutions)
        if len(labels):
            chances = flatten(scores, solutions)
            groups = [solutions[row].group for row in of_row]
            statistics = labelled_statistics(
                to_log_odds(chances), labels, groups, probabilities=chances
            )
            blocks.append(Block(groups, statistics))
        return blocks


def _figure(found: Indices, known: KnownErrors, name: str) -> evaluate.Statistic:
    return lambda w: compute_first_error(found, known, w).get(name, np.full(len(w), np.nan))
