"""The verdict on a running deployment: the same function live, on the page and in simulations.

In this order: errors, the sample ratio, harm, then what the plan asks. A mismatch of the sample
ratio blocks every word about ratings, harm too: whoever is missing may be those who would have
complained. It does not block the roll back on errors: an error is the version's own failure
whoever called, and users who leave after one may be the very reason of the mismatch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, log, sqrt
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.release import judgement_words as words
from rlhf_core.release.plans import CanaryPlan
from rlhf_core.release.sample_ratio import MISMATCH_BELOW, check_sample_ratio
from rlhf_core.release.sequential import always_valid_half, log_harm, log_more_failures
from rlhf_core.release.sums import ArmSums, Difference, Overlap, Strata, compare, sum_arm

MIN_RATERS = 10  # in each arm; below, ratings are no bell curve

Numbers = dict[str, float | int | None]


class VerdictKind(StrEnum):
    """What the numbers say of a deployment now."""

    KEEP_WAITING = "keep_waiting"
    BLOCKED_SAMPLE_RATIO = "blocked_sample_ratio"
    ROLL_BACK_HARM = "roll_back_harm"
    ROLL_BACK_ERRORS = "roll_back_errors"
    BETTER = "better"
    NO_WORSE = "no_worse"
    NO_DIFFERENCE = "no_difference"
    WORSE = "worse"

    @property
    def is_roll_back(self) -> bool:
        """Whether the version leaves at once, without anybody being asked."""
        return self in (
            VerdictKind.ROLL_BACK_HARM,
            VerdictKind.ROLL_BACK_ERRORS,
            VerdictKind.WORSE,
        )

    @property
    def ends_by_itself(self) -> bool:
        """Whether the watch ends the deployment on it: at once, or where it lasts."""
        return self.is_roll_back or self is VerdictKind.BLOCKED_SAMPLE_RATIO


@dataclass(frozen=True)
class Verdict:
    """What is said, in words and numbers.

    `numbers` are shares (0 to 1), counts and p values by name; `low` and `high` hold the difference
    at all times at once while waiting, and at all looks at once when a look has decided. `look`
    counts the looks that were taken; `decided` is what they came to, which stays.
    """

    kind: VerdictKind
    sentence: str
    numbers: Numbers
    look: int = 0
    decided: "Verdict | None" = None

    def to_json(self) -> dict[str, Any]:
        """For the row of the deployment."""
        return {
            "kind": self.kind.value,
            "sentence": self.sentence,
            "numbers": self.numbers,
            "look": self.look,
            "decided": None if self.decided is None else self.decided.to_json(),
        }


def verdict_from_json(data: object) -> Verdict:
    """What `to_json` gave.

    Raises:
        InvalidInput: it is no verdict.
    """
    try:
        fields: dict[str, Any] = dict(data)  # type: ignore[call-overload]
        decided = fields["decided"]
        return Verdict(
            kind=VerdictKind(fields["kind"]),
            sentence=str(fields["sentence"]),
            numbers=dict(fields["numbers"]),
            look=int(fields["look"]),
            decided=None if decided is None else verdict_from_json(decided),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("The deployment's verdict is damaged: stop it.") from error


def judge(
    plan: CanaryPlan,
    strata: Strata,
    *,
    expected_shares: Sequence[float],
    overlaps: Sequence[Overlap] = (),
    before: Verdict | None = None,
) -> Verdict:
    """What the figures say now.

    Args:
        plan: how sure it has to be.
        strata: (control, treatment) of each step of the share, the first step first.
        expected_shares: the treatment's share of the users in each step, 0 to 1.
        overlaps: users with feedback in two steps.
        before: the verdict stored last: a planned test looks at its stated amounts of evidence
            once each, and what a look decided stays.
    """
    control, treatment = (sum_arm([pair[side] for pair in strata]) for side in (0, 1))
    ratio = check_sample_ratio([(c.num_users, t.num_users) for c, t in strata], expected_shares)
    log_errors = _errors_evidence(plan, strata)
    found = compare(strata, overlaps)
    can_tell = found is not None and min(control.num_raters, treatment.num_raters) >= MIN_RATERS
    log_worse = log_harm(found.value, found.variance, plan.tau) if found and can_tell else None
    numbers = _numbers(plan, control, treatment, found)
    numbers |= {
        "steps": sum(1 for c, t in strata if c.num_feedback and t.num_feedback),
        "p_sample_ratio": ratio,
        "p_errors": _p(log_errors),
        "p_harm": None if log_worse is None else _p(log_worse),
    }
    look = 0 if before is None else before.look
    decided = None if before is None else before.decided
    alarm = log(1 / plan.alarm_level)
    if log_errors >= alarm:
        sentence = words.say_errors(control, treatment, numbers, plan.max_error_rise)
        return Verdict(VerdictKind.ROLL_BACK_ERRORS, sentence, numbers, look, decided)
    if ratio is not None and ratio < MISMATCH_BELOW:
        sentence = words.say_mismatch(strata, expected_shares, ratio)
        return Verdict(VerdictKind.BLOCKED_SAMPLE_RATIO, sentence, numbers, look, decided)
    if found is None or log_worse is None:
        sentence = words.say_too_few(control, treatment, MIN_RATERS)
        return Verdict(VerdictKind.KEEP_WAITING, sentence, numbers, look, decided)
    if log_worse >= alarm:
        sentence = words.say_harm(control, treatment, numbers)
        return Verdict(VerdictKind.ROLL_BACK_HARM, sentence, numbers, look, decided)
    if decided is not None:
        return Verdict(decided.kind, decided.sentence, decided.numbers, look, decided)
    if plan.is_planned:
        return _look(plan, control, treatment, found, numbers, look)
    return _watch(plan, control, treatment, numbers)


def _look(
    plan: CanaryPlan,
    control: ArmSums,
    treatment: ArmSums,
    found: Difference,
    numbers: Numbers,
    taken: int,
) -> Verdict:
    """A planned test: decide where a new look is due. One that was missed is not made up for."""
    due = min(plan.looks, int(plan.looks / (found.variance * plan.information) + 1e-9))
    if due <= taken:
        sentence = words.say_waiting(control, treatment, numbers, due, plan.looks)
        return Verdict(VerdictKind.KEEP_WAITING, sentence, numbers, taken)
    bound = plan.boundaries[due - 1]
    half = bound * sqrt(found.variance)
    low, high = found.value - half, found.value + half
    numbers = {**numbers, "low": low, "high": high, "z": found.z, "z_bound": bound}
    kind = VerdictKind.KEEP_WAITING
    if found.z >= bound:
        kind = VerdictKind.BETTER
    elif found.z <= -bound:
        kind = VerdictKind.WORSE
    elif due == plan.looks:
        is_close = low > -plan.detectable_drop
        kind = VerdictKind.NO_WORSE if is_close else VerdictKind.NO_DIFFERENCE
    if kind is VerdictKind.KEEP_WAITING:
        sentence = words.say_waiting(control, treatment, numbers, due, plan.looks)
        return Verdict(kind, sentence, numbers, due)
    sentence = words.say_decision(
        kind.value, control, treatment, numbers, plan.detectable_drop, look=due, looks=plan.looks
    )
    decided = Verdict(kind, sentence, numbers, due)
    return Verdict(kind, sentence, numbers, due, decided)


def _watch(plan: CanaryPlan, control: ArmSums, treatment: ArmSums, numbers: Numbers) -> Verdict:
    """An open-ended test: the interval holds at all times, so it may decide at any."""
    low = numbers["low"] or 0.0
    if low <= -plan.detectable_drop:
        sentence = words.say_waiting(control, treatment, numbers, 0, 0)
        return Verdict(VerdictKind.KEEP_WAITING, sentence, numbers)
    kind = VerdictKind.BETTER if low > 0 else VerdictKind.NO_WORSE
    sentence = words.say_decision(kind.value, control, treatment, numbers, plan.detectable_drop)
    return Verdict(kind, sentence, numbers)


def _errors_evidence(plan: CanaryPlan, strata: Strata) -> float:
    """The log of the evidence that treatment fails more users, over the steps.

    A weighted mean of the steps' likelihood ratios (weights 1/2, 1/6, 1/12, ... sum to 1 at most)
    is as valid as each: a step has its own days, and an outage of all may fall into one of them.
    """
    logs = [
        log_more_failures(
            (control.num_failed_users, treatment.num_failed_users),
            (control.num_users, treatment.num_users),
            max_rise=plan.max_error_rise,
        )
        - log((number + 1) * (number + 2))
        for number, (control, treatment) in enumerate(strata)
    ]
    if not logs:
        return 0.0
    top = max(logs)
    return top + log(sum(exp(each - top) for each in logs))


def _p(log_evidence: float) -> float:
    return min(1.0, exp(-min(log_evidence, 700.0)))


def _numbers(
    plan: CanaryPlan, control: ArmSums, treatment: ArmSums, found: Difference | None
) -> Numbers:
    numbers: Numbers = {}
    for name, arm in (("control", control), ("treatment", treatment)):
        numbers |= {
            f"{name}_approval": arm.approval,
            f"{name}_feedback": arm.num_feedback,
            f"{name}_raters": arm.num_raters,
            f"{name}_users": arm.num_users,
            f"{name}_failed_users": arm.num_failed_users,
            f"{name}_requests": arm.num_requests,
            f"{name}_errors": arm.num_errors,
        }
    if found is None:
        return numbers | dict.fromkeys(("difference", "low", "high", "evidence"))
    half = always_valid_half(found.variance, plan.tau, plan.alpha)
    return numbers | {
        "difference": found.value,
        "low": found.value - half,
        "high": found.value + half,
        "evidence": 1 / (found.variance * plan.information),
    }
