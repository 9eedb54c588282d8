"""Calibration and figures of a transformer reward model on its held-out prompts."""

from typing import Any

import numpy as np

from rlhf_core.rewards import evaluate
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.calibration import Calibration, calibrate_across_folds, fit_calibration
from rlhf_core.rewards.folds import Folds
from rlhf_core.rewards.logistic import Labels
from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_rows import Corpus

NUM_FOLDS = 5
MIN_LABELS = 20  # of an aspect; with fewer its calibration is that of the overall head


def calibrate(logits: Floats, held: Corpus, threshold: float) -> tuple[Calibration, ...]:
    """How each head becomes P(good), from logits (n, texts a row, heads) of held-out rows.

    Of ratings, P(rating >= threshold). Of pairs, a temperature such that the difference of two
    log odds is that of a preference, and a shift such that the mean completion has 0.5.
    """
    if held.has_pairs:
        differences, labels = _both_ways(logits)
        fitted = _fit_scaled(differences, labels)  # even both ways: it finds no shift
        shift = -float(logits[:, :, 0].mean()) / fitted.temperature
        return (Calibration(temperature=fitted.temperature, shift=shift),)
    found: list[Calibration] = []
    for head in range(logits.shape[2]):
        ratings = held.targets[:, head]
        known = ~np.isnan(ratings)
        if head and known.sum() < MIN_LABELS:
            found.append(found[0])
            continue
        found.append(_fit_scaled(logits[known, 0, head], ratings[known] >= threshold))
    return tuple(found)


def measure_held_out(
    logits: Floats, held: Corpus, learned: Corpus, params: TransformerParams
) -> tuple[dict[str, float], dict[str, Any]]:
    """(metrics, details) of the held-out rows; calibrated figures across folds of their prompts.

    `length_only_...` is the best that the number of tokens alone can do, its direction learned
    from the rows trained on.
    """
    if held.has_pairs:
        differences, labels = _both_ways(logits)
        folds = np.tile(_fold_prompts(held, params.seed), 2)
        probabilities = calibrate_across_folds(differences, labels, folds, fit=_fit_scaled)
        statistics: dict[str, evaluate.Statistic] = {}
        gaps = logits[:, 0, 0] - logits[:, 1, 0]
        hits = np.where(gaps == 0, 0.5, gaps > 0)
        statistics["pair_accuracy"] = lambda w: (w @ hits) / w.sum(axis=1)
        metrics, details = _measure(statistics, held, params.seed)
        lengths, direction = _length_gaps(held), np.sign(_length_gaps(learned).mean())
        by_length = np.where(lengths == 0, 0.5, lengths * direction > 0)
        metrics["length_only_pair_accuracy"] = float(by_length.mean())
    else:
        labels = held.targets[:, 0] >= params.threshold
        scores, ratings = logits[:, 0, 0], held.targets[:, 0]
        probabilities = calibrate_across_folds(
            scores, labels, _fold_prompts(held, params.seed), fit=_fit_scaled
        )
        metrics, details = _measure(
            {"auc": lambda w: evaluate.compute_auc(scores, labels, w)}, held, params.seed
        )
        metrics["spearman"] = float(evaluate.compute_spearman(scores, ratings)[0])
        share = float(labels.mean())
        metrics["majority_accuracy"] = max(share, 1.0 - share)
        lengths = np.array(held.lengths, dtype=np.float64)
        train_lengths = np.array(learned.lengths, dtype=np.float64)
        slope = evaluate.compute_spearman(train_lengths, learned.targets[:, 0])[0]
        direction = -1.0 if slope < 0 else 1.0
        metrics["length_only_auc"] = float(evaluate.compute_auc(direction * lengths, labels)[0])
    metrics["accuracy"] = float(evaluate.compute_accuracy(probabilities, labels)[0])
    metrics["brier"] = float(evaluate.compute_brier(probabilities, labels)[0])
    metrics["ece"] = float(evaluate.compute_ece(probabilities, labels)[0])
    details["reliability"] = evaluate.reliability_table(probabilities, labels)
    details["n"] = len(held)
    details["num_prompts"] = len(set(held.groups))
    finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return finite, details


def held_out_loss(logits: Floats, held: Corpus) -> float:
    """How far scores are from held-out rows, whatever their scale: what calibration leaves.

    Ratings: 1 - the weighted correlation; pairs: the log loss (nats) at the best temperature.
    """
    if held.has_pairs:
        differences, labels = _both_ways(logits)
        temperature = _fit_scaled(differences, labels).temperature
        loss = float(np.logaddexp(0.0, -differences[labels] / temperature).mean())
    else:
        loss = 1.0 - _correlate(logits[:, 0, 0], held.targets[:, 0], held.weights)
    return round(loss, 4)  # what is nearer is even


def _measure(
    statistics: dict[str, evaluate.Statistic], held: Corpus, seed: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """Values, and their intervals by a bootstrap of prompts."""
    weights = evaluate.resample_groups(held.groups, seed=seed)
    metrics, intervals = {}, {}
    for name, statistic in statistics.items():
        metrics[name], interval = evaluate.measure(statistic, weights)
        if interval is not None:
            intervals[name] = [round(bound, 4) for bound in interval]
    return metrics, {"intervals": intervals}


def _fit_scaled(log_odds: Floats, labels: Labels) -> Calibration:
    """`fit_calibration`, whose temperature has bounds, for log odds of any size."""
    size = max(1e-9, float(np.abs(log_odds - log_odds.mean()).mean()))
    found = fit_calibration(log_odds / size, labels)
    return Calibration(temperature=found.temperature * size, shift=found.shift)


def _both_ways(logits: Floats) -> tuple[Floats, Labels]:
    """Each pair's difference of rewards, and the same turned round, so that both labels occur."""
    differences = logits[:, 0, 0] - logits[:, 1, 0]
    right = np.ones(len(differences), dtype=bool)
    return np.concatenate([differences, -differences]), np.concatenate([right, ~right])


def _fold_prompts(held: Corpus, seed: int) -> Folds:
    """A fold for each row, by prompt; one fold less than prompts where there are few."""
    names, members = np.unique(np.asarray(held.groups), return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(names))
    folds: Folds = (drawn % min(NUM_FOLDS, len(names)))[members]
    return folds


def _length_gaps(corpus: Corpus) -> Floats:
    return np.array([len(row[0].ids) - len(row[1].ids) for row in corpus.texts], dtype=np.float64)


def _correlate(first: Floats, second: Floats, weights: Floats) -> float:
    """The weighted correlation of Pearson; 0 where one side does not vary."""
    first = first - np.average(first, weights=weights)
    second = second - np.average(second, weights=weights)
    spread = float(np.sqrt((weights @ first**2) * (weights @ second**2)))
    return float((weights * first) @ second) / spread if spread > 1e-12 else 0.0
