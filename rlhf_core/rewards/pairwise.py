"""Which of two completions is better: what a model says itself, or what its scores imply."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from rlhf_core.rewards.base import Floats, RewardModel

EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1: their log odds stay finite."""


@runtime_checkable
class Comparing(Protocol):
    """A model that was calibrated on pairs, and so knows better than its single scores."""

    def prefer(
        self, prompts: Sequence[str], firsts: Sequence[str], seconds: Sequence[str]
    ) -> Floats | None:
        """P(the first is better) in 0..1 (n,); None where it has no calibration for pairs."""


def compare(
    model: RewardModel, prompts: Sequence[str], firsts: Sequence[str], seconds: Sequence[str]
) -> Floats:
    """P(the first completion is better than the second) in 0..1 (n,)."""
    if isinstance(model, Comparing):
        found = model.prefer(prompts, firsts, seconds)
        if found is not None:
            return found
    scores = model.score([*prompts, *prompts], [*firsts, *seconds])
    half = len(prompts)
    return compare_scores(scores[:half], scores[half:], is_probability=model.is_probability)


def compare_scores(firsts: Floats, seconds: Floats, *, is_probability: bool) -> Floats:
    """P(first is better) from single scores.

    Of probabilities: that the first is good and the second is not, against the other way round.
    Of free numbers: the Bradley-Terry model.
    """
    if is_probability:
        firsts, seconds = _log_odds(firsts), _log_odds(seconds)
    differences = np.clip(firsts - seconds, -700, 700)
    found: Floats = 1.0 / (1.0 + np.exp(-differences))
    return found


def _log_odds(probabilities: Floats) -> Floats:
    kept = np.clip(probabilities, EDGE, 1.0 - EDGE)
    found: Floats = np.log(kept / (1.0 - kept))
    return found
