"""The chart, the test of a share, and many tests at once."""

import numpy as np
import pytest

from rlhf_core.alerts.chance import (
    chance_below,
    pick_discoveries,
    score_negatives,
)

USUAL = {"weight": 0.2, "baseline_days": 42, "min_n": 30}


def simulate(num: int, *, runs: int = 300, quiet: int = 46, after: int = 20) -> np.ndarray:
    """Whether each run alarms on each day: 20 % negatives, 30 % from day `quiet` on."""
    rng = np.random.default_rng(7)
    shares = np.concatenate([np.full(quiet, 0.2), np.full(after, 0.3)])
    counts = np.full((runs, quiet + after), num)
    scores = score_negatives(rng.binomial(counts, shares), counts, **USUAL)
    return np.nan_to_num(scores, nan=-np.inf) > 3.2


@pytest.mark.parametrize("num", [50, 200])
def test_quiet_weeks_stay_quiet_and_a_drop_is_found_within_five_days(num: int) -> None:
    alarms = simulate(num)
    assert alarms[:, :46].any(axis=1).mean() <= 0.13
    after = alarms[:, 46:]
    days = np.where(after.any(axis=1), after.argmax(axis=1) + 1, 99)
    assert np.median(days) <= 5


def test_average_starts_at_the_baseline_and_takes_in_seven_days() -> None:
    counts = np.full(30, 100.0)
    bad = np.full(30, 20.0)
    bad[-1] = 60.0
    score = score_negatives(bad, counts, **USUAL)[-1]
    base = 20 * 23 + 0.5
    share = base / 2301
    average = share
    for _ in range(6):
        average += 0.2 * (0.2 - average)
    average += 0.2 * (0.6 - average)
    variance = sum(0.04 * 0.64**age / 100 for age in range(7)) + (1 - 0.8**7) ** 2 / 2300
    assert score == pytest.approx((average - share) / np.sqrt(share * (1 - share) * variance))


def test_nothing_is_said_without_a_baseline_or_of_few() -> None:
    counts = np.full(40, 100.0)
    scores = score_negatives(counts * 0.2, counts, **USUAL)
    assert np.isnan(scores[:20]).all(), "13 days of baseline are too few"
    assert np.isfinite(scores[20:]).all()
    assert np.isnan(score_negatives(counts * 0.002, counts * 0.04, **USUAL)).all()
    assert np.isnan(score_negatives(np.zeros(40), counts, **USUAL)).all()


def test_days_without_feedback_move_nothing() -> None:
    counts = np.full(60, 100.0)
    bad = np.full(60, 20.0)
    bad[-10:] = 40.0
    weekdays = np.arange(60) % 7 < 5
    scores = score_negatives(bad * weekdays, counts * weekdays, **USUAL)
    assert np.isfinite(scores[-20:]).all()
    assert scores[-1] > 3.2


def test_no_days_and_few_days_give_no_scores() -> None:
    for days in (0, 1, 5):
        assert score_negatives(np.zeros((2, days)), np.zeros((2, days)), **USUAL).shape == (2, days)


def test_chance_of_a_share_is_near_the_exact_binomial() -> None:
    # P(X <= 35 | n = 50, p = 0.8) = 0.0607, P(X <= 150 | 200, 0.8) = 0.0494 (exact sums)
    assert chance_below(35, 50, 0.8) == pytest.approx(0.0607, abs=0.005)
    assert chance_below(150, 200, 0.8) == pytest.approx(0.0494, abs=0.005)
    assert chance_below(50, 50, 0.8) > 0.99


def test_benjamini_and_hochberg_pick_by_rank_and_not_by_each_alone() -> None:
    chances = [0.9, 0.001, 0.03, 0.012, 0.2]
    # sorted: 0.001 <= 0.01, 0.012 <= 0.02, 0.03 <= 0.03, 0.2 > 0.04
    assert pick_discoveries(chances, 0.05) == [False, True, True, True, False]
    assert pick_discoveries([0.04], 0.05) == [True]
    assert pick_discoveries([0.04] * 2 + [0.9] * 8, 0.05) == [False] * 10
    assert pick_discoveries([], 0.05) == []


def test_of_slices_without_any_change_few_are_told() -> None:
    rng = np.random.default_rng(3)
    told = [
        any(pick_discoveries([chance_below(int(k), 200, 0.8) for k in runs], 0.05))
        for runs in rng.binomial(200, 0.8, size=(300, 20))
    ]
    assert np.mean(told) <= 0.08
    alone = [chance_below(int(k), 200, 0.8) <= 0.05 for k in rng.binomial(200, 0.8, size=6000)]
    assert np.mean(alone) > 0.03, "each alone, one of twenty is told by chance"
