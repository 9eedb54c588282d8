"""Scoring every row by a model that has seen no row of the same prompt."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlhf_core.rewards.folds import Folds
from rlhf_core.rewards.logistic import Basis, Floats, Labels, balance_weights, fit_line


@dataclass(frozen=True)
class OutOfFold:
    """`log_odds` (n,) of each row; `chosen` is the C that each fold was given, `best` that of all.

    A fold's C is the one that did best on the other folds, so its rows have no say in their own
    figures; `best` is for the model that is fitted on all rows.
    """

    log_odds: Floats
    chosen: tuple[float, ...]
    best: float


def score_out_of_fold(
    basis: Basis,
    labels: Labels,
    weights: Floats,
    folds: Folds,
    grid: tuple[float, ...],
    on_progress: Callable[[float], None] = lambda share: None,
    *,
    is_paired: bool = False,
) -> OutOfFold:
    """Fit every C of the grid without each fold in turn, and score the fold.

    `weights` are those of the rows before classes are balanced. C is chosen by the log loss with
    balanced classes. `is_paired`: the rows are differences of two sides, so that there are no
    classes to balance and no intercept.
    """
    num_folds = int(folds.max()) + 1
    losses = np.zeros((len(grid), num_folds))
    log_odds = np.zeros((len(grid), len(labels)))
    balance = even_weights if is_paired else balance_weights
    balanced = balance(labels, weights)
    for fold in range(num_folds):
        outside, inside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        fold_weights = np.zeros(len(labels))
        fold_weights[outside] = balance(labels[outside], weights[outside])
        for number, regularisation in enumerate(grid):
            line = fit_line(
                basis,
                outside,
                labels,
                fold_weights,
                regularisation=regularisation,
                has_intercept=not is_paired,
            )
            found = line.score(basis.rows[inside])
            log_odds[number, inside] = found
            signed = np.where(labels[inside], found, -found)
            losses[number, fold] = balanced[inside] @ np.logaddexp(0.0, -signed)
        on_progress((fold + 1) / num_folds)
    mixed = np.empty(len(labels))
    chosen = []
    for fold in range(num_folds):
        best = int(np.argmin(np.delete(losses, fold, axis=1).sum(axis=1)))
        mixed[folds == fold] = log_odds[best, folds == fold]
        chosen.append(grid[best])
    overall = grid[int(np.argmin(losses.sum(axis=1)))]
    return OutOfFold(log_odds=mixed, chosen=tuple(chosen), best=overall)


def even_weights(labels: Labels, weights: Floats) -> Floats:
    """Row weights scaled so that their mean is 1."""
    scaled: Floats = weights / weights.mean()
    return scaled
