"""The plan that is shown before a start."""

import json
import math

import pytest

from rlhf_core.errors import InvalidInput
from rlhf_core.release.plans import (
    ASSUMED_APPROVAL,
    Traffic,
    measure_traffic,
    plan_canary,
    plan_from_json,
)
from rlhf_core.release.sums import ArmSums

BUSY = Traffic(
    requests_per_day=9_000, users_per_day=1_200, raters_per_day=400, feedback_per_day=400,
    approval=0.8,
)  # fmt: skip


def test_users_are_those_of_the_textbook_times_the_price_of_looking() -> None:
    plan = plan_canary(BUSY, detectable_drop=0.05, power=0.9)
    # (1.960 + 1.282)^2 * (0.8 * 0.2 + 0.75 * 0.25) / 0.05^2, times 1.026 for five looks
    textbook = 3.24155**2 * (0.16 + 0.1875) / 0.05**2 * 1.0265
    assert plan.users_per_arm == pytest.approx(textbook, rel=0.002)
    assert plan.boundaries[-1] == pytest.approx(2.040, abs=0.001)


def test_a_small_share_needs_more_users_in_all_and_more_days() -> None:
    five, half = (plan_canary(BUSY, traffic_percent=percent) for percent in (5.0, 50.0))
    assert five.num_users > 4 * half.num_users
    assert five.num_treated == pytest.approx(five.num_users * 0.05, abs=1)
    assert five.days_expected == pytest.approx(five.num_users / 400, rel=0.01)


def test_ratings_of_one_user_that_are_alike_cost_days() -> None:
    alike = Traffic(raters_per_day=400, feedback_per_day=1_200, approval=0.8, design_effect=2.0)
    apart = Traffic(raters_per_day=400, feedback_per_day=1_200, approval=0.8)
    assert plan_canary(alike).num_users == pytest.approx(2 * plan_canary(apart).num_users, abs=2)


def test_open_ended_costs_more_users_and_has_no_looks() -> None:
    planned, open_ended = plan_canary(BUSY), plan_canary(BUSY, is_planned=False)
    assert open_ended.num_users > planned.num_users
    assert (open_ended.looks, open_ended.boundaries) == (0, ())


def test_without_feedback_of_late_the_days_are_unknown_and_the_users_are_not() -> None:
    plan = plan_canary(Traffic())
    assert plan.days_expected is None
    assert plan.num_users > 1_000
    assert plan.approval == ASSUMED_APPROVAL


def test_plan_comes_back_from_its_row() -> None:
    for is_planned in (True, False):
        plan = plan_canary(BUSY, is_planned=is_planned)
        assert plan_from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    "damaged", [None, [], {}, {"alpha": 1}, {"power": "much"}, {"boundaries": [2.0]}]
)
def test_a_damaged_plan_is_a_sentence(damaged: object) -> None:
    with pytest.raises(InvalidInput, match="plan is damaged"):
        plan_from_json(damaged)


def test_what_a_plan_lacks_is_reckoned_from_the_rest() -> None:
    plan = plan_canary(Traffic(), looks=3, harm_alpha=0.02)
    assert plan_from_json({"looks": 3, "harm_alpha": 0.02}) == plan
    older = {name: value for name, value in plan.to_json().items() if name != "max_error_rise"}
    assert plan_from_json(older) == plan


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 0.0), ("alpha", math.nan), ("power", 1.0), ("detectable_drop", 0.0),
        ("looks", 0), ("looks", 500), ("harm_alpha", 1.5), ("traffic_percent", 101.0),
        ("traffic_percent", 0.0), ("max_error_rise", -0.1),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_named(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match="choose from") as error:
        plan_canary(BUSY, **{field: value})  # type: ignore[arg-type]
    assert error.value.field == field


def test_traffic_is_measured_a_day_with_how_alike_one_users_ratings_are() -> None:
    # 100 users with 4 ratings each, all good or all bad
    sums = ArmSums(
        num_requests=2_800, num_users=700, num_raters=100, num_feedback=400, num_good=320,
        sum_nn=1_600, sum_yy=80 * 16, sum_ny=80 * 16,
    )  # fmt: skip
    traffic = measure_traffic(sums, 14)
    assert (traffic.requests_per_day, traffic.users_per_day) == (200, 50)
    assert traffic.approval == 0.8
    assert traffic.design_effect == pytest.approx(4.0, rel=0.01)


def test_no_traffic_is_measured_as_none() -> None:
    assert measure_traffic(ArmSums(), 14) == Traffic()
