"""Rows to examine, judged: what the model says of each, and what is so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.examples import Example, PreferencePair, ScoredCompletion, UnpairedPreference
from rlhf_core.rewards.base import Floats, RewardModel
from rlhf_core.rewards.logistic import Indices, Labels
from rlhf_core.rewards.measures import Measured, measure_labelled, measure_pairs
from rlhf_core.rewards.pairwise import compare
from rlhf_core.vocabulary import DatasetPurpose

ROWS_A_BLOCK = 512
NUM_WORST = 50


@dataclass(frozen=True)
class Mistake:
    """A row on which the model is far off. `error` in 0..1, 1 is the worst.

    `row` counts from 0 among the rows examined. Of a pair, `interaction_id` and `reward` are those
    of the chosen completion, `other_interaction_id` and `other_reward` of the rejected one;
    `rating` is the score (or 1 and 0 for a thumb), of a pair the margin.
    """

    row: int
    interaction_id: str
    reward: float
    rating: float
    error: float
    other_interaction_id: str = ""
    other_reward: float | None = None
    comparison_id: str = ""


@dataclass(frozen=True)
class Cases:
    """The rows with something to be right about; ties and pairs of one text are not among them.

    `rows[i]` is the i-th one's place among all. Of completions, `scores` are the model's and
    `labels` what is good; `probabilities` None where scores are free numbers. Of pairs,
    `probabilities` say that the chosen side is better, `scores` are the chosen sides' and
    `other_scores` the rejected ones'.
    """

    purpose: DatasetPurpose
    rows: Indices
    groups: list[str]
    segments: list[Mapping[str, str]]
    lengths: Floats
    prompts: list[str]
    completions: list[str]
    scores: Floats
    ratings: Floats
    ids: list[tuple[str, str, str]]
    labels: Labels
    probabilities: Floats | None
    others: list[str] | None = None
    other_scores: Floats | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_paired(self) -> bool:
        """Whether a row is two completions."""
        return self.others is not None

    @property
    def told(self) -> tuple[Floats, Labels] | None:
        """What was said and what is so, for a reliability plot; pairs seen from both sides."""
        if self.probabilities is None:
            return None
        if not self.is_paired:
            return self.probabilities, self.labels
        both = np.concatenate([self.probabilities, 1.0 - self.probabilities])
        return both, np.repeat([True, False], len(self.probabilities))

    def measure(
        self, weights: Floats, length_scores: Floats | None, part: Indices | None = None
    ) -> Measured:
        """The figures of all rows, or of a part of them; `weights` are those of the part."""
        place = np.arange(len(self.scores)) if part is None else part
        lengths = None if length_scores is None else length_scores[place]
        told = None if self.probabilities is None else self.probabilities[place]
        if self.is_paired and told is not None:
            return measure_pairs(told, weights=weights, length_log_odds=lengths)
        return measure_labelled(
            self.scores[place],
            self.labels[place],
            [self.groups[row] for row in place],
            weights=weights,
            probabilities=told,
            ratings=self.ratings[place],
            length_scores=lengths,
        )

    def count_confusion(self) -> dict[str, int]:
        """How often good and bad were told right and wrong; empty for pairs and free numbers."""
        if self.is_paired or self.probabilities is None:
            return {}
        says = self.probabilities >= 0.5
        return {
            "true_good": int((says & self.labels).sum()),
            "false_good": int((says & ~self.labels).sum()),
            "true_bad": int((~says & ~self.labels).sum()),
            "false_bad": int((~says & self.labels).sum()),
        }

    def find_worst(self) -> tuple[Mistake, ...]:
        """The rows that were told wrong, the most confident mistakes first; at most 50."""
        if self.probabilities is None:
            return ()
        errors = np.abs(self.probabilities - (1.0 if self.is_paired else self.labels))
        order = np.argsort(-errors, kind="stable")[:NUM_WORST]
        others = self.other_scores
        return tuple(
            Mistake(
                row=int(self.rows[place]),
                interaction_id=self.ids[place][0],
                reward=round(float(self.scores[place]), 6),
                rating=float(self.ratings[place]),
                error=round(float(errors[place]), 6),
                other_interaction_id=self.ids[place][1],
                other_reward=None if others is None else round(float(others[place]), 6),
                comparison_id=self.ids[place][2],
            )
            for place in order
            if errors[place] > 0.5
        )


def judge_rows(model: RewardModel, rows: Sequence[Example], *, threshold: float) -> Cases:
    """Score the rows. Raises NotEnoughData for none, InvalidInput for rows that are not sound."""
    if not rows:
        raise NotEnoughData(have=0, need=1, what="rows to examine")
    if all(isinstance(row, PreferencePair) for row in rows):
        return _judge_pairs(model, [row for row in rows if isinstance(row, PreferencePair)])
    kept = [row for row in rows if isinstance(row, ScoredCompletion | UnpairedPreference)]
    if len(kept) < len(rows) or len({type(row) for row in kept}) > 1:
        names = sorted({type(row).__name__ for row in rows})
        raise InvalidInput(
            f"The rows are {', '.join(names)}: a reward model is examined on scores, preference "
            "pairs or thumbs, one kind at a time."
        )
    for number, row in enumerate(kept):
        _refuse_empty(number, row.prompt, row.completion)
    prompts, completions = [row.prompt for row in kept], [row.completion for row in kept]
    scores = _score(model, prompts, completions)
    is_scored = isinstance(kept[0], ScoredCompletion)
    ratings = np.array(
        [row.score if isinstance(row, ScoredCompletion) else float(row.label) for row in kept]
    )
    return Cases(
        purpose=DatasetPurpose.SCORES if is_scored else DatasetPurpose.UNPAIRED,
        rows=np.arange(len(kept)),
        groups=[row.group for row in kept],
        segments=[row.segments for row in kept],
        lengths=np.array([float(len(text)) for text in completions]),
        prompts=prompts,
        completions=completions,
        scores=scores,
        ratings=ratings,
        ids=[(row.interaction_id, "", "") for row in kept],
        labels=ratings >= (threshold if is_scored else 0.5),
        probabilities=scores if model.is_probability else None,
    )


def _judge_pairs(model: RewardModel, rows: list[PreferencePair]) -> Cases:
    for number, row in enumerate(rows):
        _refuse_empty(number, row.prompt, row.chosen)
        _refuse_empty(number, row.prompt, row.rejected)
    places = [
        place for place, row in enumerate(rows) if row.margin > 0 and row.chosen != row.rejected
    ]
    if not places:
        raise NotEnoughData(have=0, need=1, what="pairs with a better side")
    decided = [rows[place] for place in places]
    prompts = [row.prompt for row in decided]
    chosen, rejected = [row.chosen for row in decided], [row.rejected for row in decided]
    notes: tuple[str, ...] = ()
    if len(decided) < len(rows):
        notes = (f"{len(rows) - len(decided)} of {len(rows)} pairs are ties: no side is right.",)
    return Cases(
        purpose=DatasetPurpose.PREFERENCES,
        rows=np.array(places),
        groups=[row.group for row in decided],
        segments=[row.segments for row in decided],
        lengths=np.array([float(len(row.chosen) - len(row.rejected)) for row in decided]),
        prompts=prompts,
        completions=chosen,
        scores=_score(model, prompts, chosen),
        ratings=np.array([row.margin for row in decided]),
        ids=[
            (row.chosen_interaction_id, row.rejected_interaction_id, row.comparison_id)
            for row in decided
        ],
        labels=np.ones(len(decided), dtype=bool),
        probabilities=_in_blocks(
            lambda part: compare(model, prompts[part], chosen[part], rejected[part]), len(decided)
        ),
        others=rejected,
        other_scores=_score(model, prompts, rejected),
        notes=notes,
    )


def _score(model: RewardModel, prompts: list[str], completions: list[str]) -> Floats:
    found = _in_blocks(lambda part: model.score(prompts[part], completions[part]), len(prompts))
    if not np.isfinite(found).all():
        raise InvalidInput(
            f"The model gives no number for {int((~np.isfinite(found)).sum())} of {len(found)} "
            "rows: train the version again."
        )
    return found


def _in_blocks(score: Any, total: int) -> Floats:
    blocks = [score(slice(at, at + ROWS_A_BLOCK)) for at in range(0, total, ROWS_A_BLOCK)]
    found: Floats = np.concatenate(blocks)
    return found


def _refuse_empty(number: int, prompt: str, completion: str) -> None:
    if not prompt.strip() or not completion.strip():
        part = "completion" if prompt.strip() else "prompt"
        raise InvalidInput(f"Row {number + 1} has an empty {part}: leave it out.")
