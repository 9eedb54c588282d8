import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from rlhf_core.rewards.logistic import balance_weights, fit_line, turn_to_axes


@pytest.mark.parametrize(("num_rows", "width"), [(60, 200), (300, 40)])
@pytest.mark.parametrize("regularisation", [0.01, 1.0])
def test_fit_is_scikit_learns_on_more_and_on_fewer_rows_than_features(
    num_rows: int, width: int, regularisation: float
) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(num_rows, width)) * np.logspace(0, -3, width)
    labels = features[:, 0] + 0.3 * rng.normal(size=num_rows) > 0.4
    weights = rng.integers(1, 9, size=num_rows).astype(float)
    basis = turn_to_axes(features)
    balanced = balance_weights(labels, weights)
    line = fit_line(basis, np.arange(num_rows), labels, balanced, regularisation=regularisation)
    expected = LogisticRegression(C=regularisation, tol=1e-10, max_iter=10_000).fit(
        features, labels, sample_weight=balanced
    )
    assert basis.axes @ line.coefficients == pytest.approx(expected.coef_[0], abs=2e-3)
    assert line.intercept == pytest.approx(expected.intercept_[0], abs=2e-3)


def test_fit_of_a_part_does_not_see_the_other_rows() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.normal(size=(100, 5)), rng.random(100) < 0.5
    part = np.arange(60)
    spoiled = labels.copy()
    spoiled[60:] = ~spoiled[60:]
    basis, weights = turn_to_axes(features), np.ones(100)
    one = fit_line(basis, part, labels, weights, regularisation=1.0)
    other = fit_line(basis, part, spoiled, weights, regularisation=1.0)
    assert one.coefficients.tolist() == other.coefficients.tolist()


def test_both_classes_weigh_half() -> None:
    labels = np.array([True, False, False, False])
    balanced = balance_weights(labels, np.array([2.0, 1.0, 1.0, 4.0]))
    assert balanced[labels].sum() == pytest.approx(balanced[~labels].sum())
    assert balanced.sum() == pytest.approx(4.0)
