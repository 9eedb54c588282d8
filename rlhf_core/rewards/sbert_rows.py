"""Rows of any kind, as the embeddings model learns from them: sides, labels, weights, groups."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np

from rlhf_core.errors import InvalidInput, RlhfError
from rlhf_core.examples import PreferencePair, ScoredCompletion, UnpairedPreference
from rlhf_core.rewards.heads import OVERALL
from rlhf_core.rewards.logistic import Floats, Indices, Labels
from rlhf_core.rewards.requirements import (
    RowCounts,
    find_obstacle,
    find_pair_obstacle,
    find_thumb_obstacle,
)
from rlhf_core.training import Tracker

TrainingRow = ScoredCompletion | PreferencePair | UnpairedPreference
Row = TypeVar("Row", ScoredCompletion, PreferencePair, UnpairedPreference)
MIN_ASPECT_ROWS = 50
GAMMA_SHAPE = 4.0
MAX_ASPECTS = 10
"""Each head adds about 6 KB; with the overall one they stay under 100 KB."""


class Objective(StrEnum):
    """What a model was trained on."""

    SCORES = "scores"
    PAIRS = "pairs"
    THUMBS = "thumbs"


@dataclass(frozen=True)
class AspectRows:
    """The rows (of all) that were rated in an aspect, and whether they are good in it."""

    rows: Indices
    labels: Labels


@dataclass(frozen=True)
class Prepared:
    """What is learned from, row by row.

    Of pairs, `completions` holds one side and `others` the other, in an order drawn by the text,
    and `labels` says whether the first is the better one; a tie stands twice, once with each
    answer, at half the weight. Else `others` is None and `labels` says what is good.
    """

    objective: Objective
    prompts: list[str]
    completions: list[str]
    others: list[str] | None
    labels: Labels
    weights: Floats
    groups: list[str]
    ratings: Floats | None = None
    is_tie: Labels | None = None
    aspects: dict[str, AspectRows] = field(default_factory=dict)
    num_rows: int = 0
    num_ratings: int = 0

    @property
    def is_paired(self) -> bool:
        """Whether a row is two sides."""
        return self.others is not None

    def texts(self) -> list[str]:
        """Every text once, the shortest first."""
        once = {*self.prompts, *self.completions, *(self.others or ())}
        return sorted(once, key=lambda text: (len(text), text))


def prepare_rows(
    rows: Sequence[TrainingRow], *, threshold: float, max_rows: int, seed: int, tracker: Tracker
) -> Prepared:
    """Check the rows and bring them into the form that is learned from.

    Raises InvalidInput for a row that is not sound or of another kind than the first,
    NotEnoughData or TrainingFailed where they cannot train a model.
    """
    scored = [row for row in rows if isinstance(row, ScoredCompletion)]
    pairs = [row for row in rows if isinstance(row, PreferencePair)]
    thumbs = [row for row in rows if isinstance(row, UnpairedPreference)]
    if max(len(scored), len(pairs), len(thumbs)) < len(rows):
        raise InvalidInput(
            "The rows are of several kinds, or of one that this model does not learn from: give "
            "scores, preference pairs or thumbs."
        )
    if pairs:
        prepared = _prepare_pairs(_draw_prompts(pairs, max_rows, seed, tracker), tracker)
    elif thumbs:
        prepared = _prepare_thumbs(_draw_prompts(thumbs, max_rows, seed, tracker))
    else:
        drawn = _draw_prompts(scored, max_rows, seed, tracker)
        prepared = _prepare_scores(drawn, threshold, tracker)
    return prepared


def draw_weights(prepared: Prepared, seed: int) -> Prepared:
    """Each prompt weighed by a draw of its own, so that another seed gives another model.

    Like the Bayesian bootstrap (Rubin 1981), no row is lost by it. Its exponential weights would
    make members so much worse that their mean is worse than one model of all rows (AUC 0.756
    against 0.766 on a public set); gamma weights of half the deviation do not.
    """
    names, members = np.unique(np.asarray(prepared.groups), return_inverse=True)
    drawn = np.random.default_rng(seed).gamma(GAMMA_SHAPE, 1 / GAMMA_SHAPE, size=len(names))
    return replace(prepared, weights=prepared.weights * drawn[members])


def count_rows(rows: Sequence[ScoredCompletion], threshold: float) -> RowCounts:
    """What `requirements.find_obstacle` asks of rows."""
    scores = [row.score for row in rows] or [0.0]
    return RowCounts(
        num_rows=len(rows),
        num_good=sum(row.score >= threshold for row in rows),
        num_prompts=len({row.group for row in rows}),
        num_prompts_good=len({row.group for row in rows if row.score >= threshold}),
        num_prompts_bad=len({row.group for row in rows if row.score < threshold}),
        lowest=min(scores),
        highest=max(scores),
    )


def _draw_prompts(rows: list[Row], max_rows: int, seed: int, tracker: Tracker) -> list[Row]:
    """At most `max_rows` rows: whole prompts, in an order that only seed and prompt decide."""
    if len(rows) <= max_rows:
        return rows

    def draw(group: str) -> bytes:
        return hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()

    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: draw(row.group)):
        if len(kept) >= max_rows and row.group != kept[-1].group:
            break
        kept.append(row)
    tracker.log(
        f"{len(rows) - len(kept)} of {len(rows)} rows are left out: a run learns from at most "
        f"{max_rows}, drawn by prompt."
    )
    return kept


def _prepare_scores(rows: list[ScoredCompletion], threshold: float, tracker: Tracker) -> Prepared:
    for number, row in enumerate(rows, start=1):
        _refuse_empty(number, row.interaction_id, prompt=row.prompt, completion=row.completion)
        if not 1.0 <= row.score <= 5.0 or row.num_ratings < 1:
            raise InvalidInput(
                f"Row {number} (interaction {row.interaction_id}) has the rating {row.score} of "
                f"{row.num_ratings} raters: ratings go from 1 to 5."
            )
    _raise(find_obstacle(count_rows(rows, threshold), threshold=threshold))
    return Prepared(
        objective=Objective.SCORES,
        prompts=[row.prompt for row in rows],
        completions=[row.completion for row in rows],
        others=None,
        labels=np.array([row.score >= threshold for row in rows]),
        # A mean of nine ratings says more than one, but not nine times as much: people differ.
        weights=np.sqrt([float(row.num_ratings) for row in rows]),
        groups=[row.group for row in rows],
        ratings=np.array([row.score for row in rows]),
        aspects=_find_aspects(rows, threshold, tracker),
        num_rows=len(rows),
        num_ratings=sum(row.num_ratings for row in rows),
    )


def _prepare_thumbs(rows: list[UnpairedPreference]) -> Prepared:
    for number, row in enumerate(rows, start=1):
        _refuse_empty(number, row.interaction_id, prompt=row.prompt, completion=row.completion)
    up, down = [row for row in rows if row.label], [row for row in rows if not row.label]
    _raise(
        find_thumb_obstacle(
            num_up=len(up),
            num_down=len(down),
            num_prompts_up=len({row.group for row in up}),
            num_prompts_down=len({row.group for row in down}),
        )
    )
    labels = np.array([row.label for row in rows])
    return Prepared(
        objective=Objective.THUMBS,
        prompts=[row.prompt for row in rows],
        completions=[row.completion for row in rows],
        others=None,
        labels=labels,
        weights=np.ones(len(rows)),
        groups=[row.group for row in rows],
        ratings=labels.astype(np.float64),
        num_rows=len(rows),
        num_ratings=len(rows),
    )


def _prepare_pairs(rows: list[PreferencePair], tracker: Tracker) -> Prepared:
    for number, row in enumerate(rows, start=1):
        for name, completion in (("chosen", row.chosen), ("rejected", row.rejected)):
            _refuse_empty(
                number,
                row.comparison_id or row.chosen_interaction_id,
                prompt=row.prompt,
                completion=completion,
                what=f"{name} completion",
            )
        if not row.margin >= 0 or row.num_votes < 1:
            raise InvalidInput(
                f"Row {number} has the margin {row.margin} of {row.num_votes} votes: a margin is 0 "
                "(a tie) or more, and somebody chose."
            )
    differing = [row for row in rows if row.chosen != row.rejected]
    if len(differing) < len(rows):
        tracker.log(
            f"{len(rows) - len(differing)} of {len(rows)} pairs are left out: both sides have the "
            "same text."
        )
    decided = [row for row in differing if row.margin > 0]
    _raise(
        find_pair_obstacle(num_pairs=len(decided), num_prompts=len({row.group for row in decided}))
    )
    # A tie stands twice, once with each answer: the model is taught that the two are even.
    entries = [(row, side, row.margin == 0) for row in differing for side in _sides_of(row)]
    return Prepared(
        objective=Objective.PAIRS,
        prompts=[row.prompt for row, _, _ in entries],
        completions=[_order(row)[0] for row, _, _ in entries],
        others=[_order(row)[1] for row, _, _ in entries],
        labels=np.array([side for _, side, _ in entries]),
        weights=np.array(
            [np.sqrt(row.num_votes) * (0.5 if is_tie else 1.0) for row, _, is_tie in entries]
        ),
        groups=[row.group for row, _, _ in entries],
        is_tie=np.array([is_tie for _, _, is_tie in entries]),
        num_rows=len(differing),
        num_ratings=sum(row.num_votes for row in differing),
    )


def _sides_of(row: PreferencePair) -> tuple[bool, ...]:
    return (True, False) if row.margin == 0 else (_is_first(row),)


def _is_first(row: PreferencePair) -> bool:
    """Whether the chosen side stands first: drawn by the texts, so that no side always wins."""
    chosen = hashlib.blake2b(f"{row.prompt}\n{row.chosen}".encode(), digest_size=8).digest()
    rejected = hashlib.blake2b(f"{row.prompt}\n{row.rejected}".encode(), digest_size=8).digest()
    return chosen < rejected


def _order(row: PreferencePair) -> tuple[str, str]:
    return (row.chosen, row.rejected) if _is_first(row) else (row.rejected, row.chosen)


def _find_aspects(
    rows: list[ScoredCompletion], threshold: float, tracker: Tracker
) -> dict[str, AspectRows]:
    """The aspects with enough rows for a head of their own; the log names the others and why."""
    names = sorted({name for row in rows for name in row.aspects})
    found: dict[str, AspectRows] = {}
    left_out = []
    for name in names:
        rated = [row for row in rows if name in row.aspects]
        # `count_rows` looks at the score alone: here the aspect's stands in its place.
        judged = [replace(row, score=row.aspects[name]) for row in rated]
        counts = count_rows(judged, threshold)
        if name == OVERALL or len(rated) < MIN_ASPECT_ROWS:
            left_out.append(f"{name} ({len(rated)} rows)")
        elif find_obstacle(counts, threshold=threshold) is not None:
            left_out.append(f"{name} (all alike at the threshold)")
        else:
            found[name] = AspectRows(
                rows=np.array([index for index, row in enumerate(rows) if name in row.aspects]),
                labels=np.array([row.score >= threshold for row in judged]),
            )
    kept = sorted(found, key=lambda name: (-len(found[name].rows), name))[:MAX_ASPECTS]
    left_out += [
        f"{name} (the {MAX_ASPECTS} most rated have one)" for name in found if name not in kept
    ]
    if left_out:
        tracker.log(
            f"Aspects without a head of their own, which needs {MIN_ASPECT_ROWS} rows of both "
            f"kinds: {', '.join(left_out)}."
        )
    return {name: found[name] for name in sorted(kept)}


def _refuse_empty(
    number: int, origin: str, *, prompt: str, completion: str, what: str = "completion"
) -> None:
    if prompt.strip() and completion.strip():
        return
    part = what if prompt.strip() else "prompt"
    raise InvalidInput(f"Row {number} (interaction {origin}) has an empty {part}: leave it out.")


def _raise(obstacle: RlhfError | None) -> None:
    if obstacle is not None:
        raise obstacle
