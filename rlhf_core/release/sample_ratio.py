"""Whether the arms got the users that they should: where they did not, no comparison is fair."""

from collections.abc import Sequence
from math import erfc, sqrt

MISMATCH_BELOW = 0.001
"""A p value under it blocks the verdict (Fabijan et al., KDD 2019)."""
MIN_EXPECTED = 5.0  # of users an arm: below, the chi-square says nothing


def check_sample_ratio(counts: Sequence[tuple[int, int]], shares: Sequence[float]) -> float | None:
    """The p value of the users seen, (control, treatment) a step, against the share of each step.

    Chi-square with one degree of freedom a step; the smallest p counts, times the number of steps
    (Bonferroni): returning users make steps depend on each other. Users, not requests: the draw is
    by user. A step whose treatment's share is 0 or 1 has nothing to check. None: nothing can be
    said yet.
    """
    found = []
    for (control, treatment), share in zip(counts, shares, strict=True):
        whole = control + treatment
        if min(share, 1 - share) * whole < MIN_EXPECTED:
            continue
        score = (treatment - share * whole) ** 2 / (share * (1 - share) * whole)
        found.append(erfc(sqrt(score / 2)))
    return min(1.0, min(found) * len(found)) if found else None
