"""Sequential tests: known answers, and what they promise while one looks on."""

from math import log, sqrt

import numpy as np
import pytest

from rlhf_core.release.sample_ratio import check_sample_ratio
from rlhf_core.release.sequential import (
    always_valid_half,
    boundaries,
    boundary_constant,
    crossing_chances,
    drift_needed,
    harm_reach,
    log_harm,
    log_more_failures,
    log_preference,
)


@pytest.mark.parametrize(
    ("alpha", "looks", "constant"),
    [
        (0.05, 1, 1.960),
        (0.05, 2, 1.977),
        (0.05, 3, 2.004),
        (0.05, 5, 2.040),
        (0.05, 10, 2.087),
        (0.10, 5, 1.751),
        (0.01, 5, 2.621),
    ],
)
def test_constant_is_that_of_the_published_table(alpha: float, looks: int, constant: float) -> None:
    # Jennison and Turnbull, Group Sequential Methods (2000), table 2.3
    assert boundary_constant(alpha, looks) == pytest.approx(constant, abs=0.0006)


def test_boundaries_fall_from_look_to_look() -> None:
    assert boundaries(0.05, 5) == pytest.approx((4.562, 3.226, 2.634, 2.281, 2.040), abs=0.001)


@pytest.mark.parametrize(("power", "inflation"), [(0.8, 1.028), (0.9, 1.026)])
def test_looking_five_times_costs_under_three_percent_more_users(
    power: float, inflation: float
) -> None:
    # the same book, table 2.4
    fixed = {0.8: 1.959964 + 0.841621, 0.9: 1.959964 + 1.281552}[power]
    assert (drift_needed(0.05, power, 5) / fixed) ** 2 == pytest.approx(inflation, abs=0.001)


def test_power_of_the_plan_is_that_of_simulated_paths() -> None:
    rng = np.random.default_rng(3)
    drift, constant = 3.6, boundary_constant(0.05, 5)
    paths = np.cumsum(rng.normal(drift / 5, sqrt(1 / 5), (40_000, 5)), axis=1)
    is_out = np.abs(paths) >= constant
    found = is_out.any(axis=1) & (paths[np.arange(len(paths)), is_out.argmax(axis=1)] > 0)
    assert crossing_chances(constant, 5, drift=drift)[1] == pytest.approx(found.mean(), abs=0.006)


def test_harm_is_ever_called_in_fewer_runs_than_alpha_although_looked_at_each_time() -> None:
    rng = np.random.default_rng(5)
    sums = np.cumsum(rng.normal(0.0, 1.0, (500, 400)), axis=1)
    called = 0
    for path in sums:
        for number in range(10, 400, 10):
            # the mean of `number` differences, each of standard deviation 1
            if log_harm(path[number] / (number + 1), 1 / (number + 1), 0.1) >= log(1 / 0.05):
                called += 1
                break
    assert 0 < called / 500 <= 0.05


def test_a_better_version_is_no_evidence_of_harm() -> None:
    assert log_harm(0.3, 0.001, 0.1) < 0 < log_harm(-0.3, 0.001, 0.1)
    assert log_harm(2.0, 1e-6, 0.1) < log_harm(0.0, 1e-6, 0.1)  # far out in the tail


def test_harm_is_reached_where_the_evidence_is_one_over_alpha() -> None:
    reach = harm_reach(0.0005, 0.1, 0.025)
    assert log_harm(-reach, 0.0005, 0.1) == pytest.approx(log(40), abs=1e-6)
    assert always_valid_half(0.0005, 0.1, 0.05) == pytest.approx(reach, rel=0.01)


def test_always_valid_interval_is_wider_than_the_usual_one_and_narrows() -> None:
    usual = 1.96 * sqrt(0.0004)
    assert usual < always_valid_half(0.0004, 0.1, 0.05) < 2 * usual
    assert always_valid_half(0.0001, 0.1, 0.05) < always_valid_half(0.0004, 0.1, 0.05)


def test_three_users_who_all_meet_errors_are_enough() -> None:
    assert log_more_failures((0, 2), (38, 2), max_rise=0.01) < log(80)
    assert log_more_failures((0, 3), (57, 3), max_rise=0.01) > log(80)


def test_errors_of_both_arms_alike_are_no_evidence() -> None:
    assert log_more_failures((300, 16), (950, 50), max_rise=0.01) < 0
    assert log_more_failures((10, 0), (1_000, 50), max_rise=0.01) < 0
    assert log_more_failures((0, 0), (0, 0), max_rise=0.01) == pytest.approx(0, abs=1e-9)


def test_a_rise_within_the_allowed_one_is_no_evidence_however_many_users() -> None:
    assert log_more_failures((1_000, 1_900), (100_000, 100_000), max_rise=0.01) < 0
    assert log_more_failures((1_000, 1_900), (100_000, 100_000), max_rise=0.0) > 100


def test_errors_are_falsely_called_in_fewer_runs_than_alpha() -> None:
    rng = np.random.default_rng(9)
    called = 0
    for _ in range(200):
        failed = np.cumsum(rng.random((2, 300)) < 0.05, axis=1)
        called += any(
            log_more_failures((failed[0, n], failed[1, n]), (n + 1, n + 1), max_rise=0.0)
            >= log(1 / 0.05)
            for n in range(9, 300, 10)
        )
    assert called / 200 <= 0.05


def test_preference_needs_more_than_a_few_wins() -> None:
    assert log_preference(3, 0) < log(20) < log_preference(8, 0)
    assert log_preference(500, 500) < 0
    assert log_preference(0, 8) < 0
    # exact sum and normal tail meet where one takes over from the other
    assert log_preference(215, 184) == pytest.approx(log_preference(215, 185), abs=0.25)


def test_users_in_the_promised_ratio_pass_and_lost_ones_do_not() -> None:
    assert (check_sample_ratio([(9_510, 490)], [0.05]) or 0) > 0.05
    assert (check_sample_ratio([(9_510, 390)], [0.05]) or 0) < 0.001
    # the same loss in one of two steps; the other is as it should be
    assert (check_sample_ratio([(950, 50), (7_500, 2_150)], [0.05, 0.25]) or 0) < 0.001


def test_sample_ratio_says_nothing_of_few_users_or_of_all_of_them() -> None:
    assert check_sample_ratio([(60, 0)], [0.05]) is None
    assert check_sample_ratio([(0, 500)], [1.0]) is None
    assert check_sample_ratio([], []) is None
