"""What a verdict is made of: an arm's figures in one step of the share, and their difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from rlhf_core.vocabulary import Arm

MIN_VARIANCE = 1e-9


@dataclass(frozen=True)
class ArmSums:
    """One arm within one step of the share (a stratum).

    A user is a caller who is known; a request without one counts as a user of its own. Feedback
    is good or bad, on answers of this arm in this step; `num_good` of it is good. The last
    three are sums over users, n being a user's feedback here and y the good part of it:
    n * n, y * y and n * y. They say how much one user's ratings are alike.
    """

    num_requests: int = 0
    num_errors: int = 0
    num_users: int = 0
    num_failed_users: int = 0  # who met at least one error
    num_raters: int = 0  # who left feedback
    num_feedback: int = 0
    num_good: int = 0
    sum_nn: float = 0.0
    sum_yy: float = 0.0
    sum_ny: float = 0.0

    @property
    def approval(self) -> float | None:
        """The good share of the feedback."""
        return self.num_good / self.num_feedback if self.num_feedback else None

    def variance(self) -> float:
        """Of the approval, clustered by user; 0 without feedback."""
        if not self.num_feedback:
            return 0.0
        share = (self.num_good + 1) / (self.num_feedback + 2)
        return _variance(self, share, estimate_likeness([(self, ArmSums())]))


@dataclass(frozen=True)
class Overlap:
    """Users who left feedback in two cells, such as treatment in the first step and the second.

    A cell is (number of the stratum from 0, arm). Sums over those users; n and y as in `ArmSums`,
    `one` and `other` saying of which cell. Without them, steps are taken as independent, which
    makes the interval too narrow where people come back.
    """

    one: tuple[int, Arm]
    other: tuple[int, Arm]
    sum_nn: float  # n of one * n of the other
    sum_yy: float
    sum_ny: float  # n of one * y of the other
    sum_yn: float  # y of one * n of the other


@dataclass(frozen=True)
class Difference:
    """Approval of treatment - control, and the variance of that."""

    value: float
    variance: float

    @property
    def z(self) -> float:
        return self.value / sqrt(self.variance)


Strata = Sequence[tuple[ArmSums, ArmSums]]
"""(control, treatment) of each step."""


def sum_arm(arms: Sequence[ArmSums]) -> ArmSums:
    """An arm over its steps, for what is shown. Users of several steps count in each."""
    if not arms:
        return ArmSums()
    return ArmSums(**{name: sum(getattr(arm, name) for arm in arms) for name in FIELDS})


FIELDS = tuple(ArmSums.__dataclass_fields__)


def estimate_likeness(strata: Strata, overlaps: Sequence[Overlap] = ()) -> float:
    """How much one user's ratings are alike (intraclass correlation, 0 to 1), by moments.

    From all pairs of ratings of one user, in one cell or in two. 0 where nobody rated twice.
    """
    together = pairs = 0.0
    for control, treatment in strata:
        for arm in (control, treatment):
            share = _share(arm)
            spread = arm.sum_yy - 2 * share * arm.sum_ny + share * share * arm.sum_nn
            together += spread - share * (1 - share) * arm.num_feedback
            pairs += share * (1 - share) * (arm.sum_nn - arm.num_feedback)
    for overlap in overlaps:
        one, other = (_share(_cell(strata, cell)) for cell in (overlap.one, overlap.other))
        together += 2 * (
            overlap.sum_yy
            - other * overlap.sum_yn
            - one * overlap.sum_ny
            + one * other * overlap.sum_nn
        )
        pairs += 2 * sqrt(one * (1 - one) * other * (1 - other)) * overlap.sum_nn
    return min(1.0, max(0.0, together / pairs)) if pairs > 0 else 0.0


def compare(strata: Strata, overlaps: Sequence[Overlap] = ()) -> Difference | None:
    """The difference in approval over the steps, each weighted by what it tells.

    Within a step both arms see the same days, so that a trend in time does no harm although the
    share grew. The weight is the inverse variance that a step has where the arms are alike,
    N_control * N_treatment / (N_control + N_treatment). The variance, too, is that of arms that
    are alike: it takes the share of good ratings from both arms, and how alike one user's ratings
    are from all users. One taken from the few of the treatment alone would be smallest just where
    these happen to be content. None where no step has feedback on both arms.
    """
    weights = [_weigh(control, treatment) for control, treatment in strata]
    whole = sum(weights)
    if not whole:
        return None
    weights = [weight / whole for weight in weights]
    likeness = estimate_likeness(strata, overlaps)
    shares = [
        (control.num_good + treatment.num_good + 1)
        / (control.num_feedback + treatment.num_feedback + 2)
        for control, treatment in strata
    ]
    value = variance = 0.0
    for weight, share, arms in zip(weights, shares, strata, strict=True):
        if weight:
            value += weight * (_share(arms[1]) - _share(arms[0]))
            variance += weight**2 * sum(_variance(arm, share, likeness) for arm in arms)
    for overlap in overlaps:
        part = 2 * likeness * overlap.sum_nn
        for number, arm in (overlap.one, overlap.other):
            spread = sqrt(shares[number] * (1 - shares[number]))
            num = max(1, _cell(strata, (number, arm)).num_feedback)
            sign = 1 if arm is Arm.TREATMENT else -1
            part *= sign * weights[number] * spread / num
        variance += part
    return Difference(value, max(variance, MIN_VARIANCE))


def _cell(strata: Strata, cell: tuple[int, Arm]) -> ArmSums:
    control, treatment = strata[cell[0]]
    return treatment if cell[1] is Arm.TREATMENT else control


def _share(arm: ArmSums) -> float:
    return arm.num_good / arm.num_feedback if arm.num_feedback else 0.0


def _weigh(control: ArmSums, treatment: ArmSums) -> float:
    one, other = control.num_feedback, treatment.num_feedback
    return one * other / (one + other) if one and other else 0.0


def _variance(arm: ArmSums, share: float, likeness: float) -> float:
    """Of an approval with this true share: one rating each, and pairs by the same user."""
    pairs = max(0.0, arm.sum_nn - arm.num_feedback)
    return share * (1 - share) * (arm.num_feedback + likeness * pairs) / arm.num_feedback**2
