"""How good scores are: discrimination, calibration, order within a prompt; with intervals.

Every function takes row weights, because an interval draws whole prompts with replacement: answers
to one prompt resemble each other, and intervals that treat them as independent are too narrow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_core.rewards.logistic import Floats, Indices, Labels

NUM_BINS = 10
NUM_RESAMPLES = 400
CELLS_A_BLOCK = 2_000_000
"""Resampled weights times rows that are worked on at once: bounds memory to some 100 MB."""
Statistic = Callable[[Floats], Floats]
"""Row weights (resamples, n) to one value a resample; NaN where it is not defined."""


def compute_auc(scores: Floats, labels: Labels, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve, ties counted half: one value a row of weights (b, n).

    NaN where the weights leave only one class.
    """
    table = _as_table(weights, len(scores))
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(scores[order], return_index=True)
    good = np.add.reduceat(table[:, order] * labels[order], first, axis=1)
    bad = np.add.reduceat(table[:, order] * ~labels[order], first, axis=1)
    below = np.cumsum(bad, axis=1) - bad
    area = (good * (below + 0.5 * bad)).sum(axis=1)
    return _ratio(area, good.sum(axis=1) * bad.sum(axis=1))


def compute_accuracy(
    probabilities: Floats, labels: Labels, weights: Floats | None = None
) -> Floats:
    """Share of rows where P(good) >= 0.5 agrees with the label: one value a row of weights."""
    table = _as_table(weights, len(labels))
    return _ratio(table @ ((probabilities >= 0.5) == labels).astype(float), table.sum(axis=1))


def compute_brier(probabilities: Floats, labels: Labels, weights: Floats | None = None) -> Floats:
    """Mean squared difference of P(good) and the label (0 best): one value a row of weights."""
    table = _as_table(weights, len(labels))
    return _ratio(table @ (probabilities - labels) ** 2, table.sum(axis=1))


def compute_ece(probabilities: Floats, labels: Labels, weights: Floats | None = None) -> Floats:
    """Expected calibration error over ten bins of equal width: one value a row of weights.

    The mean distance between what a bin says and what is so, weighted by the bin's rows
    (Naeini et al. 2015). Few rows raise it: read it with its n.
    """
    table = _as_table(weights, len(labels))
    bins = np.eye(NUM_BINS)[_bin_of(probabilities)]
    gaps = np.abs((table * (probabilities - labels)) @ bins)
    return _ratio(gaps.sum(axis=1), table.sum(axis=1))


def compute_spearman(first: Floats, second: Floats, weights: Floats | None = None) -> Floats:
    """Spearman's rank correlation, ties at their mean rank: one value a row of weights.

    NaN where one side is constant.
    """
    table = _as_table(weights, len(first))
    total = table.sum(axis=1)
    centred = []
    for values in (first, second):
        ranks = _rank(values, table)
        centred.append(ranks - _ratio((table * ranks).sum(axis=1), total)[:, None])
    one, other = centred
    together = (table * one * other).sum(axis=1)
    alone = (table * one**2).sum(axis=1) * (table * other**2).sum(axis=1)
    return _ratio(together, np.sqrt(alone))


def compute_share(right: Floats, cases: Floats, weights: Floats | None = None) -> Floats:
    """`right` of `cases`, both (n,), as a share: one value a row of weights; NaN of no cases."""
    table = _as_table(weights, len(right))
    return _ratio(table @ right, table @ cases)


def reliability_table(probabilities: Floats, labels: Labels) -> list[dict[str, float]]:
    """For each bin with rows: its mean P(good), the share that is good, and n."""
    bins = _bin_of(probabilities)
    return [
        {
            "mean_probability": round(float(probabilities[bins == number].mean()), 4),
            "share_good": round(float(labels[bins == number].mean()), 4),
            "n": int((bins == number).sum()),
        }
        for number in range(NUM_BINS)
        if (bins == number).any()
    ]


def classification_report(predicted: Labels, labels: Labels) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and support of `good` and `bad`; 0 where a ratio has no cases."""
    report = {}
    for name, guess, truth in (("good", predicted, labels), ("bad", ~predicted, ~labels)):
        hits = float((guess & truth).sum())
        precision = hits / max(1.0, float(guess.sum()))
        recall = hits / max(1.0, float(truth.sum()))
        report[name] = {
            "precision": round(precision, 4),
            "recall": round(recall, 4),
            "f1": round(2 * precision * recall / max(1e-12, precision + recall), 4),
            "support": int(truth.sum()),
        }
    return report


@dataclass(frozen=True)
class PairOrder:
    """Pairs of differently rated completions of one prompt; `num_right` counts ties half."""

    num_right: float
    num_pairs: int


def count_ordered_pairs(scores: Floats, ratings: Floats, groups: Sequence[str]) -> PairOrder:
    """What reranking needs: within a prompt, does the better rated completion score higher?"""
    right, pairs = order_by_prompt(scores, ratings, groups)
    return PairOrder(num_right=float(right.sum()), num_pairs=int(pairs.sum()))


def order_by_prompt(
    scores: Floats, ratings: Floats, groups: Sequence[str]
) -> tuple[Floats, Floats]:
    """Pairs in the right order (ties half) and all pairs of each prompt, at its first row: (n,).

    So that a draw of prompts weighs them: `weights @ right / weights @ pairs` is its accuracy.
    """
    right, pairs = np.zeros(len(scores)), np.zeros(len(scores))
    names = np.asarray(groups)
    order = np.argsort(names, kind="stable")
    for rows in np.split(order, np.flatnonzero(names[order][1:] != names[order][:-1]) + 1):
        by_rating = np.sign(ratings[rows][:, None] - ratings[rows][None, :])
        by_score = np.sign(scores[rows][:, None] - scores[rows][None, :])
        differ = np.triu(by_rating != 0, k=1)
        pairs[rows[0]] = differ.sum()
        right[rows[0]] = (1 + by_rating * by_score)[differ].sum() / 2
    return right, pairs


def resample_groups(groups: Sequence[str], *, seed: int, resamples: int = NUM_RESAMPLES) -> Floats:
    """Row weights of a bootstrap by prompt: how often each row is drawn, (resamples, n)."""
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    even = np.full(len(names), 1 / len(names))
    counts = rng.multinomial(len(names), even, size=resamples)
    return counts[:, members].astype(np.float64)


def interval_of(values: Floats) -> tuple[float, float] | None:
    """The 95 % percentile interval of resampled values; None where fewer than half are defined."""
    defined = values[np.isfinite(values)]
    if len(defined) * 2 < len(values):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


def measure(statistic: Statistic, weights: Floats) -> tuple[float, tuple[float, float] | None]:
    """The value of a statistic on all rows, and its interval over the resampled weights."""
    value, drawn = draw(statistic, weights)
    return value, interval_of(drawn)


def draw(statistic: Statistic, weights: Floats) -> tuple[float, Floats]:
    """The value of a statistic on all rows, and that of each row of resampled weights (b,)."""
    value = float(statistic(np.ones((1, weights.shape[1])))[0])
    step = max(1, CELLS_A_BLOCK // max(1, weights.shape[1]))
    blocks = [statistic(weights[at : at + step]) for at in range(0, len(weights), step)]
    return value, np.concatenate(blocks)


def _bin_of(probabilities: Floats) -> Indices:
    return np.clip((probabilities * NUM_BINS).astype(np.intp), 0, NUM_BINS - 1)


def _rank(values: Floats, table: Floats) -> Floats:
    """Mean ranks (b, n) where each row counts as often as its weight says."""
    order = np.argsort(values, kind="stable")
    _, first, place = np.unique(values[order], return_index=True, return_inverse=True)
    weight = np.add.reduceat(table[:, order], first, axis=1)
    middle = np.cumsum(weight, axis=1) - weight / 2
    ranks = np.empty(table.shape)
    ranks[:, order] = middle[:, place]
    return ranks


def _as_table(weights: Floats | None, length: int) -> Floats:
    return np.ones((1, length)) if weights is None else np.atleast_2d(weights)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratios = np.full(len(below), np.nan)
    np.divide(above, below, out=ratios, where=below > 0)
    return ratios
