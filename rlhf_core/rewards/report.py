"""The figures of a learner's out-of-fold scores, as its page and its card show them."""

from typing import Any

import numpy as np

from rlhf_core.rewards import evaluate
from rlhf_core.rewards.folds import Folds
from rlhf_core.rewards.logistic import Floats
from rlhf_core.rewards.measures import Measured, measure_labelled, measure_pairs
from rlhf_core.rewards.sbert_rows import Prepared


def build_report(
    prepared: Prepared,
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
    kept = np.ones(len(log_odds), dtype=bool) if prepared.is_tie is None else ~prepared.is_tie
    labels = prepared.labels[kept]
    groups = [group for group, is_kept in zip(prepared.groups, kept, strict=True) if is_kept]
    weights = evaluate.resample_groups(groups, seed=seed)
    uncalibrated = 1.0 / (1.0 + np.exp(-np.clip(log_odds[kept], -700, 700)))
    if prepared.is_paired:
        sign = np.where(labels, 1.0, -1.0)
        chosen = np.where(labels, probabilities[kept], 1.0 - probabilities[kept])
        raw = np.where(labels, uncalibrated, 1.0 - uncalibrated)
        measured = measure_pairs(
            chosen, weights=weights, length_log_odds=sign * length_log_odds[kept]
        )
        before = measure_pairs(raw, weights=weights)
    else:
        measured = measure_labelled(
            log_odds,
            labels,
            groups,
            weights=weights,
            probabilities=probabilities,
            ratings=prepared.ratings,
            length_scores=length_log_odds,
        )
        before = measure_labelled(
            log_odds, labels, groups, weights=weights, probabilities=uncalibrated
        )
    metrics = measured.metrics | _flatten(measured) | {"uncalibrated_ece": before.metrics["ece"]}
    intervals = measured.intervals | {"uncalibrated_ece": before.intervals["ece"]}
    details: dict[str, Any] = {
        "objective": prepared.objective.value,
        "n": len(labels),
        "num_prompts": len(set(groups)),
        "num_ratings": prepared.num_ratings,
        "num_ties": 0 if prepared.is_tie is None else int(prepared.is_tie.sum()) // 2,
        "num_pairs": _count_pairs(prepared, len(labels)),
        "intervals": {name: list(bounds) for name, bounds in intervals.items()},
        "reliability": evaluate.reliability_table(probabilities[kept], labels),
        "reliability_uncalibrated": evaluate.reliability_table(uncalibrated, labels),
        "folds": [
            {
                "n": int((folds[kept] == fold).sum()),
                "good": int(labels[folds[kept] == fold].sum()),
                "prompts": len({groups[row] for row in np.flatnonzero(folds[kept] == fold)}),
            }
            for fold in range(int(folds.max()) + 1)
        ],
    }
    if not prepared.is_paired:
        details["classification_report"] = evaluate.classification_report(
            probabilities >= 0.5, labels
        )
    return metrics, details


def _flatten(measured: Measured) -> dict[str, float]:
    """Baselines among the metrics: `length_only_auc`, `majority_accuracy`, `base_rate_brier` ..."""
    return {
        f"{name}_{metric}": value
        for metric, values in measured.baselines.items()
        for name, value in values.items()
    }


def _count_pairs(prepared: Prepared, num_kept: int) -> int:
    if prepared.is_paired or prepared.ratings is None:
        return num_kept
    _, cases = evaluate.order_by_prompt(prepared.ratings, prepared.ratings, prepared.groups)
    return int(cases.sum())
