"""From log odds to probabilities that mean what they say.

Training with balanced classes shifts all log odds, and a learner with many features is too sure
of itself. A temperature T and a shift b, fitted on rows that the learner had not seen, mend both:
P(good) = sigmoid(log odds / T + b). The order of scores stays the same, as T > 0.
Guo et al. 2017, "On Calibration of Modern Neural Networks"; the shift is Platt's (1999).

Of pairs, even log odds must stay even, so there is no shift. What remains wrong is the shape (too
sure far out, not sure enough near the middle): a power of the log odds mends it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlhf_core.rewards.folds import Folds
from rlhf_core.rewards.logistic import Floats, Labels

MIN_SLOPE = 0.01  # T <= 100: log odds that say nothing become the base rate
MAX_SLOPE = 10.0  # T >= 0.1
POWERS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
MIN_ROWS_FOR_POWER = 200
"""Of fewer, a power would fit the noise."""


@dataclass(frozen=True)
class Calibration:
    """P(good) = sigmoid(sign(x) |x|^power / temperature + shift) of the log odds x."""

    temperature: float
    shift: float
    power: float = 1.0

    def apply(self, log_odds: Floats) -> Floats:
        """P(good) in 0..1, in the order of the log odds."""
        margins = bend(log_odds, self.power) / self.temperature + self.shift
        probabilities: Floats = 1.0 / (1.0 + np.exp(-np.clip(margins, -700, 700)))
        return probabilities


Fit = Callable[[Floats, Labels], Calibration]


def bend(log_odds: Floats, power: float) -> Floats:
    """The log odds with their sizes raised to a power, their signs kept."""
    if power == 1.0:
        return log_odds
    bent: Floats = np.sign(log_odds) * np.abs(log_odds) ** power
    return bent


def fit_calibration(log_odds: Floats, labels: Labels) -> Calibration:
    """The temperature and shift of least log loss. The log odds must be out of fold."""
    calibration, _ = _fit(log_odds, labels, has_shift=True)
    return calibration


def fit_pair_calibration(log_odds: Floats, labels: Labels) -> Calibration:
    """The temperature and power of least log loss, for log odds of one side against the other."""
    powers = POWERS if len(log_odds) >= MIN_ROWS_FOR_POWER else (1.0,)
    found = [(_fit(bend(log_odds, power), labels, has_shift=False), power) for power in powers]
    (calibration, _), power = min(found, key=lambda one: one[0][1])
    return Calibration(temperature=calibration.temperature, shift=0.0, power=power)


def calibrate_across_folds(
    log_odds: Floats, labels: Labels, folds: Folds, *, fit: Fit = fit_calibration
) -> Floats:
    """P(good) of each row by a calibration fitted on the rows of the other folds.

    What a calibration achieves on the rows it was fitted on says nothing; this does.
    """
    probabilities = np.empty(len(log_odds))
    for fold in np.unique(folds):
        inside = folds == fold
        calibration = fit(log_odds[~inside], labels[~inside])
        probabilities[inside] = calibration.apply(log_odds[inside])
    return probabilities


def _fit(log_odds: Floats, labels: Labels, *, has_shift: bool) -> tuple[Calibration, float]:
    """The calibration and its log loss (nats a row).

    One row of each class is added halfway (Platt's prior), so that separable rows stay finite.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    num_good = int(labels.sum())
    num_bad = len(labels) - num_good
    targets = np.where(labels, (num_good + 1) / (num_good + 2), 1 / (num_bad + 2))

    def objective(point: Floats) -> tuple[float, Floats]:
        margins = point[0] * log_odds + point[1]
        loss = np.logaddexp(0.0, margins) - targets * margins
        residuals = expit(margins) - targets
        return float(loss.mean()), np.array([(residuals * log_odds).mean(), residuals.mean()])

    found = minimize(
        objective,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(MIN_SLOPE, MAX_SLOPE), (-20.0, 20.0) if has_shift else (0.0, 0.0)],
    )
    calibration = Calibration(temperature=float(1.0 / found.x[0]), shift=float(found.x[1]))
    return calibration, float(found.fun)
