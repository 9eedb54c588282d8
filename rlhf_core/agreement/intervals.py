"""How sure a coefficient is: the bootstrap over units."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlhf_core.agreement.units import UnitCounts, Units, count_units
from rlhf_core.errors import InvalidInput

NUM_DRAWS = 1_000


@dataclass(frozen=True)
class Interval:
    """`value` lies between `low` and `high` at the confidence asked for."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    units: Units,
    statistic: Callable[[UnitCounts], float | None],
    *,
    confidence: float = 0.95,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
) -> Interval | None:
    """The percentile interval of `statistic` when as many units are drawn again, with repetition.

    Only units with two or more answers are drawn. None where the statistic of all units is None,
    or that of more than half of the draws.
    """
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence {confidence:g}: choose between 0 and 1.")
    found = count_units(units)
    paired = found.counts.sum(axis=1) >= 2
    found = UnitCounts(found.values, found.counts[paired], found.num_units[paired])
    value = statistic(found)
    if value is None:
        return None
    total = found.num_units.sum()
    # drawing units is drawing how often each pattern comes: no draw is longer than the patterns
    draws = np.random.default_rng(seed).multinomial(
        int(total), found.num_units / total, size=num_draws
    )
    drawn = [statistic(found.with_num_units(draw.astype(np.float64))) for draw in draws]
    known = [one for one in drawn if one is not None]
    if len(known) * 2 < num_draws:
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=float(low), high=float(high))
