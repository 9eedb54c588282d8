"""From log odds to probabilities that mean what they say.

Training with balanced classes shifts all log odds, and a learner with many features is too sure
of itself. A temperature T and a shift b, fitted on rows that the learner had not seen, mend both:
P(good) = sigmoid(log odds / T + b). The order of scores stays the same, as T > 0.
Guo et al. 2017, "On Calibration of Modern Neural Networks"; the shift is Platt's (1999).
"""

from dataclasses import dataclass

import numpy as np

from rlhf_core.rewards.folds import Folds
from rlhf_core.rewards.logistic import Floats, Labels

MIN_SLOPE = 0.01  # T <= 100: log odds that say nothing become the base rate
MAX_SLOPE = 10.0  # T >= 0.1


@dataclass(frozen=True)
class Calibration:
    """P(good) = sigmoid(log odds / temperature + shift)."""

    temperature: float
    shift: float

    def apply(self, log_odds: Floats) -> Floats:
        """P(good) in 0..1, in the order of the log odds."""
        margins = log_odds / self.temperature + self.shift
        probabilities: Floats = 1.0 / (1.0 + np.exp(-np.clip(margins, -700, 700)))
        return probabilities


def fit_calibration(log_odds: Floats, labels: Labels) -> Calibration:
    """The temperature and shift of least log loss. The log odds must be out of fold.

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
        bounds=[(MIN_SLOPE, MAX_SLOPE), (-20.0, 20.0)],
    )
    return Calibration(temperature=float(1.0 / found.x[0]), shift=float(found.x[1]))


def calibrate_across_folds(log_odds: Floats, labels: Labels, folds: Folds) -> Floats:
    """P(good) of each row by a calibration fitted on the rows of the other folds.

    What a calibration achieves on the rows it was fitted on says nothing; this does.
    """
    probabilities = np.empty(len(log_odds))
    for fold in np.unique(folds):
        inside = folds == fold
        calibration = fit_calibration(log_odds[~inside], labels[~inside])
        probabilities[inside] = calibration.apply(log_odds[inside])
    return probabilities
