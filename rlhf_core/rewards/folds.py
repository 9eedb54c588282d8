"""Folds for cross-validation: no prompt in two of them, the same share of good rows in each."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlhf_core.rewards.logistic import Labels

Folds = npt.NDArray[np.intp]


def assign_folds(labels: Labels, groups: Sequence[str], *, num_folds: int, seed: int) -> Folds:
    """The fold (0, 1, ...) of each row; rows of one group share it. Deterministic by seed.

    Groups are dealt out largest first (equal ones in an order drawn by the seed), each to the fold
    that lacks most of what the group holds. There are fewer folds than `num_folds`, but never
    fewer than two, where fewer groups hold good rows or hold bad ones.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    good = np.bincount(members, weights=labels, minlength=len(names))
    size = np.bincount(members, minlength=len(names)).astype(float)
    holds = np.column_stack([good, size - good])
    num_folds = max(2, min(num_folds, *(int((column > 0).sum()) for column in holds.T)))
    totals = np.maximum(holds.sum(axis=0), 1.0)
    lacking = np.ones((num_folds, 2))  # share of its part that each fold still lacks, by class
    drawn = np.random.default_rng(seed).permutation(len(names))
    fold_of_group = np.empty(len(names), dtype=np.intp)
    is_empty = np.ones(num_folds, dtype=bool)
    order = drawn[np.argsort(-size[drawn], kind="stable")]
    for place, group in enumerate(order):
        share = holds[group] / totals
        need = lacking @ share
        if is_empty.sum() >= len(order) - place:  # the last groups fill the folds still empty
            need = np.where(is_empty, need, -np.inf)
        fold = int(np.argmax(need))
        fold_of_group[group] = fold
        lacking[fold] -= share * num_folds
        is_empty[fold] = False
    return fold_of_group[members]
