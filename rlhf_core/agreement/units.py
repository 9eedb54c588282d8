"""What raters said of each thing, as counts.

No coefficient of agreement asks who said it, and units that got the same answers count alike. So
ratings shrink to distinct patterns with a number each: a million ratings of 1 to 5 by three raters
are 35 patterns, whatever is computed from them.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_core.errors import InvalidInput

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class UnitCounts:
    """`counts[i, k]` raters of a unit of pattern i gave `values[k]`; `num_units[i]` are such units.

    Shapes (k,), (i, k), (i,). `values` ascend; they are numbers, or places of words in a list.
    `num_units` may be fractional: a draw of the bootstrap replaces it.
    """

    values: Floats
    counts: Floats
    num_units: Floats

    @property
    def num_pairable(self) -> int:
        """How many units have two or more answers: only those can agree."""
        return int(self.num_units[self.counts.sum(axis=1) >= 2].sum())

    def with_num_units(self, num_units: Floats) -> "UnitCounts":
        """The same patterns, each as often as given."""
        return UnitCounts(self.values, self.counts, num_units)


Units = UnitCounts | Sequence[Mapping[Any, Any]]
"""Units as counts, or for each unit what every rater of it said; None is no answer."""


def count_units(units: Units) -> UnitCounts:
    """Counts of `[{rater: value, ...}, ...]`.

    Values are numbers (an ordinal or interval scale), or other things such as words, which fit
    the nominal level only: they are put in alphabetical order.
    """
    if isinstance(units, UnitCounts):
        return units
    patterns: Counter[tuple[Any, ...]] = Counter()
    for unit in units:
        said = [value for value in unit.values() if value is not None]
        if all(isinstance(value, int | float) for value in said):
            patterns[tuple(sorted(said))] += 1
        else:
            patterns[tuple(sorted(map(str, said)))] += 1
    return count_patterns(patterns)


def count_patterns(patterns: Mapping[tuple[Any, ...], int]) -> UnitCounts:
    """Counts of `{(value, value, ...): number of units that got just these}`."""
    found = {value for pattern in patterns for value in pattern}
    is_number = all(isinstance(value, int | float) for value in found)
    if any(isinstance(value, float) and not np.isfinite(value) for value in found):
        raise InvalidInput("Ratings hold NaN or infinity: leave such answers out.")
    order: list[Any] = sorted(found) if is_number else sorted(found, key=str)
    place = {value: number for number, value in enumerate(order)}
    counts = np.zeros((len(patterns), len(order)))
    for row, pattern in enumerate(patterns):
        for value in pattern:
            counts[row, place[value]] += 1
    values = np.array(order if is_number else range(len(order)), dtype=np.float64)
    return _merge(values, counts, np.array(list(patterns.values()), dtype=np.float64))


def count_arrays(unit: Sequence[Hashable], value: Sequence[float]) -> UnitCounts:
    """Counts of a long table: `value[i]` was said of `unit[i]`; both (n,)."""
    if len(unit) != len(value):
        raise InvalidInput(
            f"{len(unit)} units and {len(value)} values: give one value for each unit."
        )
    if not len(unit):
        return count_patterns({})
    numbers = np.asarray(value, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise InvalidInput("Ratings hold NaN or infinity: leave such answers out.")
    _, row = np.unique(np.asarray(unit), return_inverse=True)
    values, column = np.unique(numbers, return_inverse=True)
    shape = (int(row.max()) + 1, len(values))
    counts = np.bincount(row * shape[1] + column, minlength=shape[0] * shape[1])
    return _merge(values, counts.reshape(shape).astype(np.float64), np.ones(shape[0]))


def _merge(values: Floats, counts: Floats, num_units: Floats) -> UnitCounts:
    """Units with equal counts as one pattern."""
    if not len(counts) or not len(values):
        return UnitCounts(values, counts, num_units)
    patterns, which = np.unique(counts, axis=0, return_inverse=True)
    total = np.bincount(which.reshape(-1), weights=num_units, minlength=len(patterns))
    return UnitCounts(values, patterns, total.astype(np.float64))
