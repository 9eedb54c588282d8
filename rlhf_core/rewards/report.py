"""The figures of a reward model, as its page and its card show them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_core.examples import ScoredCompletion
from rlhf_core.rewards import evaluate
from rlhf_core.rewards.folds import Folds
from rlhf_core.rewards.logistic import Floats, Labels


def build_report(
    rows: Sequence[ScoredCompletion],
    labels: Labels,
    *,
    folds: Folds,
    log_odds: Floats,
    probabilities: Floats,
    length_log_odds: Floats,
    seed: int,
) -> tuple[dict[str, float], dict[str, Any]]:
    """(metrics, details) of out-of-fold scores.

    `log_odds` are uncalibrated, `probabilities` calibrated across folds, `length_log_odds` those of
    the baseline that sees lengths only. Intervals (95 %) are a bootstrap by prompt.
    """
    groups = [row.group for row in rows]
    ratings = np.array([row.score for row in rows])
    weights = evaluate.resample_groups(groups, seed=seed)
    uncalibrated = 1.0 / (1.0 + np.exp(-np.clip(log_odds, -700, 700)))
    intervals: dict[str, list[float]] = {}
    statistics: dict[str, evaluate.Statistic] = {
        "auc": lambda w: evaluate.compute_auc(log_odds, labels, w),
        "length_only_auc": lambda w: evaluate.compute_auc(length_log_odds, labels, w),
        "gain_over_length_auc": lambda w: (
            evaluate.compute_auc(log_odds, labels, w)
            - evaluate.compute_auc(length_log_odds, labels, w)
        ),
        "accuracy": lambda w: evaluate.compute_accuracy(probabilities, labels, w),
        "brier": lambda w: evaluate.compute_brier(probabilities, labels, w),
        "ece": lambda w: evaluate.compute_ece(probabilities, labels, w),
        "uncalibrated_ece": lambda w: evaluate.compute_ece(uncalibrated, labels, w),
    }
    metrics: dict[str, float] = {}
    for name, statistic in statistics.items():
        value, interval = evaluate.measure(statistic, weights)
        metrics[name] = value
        if interval is not None:
            intervals[name] = [round(bound, 4) for bound in interval]
    share_good = float(labels.mean())
    metrics |= {
        "majority_accuracy": max(share_good, 1.0 - share_good),
        "base_rate_brier": share_good * (1.0 - share_good),
        "share_good": share_good,
    }
    pairs = evaluate.count_ordered_pairs(log_odds, ratings, groups)
    if pairs.num_pairs:
        by_length = evaluate.count_ordered_pairs(length_log_odds, ratings, groups)
        metrics |= {
            "pair_accuracy": pairs.num_right / pairs.num_pairs,
            "length_only_pair_accuracy": by_length.num_right / pairs.num_pairs,
        }
    details = {
        "n": len(rows),
        "num_prompts": len(set(groups)),
        "num_ratings": sum(row.num_ratings for row in rows),
        "num_pairs": pairs.num_pairs,
        "intervals": intervals,
        "classification_report": evaluate.classification_report(probabilities >= 0.5, labels),
        "reliability": evaluate.reliability_table(probabilities, labels),
        "reliability_uncalibrated": evaluate.reliability_table(uncalibrated, labels),
        "folds": [
            {
                "n": int((folds == fold).sum()),
                "good": int(labels[folds == fold].sum()),
                "prompts": len({groups[index] for index in np.flatnonzero(folds == fold)}),
            }
            for fold in range(int(folds.max()) + 1)
        ],
    }
    return metrics, details
