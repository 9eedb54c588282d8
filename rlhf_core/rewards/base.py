"""What every reward model offers, whatever is inside."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@runtime_checkable
class RewardModel(Protocol):
    """Scores text. A higher score is better.

    `is_probability`: scores are P(good) in 0..1 (all learners here calibrate), else free numbers.
    `aspects` names the heads beside the overall one; `weights` of `score` mixes them in.
    """

    @property
    def is_probability(self) -> bool:
        """Whether a score is P(good) in 0..1."""

    @property
    def aspects(self) -> tuple[str, ...]:
        """The aspects that have a head of their own, in alphabetical order."""

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        weights: Mapping[str, float] | None = None,
    ) -> Floats:
        """One score a pair (n,), in their order; empty for none.

        `weights` by aspect (`overall` is the main head; default `{"overall": 1}`): the weighted
        mean of the heads' scores. Raises InvalidInput for lists of different lengths, an unknown
        aspect, or weights that sum to 0 or less.
        """
