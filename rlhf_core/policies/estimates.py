"""Means and win rates over prompts, with 95 % intervals: a bootstrap that draws prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_DRAWS = 1_000
NEWTON_STEPS = 12
RIDGE = 1e-2
"""Keeps a win rate that is 0 or 1 on all prompts finite on the scale of log-odds."""


@dataclass(frozen=True)
class Estimate:
    """`value` lies between `low` and `high` in 95 of 100 such samples (None: too few prompts)."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float]:
        """Plain numbers; without the interval where there is none."""
        if self.low is None or self.high is None:
            return {"value": self.value}
        return {"value": self.value, "low": self.low, "high": self.high}


class PromptBootstrap:
    """Draws of prompts, with repetition: rows of one prompt (`groups`) come or stay together."""

    def __init__(self, groups: Sequence[str], *, seed: int) -> None:
        names, members = np.unique(np.asarray(groups), return_inverse=True)
        self._num_prompts = len(names)
        counts = np.random.default_rng(seed).multinomial(
            len(names), np.full(len(names), 1 / len(names)), size=NUM_DRAWS
        )
        self._weights: Floats = counts[:, members].astype(np.float64)

    def mean(self, values: Sequence[float]) -> Estimate:
        """The mean of a number a row."""
        found = np.asarray(values, dtype=np.float64)
        return self._estimate(
            float(found.mean()), self._weights @ found / self._weights.sum(axis=1)
        )

    def win_rate_at_even_length(
        self, wins: Sequence[float], lengths: Sequence[float], others: Sequence[float]
    ) -> Estimate:
        """How often the answer would win if both were equally long.

        `wins` (1, 0.5 for a tie, 0) are explained by a logistic regression on the difference of
        the lengths (its tanh over the standard deviation); the rate is that at difference 0.
        Dubois et al. 2024 (arXiv 2404.04475), with one pair of policies.
        """
        won = np.asarray(wins, dtype=np.float64)
        gaps = np.asarray(lengths, dtype=np.float64) - np.asarray(others, dtype=np.float64)
        spread = gaps.std()
        column = np.tanh(gaps / spread) if spread > 0 else np.zeros(len(gaps))
        weights = np.concatenate([np.ones((1, len(won))), self._weights])
        rates = _rates_at_zero(column, won, weights)
        return self._estimate(float(rates[0]), rates[1:])

    def _estimate(self, value: float, draws: Floats) -> Estimate:
        if self._num_prompts < 2:
            return Estimate(value)
        low, high = np.percentile(draws, [2.5, 97.5])
        return Estimate(value, float(low), float(high))


def _rates_at_zero(column: Floats, won: Floats, weights: Floats) -> Floats:
    """P(win) at 0 of `column` (n,) by logistic regressions with `weights` (draws, n): (draws,)."""
    features = np.stack([np.ones(len(column)), column], axis=1)
    theta = np.zeros((len(weights), 2))
    for _ in range(NEWTON_STEPS):
        chance = 1.0 / (1.0 + np.exp(-np.clip(theta @ features.T, -30.0, 30.0)))
        slope = (weights * (won - chance)) @ features - RIDGE * theta
        curve = np.einsum("bn,ni,nj->bij", weights * chance * (1.0 - chance), features, features)
        curve += RIDGE * np.eye(2)
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        theta += np.clip(step, -4.0, 4.0)
    rates: Floats = 1.0 / (1.0 + np.exp(-np.clip(theta[:, 0], -30.0, 30.0)))
    return rates
