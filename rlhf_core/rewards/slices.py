"""Figures by slice, and what lengths alone achieve on the same rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rlhf_core.rewards import evaluate, features
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.cases import Cases
from rlhf_core.rewards.crossval import score_out_of_fold
from rlhf_core.rewards.folds import assign_folds
from rlhf_core.rewards.logistic import Indices, turn_to_axes

MAX_VALUES = 12
"""Of a segment: the most frequent ones are shown."""
NUM_QUARTILES = 4
NUM_FOLDS = 5
LENGTH_SEGMENT = "length"
GRID = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Slice:
    """The figures of the rows whose `segment` has this `value`."""

    segment: str
    value: str
    num_rows: int
    num_prompts: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def cut_slices(cases: Cases, length_scores: Floats | None, *, seed: int) -> tuple[Slice, ...]:
    """A slice for each value of each segment, and for each quartile of the length.

    Of pairs, the length is that of the chosen completion less that of the rejected one.
    """
    found = []
    for segment, value, part in cut_parts(cases):
        groups = [cases.groups[row] for row in part]
        weights = evaluate.resample_groups(groups, seed=seed)
        measured = cases.measure(weights, length_scores, part)
        found.append(
            Slice(
                segment=segment,
                value=value,
                num_rows=len(part),
                num_prompts=len(set(groups)),
                metrics=measured.metrics,
                intervals=measured.intervals,
            )
        )
    return tuple(found)


def cut_parts(cases: Cases) -> list[tuple[str, str, Indices]]:
    """By segment and by length: (segment, value, the places among the cases)."""
    return [*cut_segments(cases.segments), *_cut_lengths(cases)]


def score_lengths(cases: Cases, *, seed: int) -> Floats | None:
    """What a model that sees lengths only says of each row (n,), by folds over these rows.

    It learns from the very rows that are examined, which the model did not: a strict baseline. None
    where there are too few prompts for it.
    """
    counts = features.count_characters(cases.prompts, cases.completions)
    other = None if cases.others is None else features.count_characters(cases.prompts, cases.others)
    scale = features.measure_scale(counts if other is None else np.vstack([counts, other]))
    table = features.build_text_features(counts, scale)
    labels = cases.labels
    if other is not None:
        # Every second pair is turned round, so that there is something to tell apart.
        labels = np.arange(len(table)) % 2 == 0
        table = table - features.build_text_features(other, scale)
        table = np.where(labels[:, None], table, -table)
    names = np.asarray(cases.groups)
    if min(len(set(names[labels])), len(set(names[~labels]))) < NUM_FOLDS:
        return None
    if not np.abs(table).max() > 0:
        return np.zeros(len(table))
    folds = assign_folds(labels, cases.groups, num_folds=NUM_FOLDS, seed=seed)
    tested = score_out_of_fold(
        turn_to_axes(table),
        labels,
        np.ones(len(table)),
        folds,
        GRID,
        is_paired=cases.is_paired,
    )
    if other is None:
        return tested.log_odds
    return np.where(labels, tested.log_odds, -tested.log_odds)


def cut_segments(of_rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str, Indices]]:
    """(segment, value, the places of the rows that have it), the most frequent values first."""
    names = sorted({name for segments in of_rows for name in segments})
    parts = []
    for name in names:
        values = [segments.get(name) for segments in of_rows]
        for value, _ in Counter(value for value in values if value).most_common(MAX_VALUES):
            place = np.flatnonzero([one == value for one in values])
            parts.append((name, value, place))
    return parts


def _cut_lengths(cases: Cases) -> list[tuple[str, str, Indices]]:
    """Quartiles of equal numbers of rows, as far as equal lengths allow."""
    bounds = np.unique(np.quantile(cases.lengths, np.linspace(0, 1, NUM_QUARTILES + 1)))
    parts = []
    for number, (low, high) in enumerate(pairwise(bounds)):
        inside = (cases.lengths >= low) if number == 0 else (cases.lengths > low)
        place = np.flatnonzero(inside & (cases.lengths <= high))
        if len(place):
            what = "characters more than the other" if cases.is_paired else "characters"
            parts.append((LENGTH_SEGMENT, f"{round(low)} to {round(high)} {what}", place))
    return parts
