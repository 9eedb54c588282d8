"""Raw agreement, alpha and AC1 of the same units, each with an interval, in one go.

All three are ratios of sums over units. A draw of the bootstrap only changes how often each pattern
of answers counts, so the sums of all draws are one matrix product: a thousand draws of 20,000
ratings take some milliseconds.
"""

from dataclasses import dataclass

import numpy as np

from rlhf_core.agreement.coefficients import Level, distances_of
from rlhf_core.agreement.intervals import NUM_DRAWS, Interval
from rlhf_core.agreement.units import Floats, UnitCounts, Units, count_units


@dataclass(frozen=True)
class AgreementSummary:
    """How far raters agree on `num_units` things that two or more of them judged.

    `num_answers` is what they said of these. None is what cannot be said: alpha, for one, where
    all answers are the same.
    """

    num_units: int
    num_answers: int
    raw: Interval | None
    alpha: Interval | None
    ac1: Interval | None


def summarize_agreement(
    units: Units,
    level: Level = "nominal",
    *,
    num_values: int | None = None,
    is_mirrored: bool = False,
    confidence: float = 0.95,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> AgreementSummary:
    """The coefficients of `rlhf_core.agreement` with percentile intervals over units.

    Only units with two or more answers count. `num_values`: how many answers there were to choose
    from. `is_mirrored`: the signs of -1 and 1 mean nothing (the sides of a pair, which were
    shuffled): every unit counts half as it is and half with its sides swapped, so that the figures
    do not depend on what is called the first.
    """
    found = count_units(units)
    found = _pick(found, found.counts.sum(axis=1) >= 2)
    total = int(found.num_units.sum())
    num_answers = int((found.counts.sum(axis=1) * found.num_units).sum())
    if total == 0:
        return AgreementSummary(0, 0, None, None, None)
    shares = found.num_units / total
    drawn = np.random.default_rng(seed).multinomial(total, shares, size=num_draws)
    times = np.vstack([found.num_units, drawn]).astype(np.float64)  # (1 + draws, patterns)
    if is_mirrored:
        found, times = _mirror(found), np.hstack([times, times]) / 2
    tail = (1 - confidence) / 2
    raw = _raw(found, times)
    return AgreementSummary(
        num_units=total,
        num_answers=num_answers,
        raw=_interval(raw, tail),
        alpha=_interval(_alpha(found, times, level), tail),
        ac1=_interval(_ac1(found, times, raw, num_values), tail),
    )


def _pick(units: UnitCounts, which: Floats) -> UnitCounts:
    return UnitCounts(units.values, units.counts[which], units.num_units[which])


def _mirror(units: UnitCounts) -> UnitCounts:
    """The patterns, and behind them the same with -1 and 1 swapped."""
    sides = units.values[np.abs(units.values) == 1]
    values = np.unique(np.concatenate([units.values, -sides]))
    counts = np.zeros((len(units.counts), len(values)))
    counts[:, np.searchsorted(values, units.values)] = units.counts
    swapped = np.where(np.abs(values) == 1, -values, values)
    other = counts[:, np.searchsorted(values, swapped)]
    return UnitCounts(values, np.vstack([counts, other]), np.tile(units.num_units, 2))


def _raw(units: UnitCounts, times: Floats) -> Floats:
    totals = units.counts.sum(axis=1)
    equal = (units.counts * (units.counts - 1)).sum(axis=1) / (totals * (totals - 1))
    shares: Floats = (times @ equal) / times.sum(axis=1)
    return shares


def _alpha(units: UnitCounts, times: Floats, level: Level) -> Floats:
    """As `krippendorff_alpha`, for each row of `times`; NaN where all answers are the same."""
    counts, size = units.counts, len(units.values)
    weights = 1.0 / (counts.sum(axis=1) - 1)
    pairs = np.einsum("pi,pj,p->pij", counts, counts, weights)
    pairs[:, np.arange(size), np.arange(size)] -= counts * weights[:, None]
    coincidences = (times @ pairs.reshape(len(pairs), -1)).reshape(-1, size, size)
    marginals = coincidences.sum(axis=1)
    distances = distances_of(units.values, marginals, level)
    by_chance = marginals[:, :, None] * marginals[:, None, :]
    expected = (by_chance * distances).sum(axis=(1, 2))
    observed = (coincidences * distances).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = 1.0 - (marginals.sum(axis=1) - 1) * observed / expected
    return np.where(expected > 0, alpha, np.nan)


def _ac1(units: UnitCounts, times: Floats, raw: Floats, num_values: int | None) -> Floats:
    """As `gwet_ac1`, for each row of `times`."""
    said = units.counts / units.counts.sum(axis=1, keepdims=True)
    used = (times @ said) / times.sum(axis=1, keepdims=True)
    size = np.maximum(num_values or 0, (used > 0).sum(axis=1))
    expected = (used * (1 - used)).sum(axis=1) / np.maximum(size - 1, 1)
    return np.where(size < 2, 1.0, (raw - expected) / (1 - expected))


def _interval(values: Floats, tail: float) -> Interval | None:
    """The first value is that of all units, the others are those of the draws."""
    drawn = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or len(drawn) * 2 < len(values) - 1:
        return None
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value=float(values[0]), low=float(low), high=float(high))
