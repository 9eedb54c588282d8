"""What chance explains: a control chart of shares, tests of shares, and many of them at once."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

RECENT_DAYS = 7
"""Days that the moving average runs over; the baseline ends before them."""
MIN_BASELINE_DAYS = 14
MIN_RECENT_BAD = 5  # below, a share of few is no bell curve


def score_negatives(
    num_bad: Floats, num: Floats, *, weight: float, baseline_days: int, min_n: int
) -> Floats:
    """How far each day's moving average of the share of bad lies above the baseline, in sigmas.

    Both arrays are (..., days), a day without judgements having 0. An exponentially weighted
    moving average (Roberts, Technometrics 1, 1959) starts at the baseline share and takes in the
    last `RECENT_DAYS`, each with the binomial variance of its own number of judgements; the
    variance of the baseline itself is added, as it is estimated, from the `baseline_days` before.
    NaN of days that nothing can be said of: under `min_n` judgements or `MIN_RECENT_BAD` bad ones
    in the recent days, under `MIN_BASELINE_DAYS` with judgements in the baseline.
    """
    bad, total = np.asarray(num_bad, np.float64), np.asarray(num, np.float64)
    num_days = total.shape[-1]
    base = _sums(total, baseline_days, RECENT_DAYS)
    share = (_sums(bad, baseline_days, RECENT_DAYS) + 0.5) / (base + 1)
    average, variance, memory = share.copy(), np.zeros_like(share), np.ones_like(share)
    for age in reversed(range(RECENT_DAYS)):
        that_bad, that = _before(bad, age), _before(total, age)
        is_told = that > 0
        step = np.where(is_told, weight, 0.0)
        average += step * (that_bad / np.maximum(that, 1) - average)
        variance = (1 - step) ** 2 * variance + step**2 / np.maximum(that, 1)
        memory *= 1 - step  # what is left of the start
    variance += (1 - memory) ** 2 / np.maximum(base, 1)
    scores: Floats = (average - share) / np.sqrt(np.maximum(share * (1 - share) * variance, 1e-12))
    recent = RECENT_DAYS, 0
    can_tell = (
        (_sums(total, *recent) >= min_n)
        & (_sums(bad, *recent) >= MIN_RECENT_BAD)
        & (_sums((total > 0).astype(np.float64), baseline_days, RECENT_DAYS) >= MIN_BASELINE_DAYS)
    )
    return np.where(can_tell, scores, np.nan) if num_days else scores


def chance_above(score: float) -> float:
    """How often chance alone lies this many sigmas above, or more."""
    return 1 - NormalDist().cdf(score)


def chance_below(num_good: int, num: int, level: float) -> float:
    """How often so few good or fewer come of `num` by chance where the true share is `level`.

    The bell curve with the correction for continuity; good from some 30 on.
    """
    spread = sqrt(num * level * (1 - level))
    return NormalDist().cdf((num_good + 0.5 - num * level) / spread)


def pick_discoveries(chances: Sequence[float], rate: float) -> list[bool]:
    """Which of many findings stand, at most a share `rate` of them by chance.

    Benjamini and Hochberg, Journal of the Royal Statistical Society B 57, 1995. Of one, it is the
    plain test at `rate`.
    """
    ordered = sorted(range(len(chances)), key=lambda place: chances[place])
    last = 0
    for rank, place in enumerate(ordered, start=1):
        if chances[place] <= rate * rank / len(chances):
            last = rank
    picked = set(ordered[:last])
    return [place in picked for place in range(len(chances))]


def _before(values: Floats, age: int) -> Floats:
    """The value of `age` days before each day; 0 where there is none."""
    if age == 0:
        return values
    padded = np.zeros_like(values)
    padded[..., age:] = values[..., :-age]
    return padded


def _sums(values: Floats, days: int, gap: int) -> Floats:
    """The sum over the `days` that end `gap` days before each day; `gap` 0: with the day."""
    start = np.zeros((*values.shape[:-1], 1))
    until = np.concatenate([start, values.cumsum(axis=-1)], axis=-1)
    ends = np.arange(1, values.shape[-1] + 1) - gap
    upper, lower = np.maximum(ends, 0), np.maximum(ends - days, 0)
    sums: Floats = until[..., upper] - until[..., lower]
    return sums
