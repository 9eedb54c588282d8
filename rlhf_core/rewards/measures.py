"""The figures of scores, with intervals, beside what is had for nothing.

One place for a learner's own out-of-fold figures and for the examination of a finished model, so
that both say the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rlhf_core.rewards import evaluate
from rlhf_core.rewards.logistic import Floats, Labels

Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Measured:
    """Finite figures by name; `baselines[metric][name]` is the metric of something simpler."""

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: Intervals = field(default_factory=dict)
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)


def measure_labelled(
    scores: Floats,
    labels: Labels,
    groups: Sequence[str],
    *,
    weights: Floats,
    probabilities: Floats | None = None,
    ratings: Floats | None = None,
    length_scores: Floats | None = None,
) -> Measured:
    """Scores (n,) of completions that are good or not; any of the figures may be undefined.

    `weights` are those of `evaluate.resample_groups`. With `probabilities`: accuracy, Brier, ECE.
    With `ratings`: Spearman, and the share of a prompt's differently rated pairs in right order.
    With `length_scores`, those of a model that sees lengths only: its figures, and the gain.
    """
    statistics = labelled_statistics(
        scores, labels, groups, probabilities=probabilities, ratings=ratings
    )
    if length_scores is not None:
        lengths = length_scores
        statistics["gain_over_length_auc"] = lambda w: (
            evaluate.compute_auc(scores, labels, w) - evaluate.compute_auc(lengths, labels, w)
        )
    metrics, intervals = apply_statistics(statistics, weights)
    share_good = float(labels.mean())
    baselines = {
        "accuracy": {"majority": max(share_good, 1.0 - share_good)},
        "brier": {"base_rate": share_good * (1.0 - share_good)},
        "auc": {"majority": 0.5},
    }
    if length_scores is not None:
        baselines["auc"]["length_only"] = float(evaluate.compute_auc(length_scores, labels)[0])
        if ratings is not None:
            right, cases = evaluate.order_by_prompt(length_scores, ratings, groups)
            baselines["pair_accuracy"] = {
                "length_only": float(evaluate.compute_share(right, cases)[0])
            }
            baselines["spearman"] = {
                "length_only": float(evaluate.compute_spearman(length_scores, ratings)[0])
            }
    metrics["share_good"] = share_good
    return Measured(metrics, intervals, _only_finite(baselines, metrics))


def measure_pairs(
    probabilities: Floats, *, weights: Floats, length_log_odds: Floats | None = None
) -> Measured:
    """P(the chosen side is better) (n,) of pairs with a better side.

    ECE looks at each pair from both sides, so that it does not matter which stands first. Brier of
    a coin is 0.25.
    """
    wins = _count_wins(probabilities - 0.5)
    statistics = pair_statistics(probabilities)
    baselines = {"pair_accuracy": {"majority": 0.5}, "brier": {"base_rate": 0.25}}
    if length_log_odds is not None:
        by_length = _count_wins(length_log_odds)
        statistics["gain_over_length_pair_accuracy"] = lambda w: evaluate.compute_share(
            wins - by_length, np.ones(len(wins)), w
        )
        baselines["pair_accuracy"]["length_only"] = float(by_length.mean())
    metrics, intervals = apply_statistics(statistics, weights)
    return Measured(metrics, intervals, _only_finite(baselines, metrics))


def labelled_statistics(
    scores: Floats,
    labels: Labels,
    groups: Sequence[str],
    *,
    probabilities: Floats | None = None,
    ratings: Floats | None = None,
) -> dict[str, evaluate.Statistic]:
    """What `measure_labelled` measures, by name, without the gain over lengths."""
    statistics: dict[str, evaluate.Statistic] = {
        "auc": lambda w: evaluate.compute_auc(scores, labels, w)
    }
    if probabilities is not None:
        says = probabilities  # bound once: mypy, and the lambdas
        statistics |= {
            "accuracy": lambda w: evaluate.compute_accuracy(says, labels, w),
            "brier": lambda w: evaluate.compute_brier(says, labels, w),
            "ece": lambda w: evaluate.compute_ece(says, labels, w),
        }
    if ratings is not None:
        stars = ratings
        right, cases = evaluate.order_by_prompt(scores, ratings, groups)
        statistics |= {
            "spearman": lambda w: evaluate.compute_spearman(scores, stars, w),
            "pair_accuracy": lambda w: evaluate.compute_share(right, cases, w),
        }
    return statistics


def pair_statistics(probabilities: Floats) -> dict[str, evaluate.Statistic]:
    """What `measure_pairs` measures, by name, without the gain over lengths."""
    wins = _count_wins(probabilities - 0.5)
    ones = np.ones(len(wins))
    both = np.concatenate([probabilities, 1.0 - probabilities])
    labels = np.repeat([True, False], len(wins))
    return {
        "pair_accuracy": lambda w: evaluate.compute_share(wins, ones, w),
        "brier": lambda w: evaluate.compute_brier(probabilities, ones.astype(bool), w),
        "ece": lambda w: evaluate.compute_ece(both, labels, np.hstack([w, w])),
    }


def apply_statistics(
    statistics: dict[str, evaluate.Statistic], weights: Floats
) -> tuple[dict[str, float], Intervals]:
    """The defined ones of the statistics, and their intervals."""
    metrics: dict[str, float] = {}
    intervals: Intervals = {}
    for name, statistic in statistics.items():
        value, interval = evaluate.measure(statistic, weights)
        if np.isfinite(value):
            metrics[name] = value
            if interval is not None:
                intervals[name] = (round(interval[0], 4), round(interval[1], 4))
    return metrics, intervals


def _count_wins(differences: Floats) -> Floats:
    """1 where the chosen side is ahead, 0 where it is behind, a half where both are even."""
    wins: Floats = (1.0 + np.sign(differences)) / 2.0
    return wins


def _only_finite(
    baselines: dict[str, dict[str, float]], metrics: dict[str, float]
) -> dict[str, dict[str, float]]:
    finite = {
        metric: {name: value for name, value in values.items() if np.isfinite(value)}
        for metric, values in baselines.items()
        if metric in metrics
    }
    return {metric: values for metric, values in finite.items() if values}
