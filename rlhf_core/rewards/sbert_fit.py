"""Fitting the heads of the embeddings model, and testing them on prompts not seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_core.rewards import evaluate, features
from rlhf_core.rewards.calibration import (
    Calibration,
    Fit,
    calibrate_across_folds,
    fit_calibration,
    fit_pair_calibration,
)
from rlhf_core.rewards.crossval import OutOfFold, even_weights, score_out_of_fold
from rlhf_core.rewards.folds import Folds, assign_folds
from rlhf_core.rewards.heads import OVERALL
from rlhf_core.rewards.logistic import (
    Basis,
    Floats,
    balance_weights,
    fit_line,
    turn_to_axes,
)
from rlhf_core.rewards.report import build_report
from rlhf_core.rewards.sbert_rows import AspectRows, Prepared


@dataclass(frozen=True)
class Head:
    """A fitted regression over the joint features, and what makes probabilities of it."""

    weights: Floats
    intercept: float
    calibration: Calibration


@dataclass(frozen=True)
class Learned:
    """The heads by name (`overall` among them), and their figures out of fold."""

    heads: dict[str, Head]
    scale: features.TextScale
    metrics: dict[str, float]
    details: dict[str, Any]


@dataclass(frozen=True)
class Embedded:
    """Embeddings (n, d) of prompts, completions and, of pairs, the other completions."""

    prompts: features.Array
    completions: features.Array
    others: features.Array | None


def learn_heads(
    prepared: Prepared,
    embedded: Embedded,
    *,
    num_folds: int,
    grid: tuple[float, ...],
    seed: int,
    on_progress: Callable[[float, str], None],
) -> Learned:
    """Test on prompts not seen, then fit on all rows; `on_progress` is told 0..1 and a word."""
    counts = features.count_texts(prepared.prompts, prepared.completions)
    other_counts = (
        None if prepared.others is None else features.count_texts(prepared.prompts, prepared.others)
    )
    everything = counts if other_counts is None else np.vstack([counts, other_counts])
    scale = features.measure_scale(everything)
    table = _build_table(embedded, counts, other_counts, scale)
    basis = turn_to_axes(table)
    folds = assign_folds(prepared.labels, prepared.groups, num_folds=num_folds, seed=seed)

    def say(share: float) -> None:
        on_progress(0.6 * share, "Testing on prompts not seen")

    tested = _test(basis, prepared, folds, grid, say)
    on_progress(0.6, "Fitting the model on all rows")
    overall = _fit(basis, prepared, tested)
    overall = _centre(overall, prepared, embedded, counts, other_counts, scale)
    heads = {OVERALL: overall}
    aspect_metrics: dict[str, dict[str, float]] = {}
    for number, (name, aspect) in enumerate(prepared.aspects.items(), start=1):
        heads[name], aspect_metrics[name] = _learn_aspect(
            basis, prepared, aspect, folds, grid, seed
        )
        on_progress(0.6 + 0.3 * number / len(prepared.aspects), f"Learned the aspect {name}")

    on_progress(0.9, "Measuring")
    lengths = features.build_text_features(counts[:, :2], _lengths_of(scale))
    if other_counts is not None:
        lengths = lengths - features.build_text_features(other_counts[:, :2], _lengths_of(scale))
    by_length = _test(turn_to_axes(lengths), prepared, folds, grid, lambda share: None)
    metrics, details = build_report(
        prepared,
        folds=folds,
        log_odds=tested.log_odds,
        probabilities=calibrate_across_folds(
            tested.log_odds, prepared.labels, folds, fit=_calibrator(prepared)
        ),
        length_log_odds=by_length.log_odds,
        seed=seed,
    )
    metrics |= {"regularisation": tested.best, "temperature": overall.calibration.temperature}
    details |= {"regularisation_by_fold": list(tested.chosen), "aspects": aspect_metrics}
    return Learned(heads=heads, scale=scale, metrics=metrics, details=details)


def _build_table(
    embedded: Embedded,
    counts: features.Array,
    other_counts: features.Array | None,
    scale: features.TextScale,
) -> features.Array:
    """The joint features of each row; of pairs, those of one side less those of the other."""
    table = features.build_joint_features(
        embedded.prompts, embedded.completions, features.build_text_features(counts, scale)
    )
    if embedded.others is None or other_counts is None:
        return table
    table -= features.build_joint_features(
        embedded.prompts, embedded.others, features.build_text_features(other_counts, scale)
    )
    return table


def _lengths_of(scale: features.TextScale) -> features.TextScale:
    return features.TextScale(mean=scale.mean[:2], deviation=scale.deviation[:2])


def _test(
    basis: Basis,
    prepared: Prepared,
    folds: Folds,
    grid: tuple[float, ...],
    on_progress: Callable[[float], None],
) -> OutOfFold:
    return score_out_of_fold(
        basis,
        prepared.labels,
        prepared.weights,
        folds,
        grid,
        on_progress,
        is_paired=prepared.is_paired,
    )


def _fit(basis: Basis, prepared: Prepared, tested: OutOfFold) -> Head:
    balance = even_weights if prepared.is_paired else balance_weights
    line = fit_line(
        basis,
        np.arange(len(prepared.labels)),
        prepared.labels,
        balance(prepared.labels, prepared.weights),
        regularisation=tested.best,
        has_intercept=not prepared.is_paired,
    )
    return Head(
        weights=basis.axes @ line.coefficients,
        intercept=line.intercept,
        calibration=_calibrator(prepared)(tested.log_odds, prepared.labels),
    )


def _calibrator(prepared: Prepared) -> Fit:
    return fit_pair_calibration if prepared.is_paired else fit_calibration


def _centre(
    head: Head,
    prepared: Prepared,
    embedded: Embedded,
    counts: features.Array,
    other_counts: features.Array | None,
    scale: features.TextScale,
) -> Head:
    """Pairs fix differences only: the mean completion of the training pairs is put at a half."""
    if embedded.others is None or other_counts is None:
        return head
    found = [
        features.apply_weights(
            head.weights, embedded.prompts, side, features.build_text_features(texts, scale)
        )
        for side, texts in ((embedded.completions, counts), (embedded.others, other_counts))
    ]
    return Head(
        weights=head.weights,
        intercept=-float(np.mean(found)),
        calibration=head.calibration,
    )


def _learn_aspect(
    basis: Basis,
    prepared: Prepared,
    aspect: AspectRows,
    folds: Folds,
    grid: tuple[float, ...],
    seed: int,
) -> tuple[Head, dict[str, float]]:
    """The head of one aspect, from the rows that were rated in it, and its figures."""
    rows = basis.rows[aspect.rows]
    part = Basis(rows=rows, axes=basis.axes, spread=(rows.astype(np.float64) ** 2).sum(axis=0))
    groups = [prepared.groups[row] for row in aspect.rows]
    chosen = Prepared(
        objective=prepared.objective,
        prompts=[],
        completions=[],
        others=None,
        labels=aspect.labels,
        weights=prepared.weights[aspect.rows],
        groups=groups,
    )
    num_folds = int(folds.max()) + 1
    own_folds = assign_folds(aspect.labels, groups, num_folds=num_folds, seed=seed)
    tested = _test(part, chosen, own_folds, grid, lambda share: None)
    head = _fit(part, chosen, tested)
    probabilities = calibrate_across_folds(tested.log_odds, aspect.labels, own_folds)
    return head, {
        "n": float(len(groups)),
        "share_good": float(aspect.labels.mean()),
        "auc": float(evaluate.compute_auc(tested.log_odds, aspect.labels)[0]),
        "accuracy": float(evaluate.compute_accuracy(probabilities, aspect.labels)[0]),
        "ece": float(evaluate.compute_ece(probabilities, aspect.labels)[0]),
    }
