"""How sure a share is."""

from math import sqrt
from statistics import NormalDist

from rlhf_core.agreement.intervals import Interval
from rlhf_core.errors import InvalidInput


def wilson_interval(
    num_hits: float, num_trials: int, *, confidence: float = 0.95
) -> Interval | None:
    """The share of hits with Wilson's score interval (JASA 22, 1927); None of no trials.

    A tie that counts half makes `num_hits` broken: the interval is then a little too wide.
    """
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence {confidence:g}: choose between 0 and 1.")
    if not 0 <= num_hits <= num_trials:
        raise InvalidInput(f"{num_hits:g} hits of {num_trials} trials: there are at most as many.")
    if num_trials == 0:
        return None
    share = num_hits / num_trials
    squared = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = share + squared / (2 * num_trials)
    half = sqrt(squared) * sqrt(share * (1 - share) / num_trials + squared / (4 * num_trials**2))
    whole = 1 + squared / num_trials
    return Interval(
        value=share,
        low=max(0.0, (middle - half) / whole),
        high=min(1.0, (middle + half) / whole),
    )
