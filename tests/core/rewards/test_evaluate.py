"""Figures against scikit-learn and values worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from rlhf_core.rewards import evaluate


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_auc_is_scikit_learns_also_with_ties_and_weights(rng: np.random.Generator) -> None:
    labels = rng.random(300) < 0.4
    scores = np.round(rng.normal(size=300) + labels, 1)  # many ties
    weights = rng.integers(0, 4, size=(5, 300)).astype(float)
    expected = [roc_auc_score(labels, scores, sample_weight=row) for row in weights]
    assert evaluate.compute_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert evaluate.compute_auc(scores, labels, weights) == pytest.approx(expected)


def test_auc_of_equal_scores_is_a_half_and_of_one_class_undefined() -> None:
    labels = np.array([True, False, True])
    assert evaluate.compute_auc(np.zeros(3), labels) == pytest.approx(0.5)
    assert np.isnan(evaluate.compute_auc(np.arange(3.0), np.ones(3, dtype=bool))).all()


def test_brier_and_accuracy_are_scikit_learns(rng: np.random.Generator) -> None:
    labels, probabilities = rng.random(200) < 0.5, rng.random(200)
    brier = evaluate.compute_brier(probabilities, labels)
    accuracy = evaluate.compute_accuracy(probabilities, labels)
    assert brier == pytest.approx(brier_score_loss(labels, probabilities))
    assert accuracy == pytest.approx(accuracy_score(labels, probabilities >= 0.5))


def test_ece_is_the_value_worked_out_by_hand() -> None:
    # bin 0.2-0.3 says 0.25 and 1 of 2 is so; bin 0.9-1 says 0.95 and 1 of 2 is so, 1.0 in it too
    probabilities = np.array([0.25, 0.25, 0.9, 1.0])
    labels = np.array([True, False, True, False])
    expected = 0.5 * abs(0.25 - 0.5) + 0.5 * abs(0.95 - 0.5)
    assert evaluate.compute_ece(probabilities, labels) == pytest.approx(expected)


def test_classification_report_is_scikit_learns(rng: np.random.Generator) -> None:
    labels, predicted = rng.random(100) < 0.3, rng.random(100) < 0.6
    report = evaluate.classification_report(predicted, labels)
    expected = precision_recall_fscore_support(labels, predicted, labels=[True, False])
    for place, name in enumerate(["good", "bad"]):
        found = report[name]
        values = [found["precision"], found["recall"], found["f1"], found["support"]]
        assert values == pytest.approx([row[place] for row in expected], abs=1e-4)


def test_report_of_a_class_never_predicted_is_zero_and_not_nan() -> None:
    report = evaluate.classification_report(np.zeros(4, dtype=bool), np.array([True] + [False] * 3))
    assert report["good"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}


def test_only_pairs_of_one_prompt_with_different_ratings_count() -> None:
    ratings = np.array([5.0, 1.0, 3.0, 3.0, 5.0])
    scores = np.array([0.9, 0.1, 0.9, 0.2, 0.2])
    groups = ["a", "a", "a", "b", "b"]
    # a: 5>1 right, 5>3 tied score, 3>1 right; b: 3<5 with equal scores
    found = evaluate.count_ordered_pairs(scores, ratings, groups)
    assert (found.num_right, found.num_pairs) == (3.0, 4)


def test_bootstrap_draws_whole_prompts() -> None:
    groups = ["a", "a", "b", "c", "c", "c"]
    weights = evaluate.resample_groups(groups, seed=1, resamples=50)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    drawn = weights[:, [0, 2, 3]].sum(axis=1)
    assert (drawn == 3).all()


def test_interval_by_prompt_is_wider_than_rows_are_different() -> None:
    # 20 prompts whose 30 answers are all alike: 20 observations, not 600
    labels = np.repeat(np.arange(20) % 2 == 0, 30)
    groups = [str(index // 30) for index in range(600)]
    weights = evaluate.resample_groups(groups, seed=0)
    value, interval = evaluate.measure(
        lambda w: evaluate.compute_accuracy(np.ones(600), labels, w), weights
    )
    assert value == pytest.approx(0.5)
    assert interval is not None
    assert interval[1] - interval[0] > 0.35  # of 600 independent rows it would be 0.08
