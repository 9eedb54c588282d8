"""How sure a difference between two groups is."""

from collections.abc import Mapping
from math import sqrt

from rlhf_core.agreement import Interval

NORMAL_95 = 1.959964

Moments = Mapping[str, float]
"""Sums over clusters of the products that `compare_ratios` names, such as `xa_nb`."""
TERMS = ("xa", "na", "xb", "nb")


def subtract_shares(one: Interval, other: Interval) -> Interval:
    """`one` - `other` of two independent shares, by Newcombe's hybrid of their Wilson intervals.

    Statistics in Medicine 17 (1998), method 10.
    """
    value = one.value - other.value
    below = sqrt((one.value - one.low) ** 2 + (other.high - other.value) ** 2)
    above = sqrt((one.high - one.value) ** 2 + (other.value - other.low) ** 2)
    return Interval(value, max(-1.0, value - below), min(1.0, value + above))


def compare_ratios(num_clusters: int, moments: Moments) -> Interval | None:
    """sum(xa)/sum(na) - sum(xb)/sum(nb) with a 95 % interval that is clustered.

    x and n are sums within a cluster (a user): a cluster may have parts in both groups. Linearised:
    the variance is that of the clusters' influence on the difference. `moments` has the sums of
    xa, na, xb and nb, and of the products of each two. None where a group is empty or the
    variance is 0, as with fewer than two clusters: then nothing is known of it.
    """
    if num_clusters < 2 or moments["na"] <= 0 or moments["nb"] <= 0:
        return None
    mean_a, mean_b = moments["xa"] / moments["na"], moments["xb"] / moments["nb"]
    weights = {
        "xa": 1 / moments["na"],
        "na": -mean_a / moments["na"],
        "xb": -1 / moments["nb"],
        "nb": mean_b / moments["nb"],
    }
    squared = sum(
        weights[one] * weights[other] * moments[_product(one, other)]
        for one in TERMS
        for other in TERMS
    )
    variance = squared * num_clusters / (num_clusters - 1)
    # what rounding leaves of a sum that is 0
    if variance <= 1e-12 * (mean_a**2 + mean_b**2):
        return None
    half = NORMAL_95 * sqrt(variance)
    return Interval(mean_a - mean_b, mean_a - mean_b - half, mean_a - mean_b + half)


def product_names() -> list[tuple[str, str, str]]:
    """(name in `Moments`, one term, the other) of every product that is needed."""
    pairs = [(one, other) for at, one in enumerate(TERMS) for other in TERMS[at:]]
    return [(_product(one, other), one, other) for one, other in pairs]


def _product(one: str, other: str) -> str:
    return "_".join(sorted((one, other), key=TERMS.index))
