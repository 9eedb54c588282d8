"""Verdicts in words, with the numbers that they rest on."""

from collections.abc import Mapping, Sequence

from rlhf_core.release.sums import ArmSums, Strata

Numbers = Mapping[str, float | int | None]

ADVICE = {
    "better": "Raise its share, or promote it.",
    "no_worse": "It may take the next step.",
    "no_difference": "Neither harm nor gain is shown: promote it for other reasons, or stop.",
    "worse": "It is rolled back.",
}
SAID = {
    "better": "Better",
    "no_worse": "No worse",
    "no_difference": "No difference shown",
    "worse": "Worse",
}


def say_decision(
    kind: str,
    control: ArmSums,
    treatment: ArmSums,
    numbers: Numbers,
    drop: float,
    *,
    look: int = 0,
    looks: int = 0,
) -> str:
    """`better`, `no_worse`, `no_difference` or `worse`, and why. `looks` 0: open-ended."""
    parts = [f"{SAID[kind]}: {_say_difference(control, treatment, numbers)}"]
    if kind == "no_worse":
        parts.append(f"A drop of {points(drop)} points or more is ruled out.")
    if kind == "no_difference":
        parts.append(f"A drop of {points(drop)} points cannot be ruled out.")
    if looks:
        parts.append(f"Decided by look {look} of {looks}.")
    return " ".join([*parts, ADVICE[kind]])


def say_harm(control: ArmSums, treatment: ArmSums, numbers: Numbers) -> str:
    """Ratings fell."""
    return (
        f"Harm: {_say_difference(control, treatment, numbers)} "
        f"Valid at any time, {_say_p(numbers['p_harm'])}."
    )


def say_errors(control: ArmSums, treatment: ArmSums, numbers: Numbers, rise: float) -> str:
    """More users met an error."""
    allowed = f"{points(rise)} points above the control" if rise else "the control"
    return (
        f"Errors: {_say_failed(treatment)} met an error under the treatment, "
        f"{_say_failed(control)} under the control. That is more than {allowed}: "
        f"valid at any time, {_say_p(numbers['p_errors'])}."
    )


def say_mismatch(strata: Strata, shares: Sequence[float], p: float) -> str:
    """The arms did not get the users that they should."""
    treated = sum(treatment.num_users for _, treatment in strata)
    users = treated + sum(control.num_users for control, _ in strata)
    expected = sum(
        share * (control.num_users + treatment.num_users)
        for (control, treatment), share in zip(strata, shares, strict=True)
    )
    return (
        f"No verdict: {treated:,} of {users:,} users got the treatment, {expected:,.0f} were to "
        f"({_say_p(p)} by chance). Who is missing may be who would have complained: find out why "
        "requests are lost or counted twice, then start anew."
    )


def say_too_few(control: ArmSums, treatment: ArmSums, least: int) -> str:
    """Nothing can be said of ratings yet."""
    return (
        f"Too early: {treatment.num_raters:,} users rated the treatment and "
        f"{control.num_raters:,} the control, at least {least} each are needed. "
        f"Errors are watched from the first request: {_say_failed(treatment)} met one under the "
        f"treatment, {_say_failed(control)} under the control."
    )


def say_waiting(
    control: ArmSums, treatment: ArmSums, numbers: Numbers, look: int, looks: int
) -> str:
    """Neither harm nor a decision so far."""
    head = f"Keep waiting: {_say_difference(control, treatment, numbers)}"
    if not looks:
        return f"{head} The interval has to narrow before anything is ruled out."
    evidence = min(1.0, numbers["evidence"] or 0.0)
    after = f"after look {look} of {looks}" if look else f"before the first of {looks} looks"
    return f"{head} {evidence:.0%} of the planned evidence is in, {after}."


def points(share: float) -> str:
    """A share's size in points, as short as it can be said: 0.05 is 5."""
    return f"{100 * share:.1f}".removesuffix(".0")


def _say_difference(control: ArmSums, treatment: ArmSums, numbers: Numbers) -> str:
    value, low, high = (numbers[name] or 0.0 for name in ("difference", "low", "high"))
    way = "higher" if value >= 0 else "lower"
    steps = int(numbers.get("steps") or 0)
    within = f", compared within {steps} steps of the share," if steps > 1 else ""
    return (
        f"approval is {points(abs(value))} points {way}{within} under the treatment "
        f"({_say_ratings(treatment)}) than under the control ({_say_ratings(control)}); "
        f"interval {100 * low:+.1f} to {100 * high:+.1f} points."
    )


def _say_ratings(arm: ArmSums) -> str:
    share = f"{arm.approval:.1%}" if arm.approval is not None else "none"
    return f"{share} of {arm.num_feedback:,} ratings by {arm.num_raters:,} users"


def _say_failed(arm: ArmSums) -> str:
    return f"{arm.num_failed_users:,} of {arm.num_users:,} users"


def _say_p(p: float | int | None) -> str:
    if p is None:
        return "p unknown"
    return f"p {p:.3f}" if p >= 0.001 else "p < 0.001"
