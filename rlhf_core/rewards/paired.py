"""Versions side by side on the same rows: figures, paired differences, slices, disagreements.

A difference is measured on the same draws of prompts for both versions: what makes a prompt hard
is hard for both, and falls out of their difference. Two separate intervals would hide it.
Intervals (95 %) are a bootstrap by prompt. No text is kept, only the ids of interactions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from rlhf_core.errors import InvalidInput
from rlhf_core.rewards import evaluate
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.logistic import Indices, Labels, one_thread

LOWER_IS_BETTER = frozenset({"brier", "ece"})
DECIDING = ("first_error_f1", "auc", "pair_accuracy", "accuracy")
"""By which figure versions are compared first, where the rows define it."""
MIN_PROMPTS = 5
"""With fewer prompts a bootstrap says nothing: no interval is given."""
NUM_BINS = 20
Figure = dict[str, float]
"""`value`, and the interval `low` and `high` where it is defined."""
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Block:
    """Figures that are measured on the same things; `groups` are their prompts, in order."""

    groups: Sequence[str]
    statistics: dict[str, evaluate.Statistic]


@dataclass(frozen=True)
class Row:
    """A row to compare on: the same for each version.

    `rating` is the score, of a thumb 1 or 0, of a pair the margin, of a solution 1 without a
    mistake and 0 with one; None where nobody said. `other_id` is the worse side of a pair.
    """

    row: int
    group: str
    interaction_id: str
    other_id: str
    rating: float | None
    is_good: bool | None


class Sheet(Protocol):
    """The rows as one version judged them."""

    @property
    def rows(self) -> Sequence[Row]:
        """The rows, the same for each version."""

    @property
    def said(self) -> Floats:
        """A number for each of the rows, (n,).

        P(good), of a pair P(the better side is better), of a solution P(no mistake); a free number
        where the model is not calibrated.
        """

    @property
    def verdicts(self) -> Labels:
        """Which rows the version calls good, (n,): of a pair whether it sides with people."""

    @property
    def is_probability(self) -> bool:
        """Whether what was said is a chance in 0..1."""

    @property
    def told(self) -> tuple[Floats, Labels] | None:
        """Chances and what is so, for a reliability plot."""

    def cut_parts(self) -> list[tuple[str, str, Indices]]:
        """The slices: (segment, value, places among the rows)."""

    def make_blocks(self, part: Indices | None = None) -> list[Block]:
        """What is measured of all rows, or of a part of them."""


@dataclass(frozen=True)
class PairedSlice:
    """The figures of the rows whose `segment` has this `value`; by version, as in all."""

    segment: str
    value: str
    num_rows: int
    num_prompts: int
    versions: dict[str, Figures]
    differences: dict[str, Figures]


@dataclass(frozen=True)
class PairedRow:
    """A row with what each version says of it, and which of them call it good.

    `spread`: how far the versions are apart, 0..1.
    """

    row: int
    group: str
    interaction_id: str
    other_id: str
    rating: float | None
    is_good: bool | None
    said: dict[str, float]
    called_good: tuple[str, ...]
    spread: float


@dataclass(frozen=True)
class Paired:
    """Versions (by the names given) beside the `baseline`.

    `differences[version][metric]` is the version's figure less the baseline's. `distribution`
    holds the `edges` of its bins and by version how many of `all`, `good` and `bad` rows fall into
    each. `rows`: the ones that the versions disagree most on come first.
    """

    baseline: str
    num_rows: int
    num_prompts: int
    deciding: str | None
    versions: dict[str, Figures]
    differences: dict[str, Figures]
    slices: tuple[PairedSlice, ...]
    reliability: dict[str, list[dict[str, float]]]
    distribution: dict[str, Any]
    rows: tuple[PairedRow, ...] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the rows, which are kept in a file."""
        names = ("baseline", "num_rows", "num_prompts", "deciding", "versions", "differences",
                 "reliability", "distribution")  # fmt: skip
        plain = {name: getattr(self, name) for name in names}
        return plain | {"slices": [asdict(one) for one in self.slices]}


def compare_sheets(sheets: Mapping[str, Sheet], *, baseline: str, seed: int = 0) -> Paired:
    """Compare versions on the same rows; `sheets` by name, the `baseline` among them.

    Raises InvalidInput where the sheets are not of the same rows.
    """
    first = sheets[baseline]
    for name, sheet in sheets.items():
        if list(sheet.rows) != list(first.rows):
            raise InvalidInput(f"{name} was not examined on the rows of {baseline}: start again.")
    with one_thread():
        versions, differences = _measure(sheets, baseline, None, seed)
        slices = []
        for segment, value, part in first.cut_parts():
            of_part = _measure(sheets, baseline, part, seed)
            prompts = {first.rows[place].group for place in part}
            slices.append(PairedSlice(segment, value, len(part), len(prompts), *of_part))
    return Paired(
        baseline=baseline,
        num_rows=len(first.rows),
        num_prompts=len({row.group for row in first.rows}),
        deciding=next((one for one in DECIDING if one in versions[baseline]), None),
        versions=versions,
        differences=differences,
        slices=tuple(slices),
        reliability={
            name: [] if sheet.told is None else evaluate.reliability_table(*sheet.told)
            for name, sheet in sheets.items()
        },
        distribution=_count_bins(sheets),
        rows=_sort_rows(sheets),
    )


def is_better(metric: str, difference: Figure) -> bool | None:
    """Whether a difference is for the better; None where its interval holds 0, or there is none."""
    low, high = difference.get("low"), difference.get("high")
    if low is None or high is None or low <= 0.0 <= high:
        return None
    return (high < 0.0) if metric in LOWER_IS_BETTER else (low > 0.0)


def _measure(
    sheets: Mapping[str, Sheet], baseline: str, part: Indices | None, seed: int
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    versions: dict[str, Figures] = {name: {} for name in sheets}
    differences: dict[str, Figures] = {name: {} for name in sheets if name != baseline}
    blocks = {name: sheet.make_blocks(part) for name, sheet in sheets.items()}
    for number, block in enumerate(blocks[baseline]):
        weights = evaluate.resample_groups(block.groups, seed=seed)
        is_enough = len(set(block.groups)) >= MIN_PROMPTS
        of_baseline = {
            metric: evaluate.draw(statistic, weights)
            for metric, statistic in block.statistics.items()
        }
        for name in sheets:
            drawn = of_baseline
            if name != baseline:
                drawn = {
                    metric: evaluate.draw(statistic, weights)
                    for metric, statistic in blocks[name][number].statistics.items()
                }
            for metric, (value, draws) in drawn.items():
                _keep(versions[name], metric, value, draws, is_enough)
                if name != baseline and metric in of_baseline:
                    other, other_draws = of_baseline[metric]
                    _keep(differences[name], metric, value - other, draws - other_draws, is_enough)
    return versions, differences


def _keep(figures: Figures, metric: str, value: float, draws: Floats, is_enough: bool) -> None:
    """Note a figure where it is defined, its interval where there are prompts enough for one."""
    if not np.isfinite(value):
        return
    figures[metric] = {"value": round(value, 6)}
    interval = evaluate.interval_of(draws) if is_enough else None
    if interval is not None:
        figures[metric] |= {"low": round(interval[0], 6), "high": round(interval[1], 6)}


def _count_bins(sheets: Mapping[str, Sheet]) -> dict[str, Any]:
    low, high = 0.0, 1.0
    if not all(sheet.is_probability for sheet in sheets.values()):
        low = min(float(sheet.said.min()) for sheet in sheets.values())
        high = max(float(sheet.said.max()) for sheet in sheets.values())
    edges = np.linspace(low, max(high, low + 1e-9), NUM_BINS + 1)
    counts = {}
    for name, sheet in sheets.items():
        good = np.array([row.is_good is True for row in sheet.rows])
        bad = np.array([row.is_good is False for row in sheet.rows])
        parts = {"all": np.ones(len(good), dtype=bool), "good": good, "bad": bad}
        counts[name] = {
            word: np.histogram(sheet.said[part], edges)[0].tolist() for word, part in parts.items()
        }
    return {"edges": edges.round(6).tolist(), "counts": counts}


def _sort_rows(sheets: Mapping[str, Sheet]) -> tuple[PairedRow, ...]:
    """Free numbers are of no common scale: there the ranks are compared."""
    said = {name: sheet.said for name, sheet in sheets.items()}
    placed = said
    if not all(sheet.is_probability for sheet in sheets.values()):
        placed = {name: _rank(values) for name, values in said.items()}
    table = np.stack(list(placed.values()))
    spread = table.max(axis=0) - table.min(axis=0)
    rows = next(iter(sheets.values())).rows
    verdicts = {name: sheet.verdicts for name, sheet in sheets.items()}
    return tuple(
        PairedRow(
            **vars(rows[place]),
            said={name: round(float(values[place]), 6) for name, values in said.items()},
            called_good=tuple(name for name, good in verdicts.items() if good[place]),
            spread=round(float(spread[place]), 6),
        )
        for place in np.argsort(-spread, kind="stable")
    )


def _rank(values: Floats) -> Floats:
    """The share of the values that are lower, equal ones counted half: 0..1."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values, side="left")
    up_to = np.searchsorted(ordered, values, side="right")
    ranks: Floats = (below + up_to) / 2.0 / len(values)
    return ranks
