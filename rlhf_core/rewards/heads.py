"""One overall head and one for each aspect: how a caller's weights mix them."""

import math
from collections.abc import Mapping

from rlhf_core.errors import InvalidInput
from rlhf_core.rewards.base import Floats

OVERALL = "overall"
"""The main head: no aspect may bear its name."""


def choose_weights(
    weights: Mapping[str, float] | None, aspects: tuple[str, ...]
) -> dict[str, float]:
    """The share of each head that counts, summing to 1; the overall head alone where not given.

    Raises InvalidInput for an unknown aspect, a weight below 0 or no number, or none above 0.
    """
    if weights is None:
        return {OVERALL: 1.0}
    known = (OVERALL, *aspects)
    for name, weight in weights.items():
        if name not in known:
            raise InvalidInput(
                f"This model has no head for {name!r}: choose from {', '.join(known)}.",
                field="weights",
            )
        if not math.isfinite(weight) or weight < 0:
            raise InvalidInput(
                f"The weight of {name} is {weight}: give 0 or more.", field="weights"
            )
    total = sum(weights.values())
    if total <= 0:
        raise InvalidInput("No head has a weight above 0: give one at least.", field="weights")
    return {name: weight / total for name, weight in sorted(weights.items()) if weight > 0}


def mix_heads(scores: Mapping[str, Floats], shares: Mapping[str, float]) -> Floats:
    """The weighted mean of the heads' scores (n,). `shares` sum to 1, see `choose_weights`."""
    parts = [share * scores[name] for name, share in shares.items()]
    mixed: Floats = parts[0].copy()
    for part in parts[1:]:
        mixed += part
    return mixed
