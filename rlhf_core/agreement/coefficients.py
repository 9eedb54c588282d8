"""Coefficients of agreement: raw, Krippendorff's alpha, Gwet's AC1.

Any number of raters, and not each of them rated everything. All three are 1 for full agreement;
alpha and AC1 are 0 for what chance would give. None stands for "cannot be said". Where nearly all
answers are equal, alpha falls to 0 whatever the agreement and AC1 does not: give both.
"""

from typing import Literal, assert_never

import numpy as np

from rlhf_core.agreement.units import Floats, Units, count_units

Level = Literal["nominal", "ordinal", "interval"]


def raw_agreement(units: Units) -> float | None:
    """How often two answers to one unit are equal: the mean over units of the share of pairs.

    None without a unit that has two answers.
    """
    found = count_units(units)
    totals = found.counts.sum(axis=1)
    weights = np.where(totals >= 2, found.num_units, 0.0)
    if weights.sum() == 0:
        return None
    equal = (found.counts * (found.counts - 1)).sum(axis=1)
    share = equal / np.maximum(totals * (totals - 1), 1)
    return float((share * weights).sum() / weights.sum())


def krippendorff_alpha(units: Units, level: Level = "nominal") -> float | None:
    """1 - observed / expected disagreement, over all answers that can be paired within a unit.

    `level`: how far two values differ. "nominal": they do or do not; "ordinal": by how many answers
    lie between them; "interval": by the square of their difference. None without a unit that has
    two answers, or where all answers are the same. Source: Krippendorff, "Computing
    Krippendorff's Alpha-Reliability" (2011), with the coincidence matrix.
    """
    found = count_units(units)
    totals = found.counts.sum(axis=1)
    paired = totals >= 2
    counts, totals = found.counts[paired], totals[paired]
    weights = found.num_units[paired] / (totals - 1)
    coincidences = counts.T @ (counts * weights[:, None])
    coincidences -= np.diag((counts * weights[:, None]).sum(axis=0))
    marginals = coincidences.sum(axis=0)
    num_answers = marginals.sum()
    distances = distances_of(found.values, marginals, level)
    expected = float(marginals @ distances @ marginals)
    if expected <= 0:
        return None
    observed = float((coincidences * distances).sum())
    return float(1.0 - (num_answers - 1) * observed / expected)


def gwet_ac1(units: Units, *, num_values: int | None = None) -> float | None:
    """Gwet's AC1: agreement above what raters who guess on hard units only would reach.

    `num_values`: how many answers there are to choose from, if some were never chosen. None
    without a unit that has two answers; 1.0 where only one answer exists. Source: Gwet,
    "Computing inter-rater reliability and its variance in the presence of high agreement" (2008).
    """
    found = count_units(units)
    observed = raw_agreement(found)
    if observed is None:
        return None
    totals = found.counts.sum(axis=1)
    weights = np.where(totals >= 1, found.num_units, 0.0)
    shares = found.counts / np.maximum(totals, 1)[:, None]
    used = (shares * weights[:, None]).sum(axis=0) / weights.sum()
    size = max(num_values or 0, int((used > 0).sum()))
    if size < 2:
        return 1.0
    expected = float((used * (1 - used)).sum()) / (size - 1)
    return float((observed - expected) / (1 - expected))


def distances_of(values: Floats, marginals: Floats, level: Level) -> Floats:
    """How far each value lies from each other one, squared: (..., k, k) for marginals (..., k)."""
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.square(values[:, None] - values[None, :])
    if level == "ordinal":
        # answers from one value to the other, those at both ends by half
        middle = np.cumsum(marginals, axis=-1) - marginals / 2
        return np.square(middle[..., :, None] - middle[..., None, :])
    assert_never(level)
