"""Logistic regression with an L2 penalty, many times on parts of the same rows.

The same minimum as scikit-learn's `LogisticRegression`, found about five times sooner where the
features are embeddings: their spread falls over many orders of magnitude, which makes the usual
solver take hundreds of steps. Here the features are turned once to their principal axes (an exact
change of basis, also a smaller one where there are fewer rows than features), and each axis is
scaled by what the objective's curvature is there; some twenty steps are enough.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlhf_core.errors import TrainingFailed
from rlhf_core.rewards.features import Array

Labels = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]

MAX_STEPS = 500
TOLERANCE = 1e-7  # relative change of the objective at which the search ends
CURVATURE = 0.2  # of the logistic loss between its greatest value, 0.25, and what ends near


def one_thread() -> AbstractContextManager[object]:
    """Run the linear algebra of a block on one thread.

    Its products are short: threads that wait for each other cost more than they save, and when the
    machine also does other work, twenty times as much (measured on two cores).
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


@dataclass(frozen=True)
class Basis:
    """Features (n, d) turned to principal axes: `rows` (n, r) with r <= min(n, d), float32.

    `axes` (d, r) turns coefficients back; `spread` (r,) is the sum of squares along each axis.
    """

    rows: npt.NDArray[np.float32]
    axes: Floats
    spread: Floats


def turn_to_axes(features: Array) -> Basis:
    """Turn the features to their principal axes. Nothing is lost but rounding."""
    full = features.astype(np.float64)
    num_rows, width = full.shape
    if num_rows < width:
        spread, left = np.linalg.eigh(full @ full.T)
        kept = spread > spread[-1] * 1e-12
        spread, left = spread[kept], left[:, kept]
        axes = full.T @ (left / np.sqrt(spread))
    else:
        spread, axes = np.linalg.eigh(full.T @ full)
        kept = spread > spread[-1] * 1e-12
        spread, axes = spread[kept], axes[:, kept]
    return Basis(rows=(full @ axes).astype(np.float32), axes=axes, spread=spread)


def balance_weights(labels: Labels, weights: Floats) -> Floats:
    """Row weights scaled so that both classes weigh half, the mean row weight 1."""
    good = weights[labels].sum()
    bad = weights[~labels].sum()
    scale = np.where(labels, 0.5 / good, 0.5 / bad) * len(labels)
    balanced: Floats = weights * scale
    return balanced


@dataclass(frozen=True)
class Line:
    """A fitted regression in a basis: log odds = rows @ coefficients + intercept."""

    coefficients: Floats
    intercept: float

    def score(self, rows: Array) -> Floats:
        """Log odds of the rows of the same basis."""
        found: Floats = (
            _times(rows, self.coefficients.astype(rows.dtype)) + np.float32(self.intercept)
        ).astype(np.float64)
        return found


def fit_line(
    basis: Basis,
    part: Indices,
    labels: Labels,
    weights: Floats,
    *,
    regularisation: float,
    has_intercept: bool = True,
) -> Line:
    """Fit the rows `part` of the basis; labels and weights are those of all its rows.

    `regularisation` is scikit-learn's C: small is smooth. The intercept is not penalised; without
    one, a row turned round (features and label) teaches the same.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    rows = basis.rows if len(part) == len(basis.rows) else basis.rows[part]
    row_weights = weights[part]
    signs = np.where(labels[part], 1.0, -1.0)
    penalty = 1.0 / regularisation
    share = len(part) / len(basis.rows)
    curvature = np.append(
        penalty + CURVATURE * row_weights.mean() * basis.spread * share,
        CURVATURE * row_weights.sum(),
    )
    scale = 1.0 / np.sqrt(curvature)

    def objective(scaled: Floats) -> tuple[float, Floats]:
        point = scale * scaled
        if not has_intercept:
            point[-1] = 0.0
        margins = signs * (_times(rows, point[:-1].astype(np.float32)) + point[-1])
        loss = float(row_weights @ np.logaddexp(0.0, -margins))
        loss += 0.5 * penalty * float(point[:-1] @ point[:-1])
        residuals = -row_weights * signs * expit(-margins)
        slope = _times(rows.T, residuals.astype(np.float32)) + penalty * point[:-1]
        lift = residuals.sum() if has_intercept else 0.0
        return loss, scale * np.append(slope, lift)

    found = minimize(
        objective,
        np.zeros(len(scale)),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_STEPS, "ftol": TOLERANCE, "gtol": 1e-9},
    )
    point = scale * found.x
    if not np.isfinite(point).all():
        raise TrainingFailed(
            "The linear head found no finite weights: its rows hold a number that is none."
        )
    return Line(coefficients=point[:-1], intercept=float(point[-1]))


def _times(rows: Array, weights: Array) -> Array:
    """`rows @ weights`, without the warning that OpenBLAS at times raises for finite numbers.

    Its kernel reads along what lies behind a short row. Whether the result is finite is asked at
    the end.
    """
    with np.errstate(invalid="ignore"):
        found: Array = rows @ weights
    return found
