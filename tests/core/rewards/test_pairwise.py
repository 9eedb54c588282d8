"""Which of two completions is better."""

import numpy as np
import pytest

from rlhf_core.rewards.calibration import fit_pair_calibration
from rlhf_core.rewards.evaluate import compute_ece, compute_spearman
from rlhf_core.rewards.pairwise import compare_scores


def test_even_scores_are_even_and_sides_turn_round() -> None:
    firsts, seconds = np.array([0.3, 0.9, 0.0]), np.array([0.3, 0.2, 1.0])
    there = compare_scores(firsts, seconds, is_probability=True)
    back = compare_scores(seconds, firsts, is_probability=True)
    assert there[0] == 0.5
    assert there + back == pytest.approx(np.ones(3))
    # good and not good, against not good and good
    assert there[1] == pytest.approx(0.9 * 0.8 / (0.9 * 0.8 + 0.1 * 0.2))
    assert np.isfinite(there).all()


def test_free_numbers_are_bradley_terrys() -> None:
    found = compare_scores(np.array([2.0, 5000.0]), np.array([1.0, -5000.0]), is_probability=False)
    assert found == pytest.approx([1 / (1 + np.exp(-1)), 1.0])


def test_pairs_that_are_too_sure_far_out_are_calibrated_by_a_power() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=4_000)
    labels = rng.random(4_000) < 1 / (1 + np.exp(-true))
    said = np.sign(true) * np.abs(true) ** 2 * 3
    calibration = fit_pair_calibration(said, labels)
    assert calibration.power == 0.5
    assert calibration.shift == 0
    assert calibration.apply(np.zeros(1))[0] == 0.5
    assert compute_ece(calibration.apply(said), labels)[0] < 0.03


def test_spearman_is_scipys_also_with_ties_and_weights() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(1)
    one = np.round(rng.normal(size=200), 1)
    two = np.round(one + rng.normal(size=200), 0)
    weights = rng.integers(0, 3, size=(4, 200)).astype(float)
    assert compute_spearman(one, two)[0] == pytest.approx(spearmanr(one, two).statistic)
    expected = [
        spearmanr(np.repeat(one, row.astype(int)), np.repeat(two, row.astype(int))).statistic
        for row in weights
    ]
    assert compute_spearman(one, two, weights) == pytest.approx(expected)
    assert np.isnan(compute_spearman(one, np.zeros(200))).all()
