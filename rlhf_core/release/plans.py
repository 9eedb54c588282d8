"""The plan of a canary: how sure, how many users, how many days; made before it starts."""

from dataclasses import asdict, dataclass, fields
from math import ceil, exp, isfinite, log, sqrt
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.release.sequential import (
    MAX_LOOKS,
    NORMAL,
    always_valid_half,
    boundaries,
    drift_needed,
    harm_reach,
)
from rlhf_core.release.sums import ArmSums

SHARES = (5.0, 25.0, 100.0)
"""Percent of the traffic that a version gets one after the other; the last is its promotion."""
ASSUMED_APPROVAL = 0.8  # where nothing was rated yet
HARM_HALVES = 2  # ratings and errors share the chance of a false roll back
CHOSEN = (
    "is_planned", "traffic_percent", "detectable_drop", "power", "alpha", "looks", "tau",
    "harm_alpha", "max_error_rise",
)  # fmt: skip
"""The numbers of a plan that people choose; the others follow."""


@dataclass(frozen=True)
class Traffic:
    """What a model's answers got a day of late.

    Args:
        approval: good share of the feedback (0-1); None: no feedback yet.
        design_effect: how much wider an interval is for one user's ratings being alike, as a
            factor of the variance (1 and more).
    """

    requests_per_day: float = 0.0
    users_per_day: float = 0.0
    raters_per_day: float = 0.0
    feedback_per_day: float = 0.0
    approval: float | None = None
    design_effect: float = 1.0


def measure_traffic(sums: ArmSums, days: float) -> Traffic:
    """The traffic of one arm's sums over so many days."""
    effect = 1.0
    if sums.approval is not None and sums.num_raters > 1:
        share = (sums.num_good + 1) / (sums.num_feedback + 2)
        effect = max(1.0, sums.variance() * sums.num_feedback / (share * (1 - share)))
    return Traffic(
        requests_per_day=sums.num_requests / days,
        users_per_day=sums.num_users / days,
        raters_per_day=sums.num_raters / days,
        feedback_per_day=sums.num_feedback / days,
        approval=sums.approval,
        design_effect=effect,
    )


@dataclass(frozen=True)
class CanaryPlan:
    """How a deployment is judged. Shares and chances lie between 0 and 1.

    Args:
        is_planned: looked at `looks` times and then decided; else open-ended, judged at all times.
        alpha: the chance that equal versions are called different.
        power: the chance to find a drop of `detectable_drop`.
        detectable_drop: of the approval; a version proved to be within it is no worse.
        boundaries: the |z| that decides at each look (O'Brien-Fleming); empty if open-ended.
        information: 1 / variance of the difference that the plan ends with.
        tau: standard deviation of the differences that the always-valid tests reckon with.
        harm_alpha: the chance that a version as good as production ever sets off an alarm, which
            rolls it back by itself. A planned look that says worse does so, too: alpha / 2 more.
        max_error_rise: so much more of the users may meet an error before that counts as harm.
        approval: of production, as it was when the plan was made.
        users_per_arm: users with feedback an arm, were the traffic split in halves.
        num_users: users with feedback in both arms at `traffic_percent`.
        num_treated: those of `num_users` who get the new version.
        days_expected: None: no feedback came of late, so nothing is known.
    """

    is_planned: bool
    alpha: float
    power: float
    detectable_drop: float
    looks: int
    boundaries: tuple[float, ...]
    information: float
    tau: float
    harm_alpha: float
    max_error_rise: float
    approval: float
    traffic_percent: float
    users_per_arm: int
    num_users: int
    num_treated: int
    days_expected: float | None

    @property
    def alarm_level(self) -> float:
        """The alpha of each of the two tests that roll back by themselves."""
        return self.harm_alpha / HARM_HALVES

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, for the row of the deployment."""
        return {**asdict(self), "boundaries": list(self.boundaries)}


def plan_from_json(data: object) -> CanaryPlan:
    """What `to_json` gave; what is missing is reckoned from the rest, and the usual numbers.

    Raises:
        InvalidInput: it is no plan.
    """
    names = {field.name for field in fields(CanaryPlan)}
    try:
        values = {name: data[name] for name in names & set(data)}  # type: ignore[call-overload, index]
        if not values:
            raise InvalidInput("nothing is in it")
        if len(values) < len(names):
            values = {**_reckon(values), **values}
        bounds = values["boundaries"] = tuple(values["boundaries"])
        numbers = [value for name, value in values.items() if name != "boundaries"]
        if values["days_expected"] is None:
            numbers.remove(None)
        if len(bounds) != values["looks"] or not all(map(isfinite, (*numbers, *bounds))):
            raise InvalidInput("a number is none")
        return CanaryPlan(**values)
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        message = "The deployment's plan is damaged: stop it and start it anew."
        raise InvalidInput(message) from error


def _reckon(values: dict[str, Any]) -> dict[str, Any]:
    chosen = {name: values[name] for name in CHOSEN if name in values}
    if not values.get("is_planned", True):
        chosen.pop("looks", None)
    return asdict(plan_canary(Traffic(approval=values.get("approval")), **chosen))


def plan_canary(
    traffic: Traffic,
    *,
    is_planned: bool = True,
    traffic_percent: float = SHARES[0],
    detectable_drop: float = 0.05,
    power: float = 0.9,
    alpha: float = 0.05,
    looks: int = 5,
    tau: float = 0.1,
    harm_alpha: float = 0.05,
    max_error_rise: float = 0.01,
) -> CanaryPlan:
    """Reckon the users and days that finding `detectable_drop` takes at the traffic seen.

    Raises:
        InvalidInput: a number lies outside its range; `field` names it.
    """
    _check(
        alpha=(alpha, 0.0001, 0.5), power=(power, 0.5, 0.999),
        detectable_drop=(detectable_drop, 0.005, 0.5), looks=(looks, 1, MAX_LOOKS),
        tau=(tau, 0.001, 1.0), harm_alpha=(harm_alpha, 0.0001, 0.5),
        max_error_rise=(max_error_rise, 0.0, 0.5), traffic_percent=(traffic_percent, 0.1, 99.9),
    )  # fmt: skip
    if is_planned:
        information = (drift_needed(alpha, power, looks) / detectable_drop) ** 2
    else:
        information = _open_ended_information(detectable_drop, power, tau, harm_alpha / HARM_HALVES)
    known = ASSUMED_APPROVAL if traffic.approval is None else traffic.approval
    approval = min(max(known, 0.01), 0.99)
    users = _users(information, approval, detectable_drop, traffic, traffic_percent / 100)
    halves = _users(information, approval, detectable_drop, traffic, 0.5)
    return CanaryPlan(
        is_planned=is_planned,
        alpha=alpha,
        power=power,
        detectable_drop=detectable_drop,
        looks=looks if is_planned else 0,
        boundaries=boundaries(alpha, looks) if is_planned else (),
        information=information,
        tau=tau,
        harm_alpha=harm_alpha,
        max_error_rise=max_error_rise,
        approval=known,
        traffic_percent=traffic_percent,
        users_per_arm=ceil(halves / 2),
        num_users=ceil(users),
        num_treated=ceil(users * traffic_percent / 100),
        days_expected=users / traffic.raters_per_day if traffic.raters_per_day else None,
    )


def _users(
    information: float, approval: float, drop: float, traffic: Traffic, share: float
) -> float:
    """Users with feedback, both arms together, until 1 / variance reaches `information`."""
    lower = max(approval - drop, 0.01)
    spread = lower * (1 - lower) / share + approval * (1 - approval) / (1 - share)
    each = traffic.feedback_per_day / traffic.raters_per_day if traffic.raters_per_day else 1.0
    return information * spread * traffic.design_effect / each


def _open_ended_information(drop: float, power: float, tau: float, alpha: float) -> float:
    """1 / variance where the one-sided mSPRT has found the drop with this chance, or before."""
    low, high = log(1.0), log(1e9)
    for _ in range(60):
        middle = (low + high) / 2
        variance = exp(-middle)
        found = NORMAL.cdf((drop - harm_reach(variance, tau, alpha)) / sqrt(variance))
        low, high = (middle, high) if found < power else (low, middle)
    # no worse than the drop has to be shown, too: the interval must be as narrow
    while always_valid_half(exp(-high), tau, alpha * HARM_HALVES) > drop:
        high += 0.01
    return exp(high)


def _check(**values: tuple[float, float, float]) -> None:
    for name, (value, low, high) in values.items():
        if not isfinite(value) or not low <= value <= high:
            raise InvalidInput(f"{name} {value:g}: choose from {low:g} to {high:g}.", field=name)
