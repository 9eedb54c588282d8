"""Several raters of one thing, and one answer: the mean, the majority, or weighted by skill."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, assert_never

from rlhf_core.vocabulary import MergeRule

DIGITS = 6  # a sum of floats depends on its order
LEAST_WEIGHT = 0.01  # a guesser says next to nothing, but where only guessers spoke, they are heard


def merge_answers(
    answers: Mapping[Any, float], rule: MergeRule, weights: Mapping[Any, float]
) -> float:
    """One answer from those by rater (at least one); `weights` by rater, for WEIGHTED only.

    MAJORITY: the answer that most gave; where several share that place, their mean.
    """
    if len(answers) == 1:
        return round(next(iter(answers.values())), DIGITS)
    if rule is MergeRule.MEAN:
        return round(math.fsum(answers.values()) / len(answers), DIGITS)
    if rule is MergeRule.MAJORITY:
        counts = Counter(round(answer, DIGITS) for answer in answers.values())
        most = max(counts.values())
        tops = [answer for answer, count in counts.items() if count == most]
        return round(math.fsum(tops) / len(tops), DIGITS)
    if rule is MergeRule.WEIGHTED:
        shares = {rater: max(LEAST_WEIGHT, weights.get(rater, 1.0)) for rater in answers}
        total = math.fsum(answers[rater] * share for rater, share in shares.items())
        return round(total / math.fsum(shares.values()), DIGITS)
    assert_never(rule)


def spread_of(answers: Iterable[float]) -> float:
    """The standard deviation; 0 for one answer."""
    values = list(answers)
    if len(values) == 1:
        return 0.0
    mean = math.fsum(values) / len(values)
    return round(math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)), DIGITS)


def learn_weights(answers: Iterable[tuple[Any, Any, int]]) -> dict[Any, float]:
    """How much each rater's word counts, from `(thing, rater, answer)` by Dawid and Skene.

    Unlike the other rules this one reads all answers before the first row: memory grows with them.
    """
    from rlhf_core.agreement import dawid_skene  # numpy: not at the import of this package

    units, raters, values = [], [], []
    for unit, rater, value in answers:
        units.append(unit)
        raters.append(rater)
        values.append(value)
    if not units:
        return {}
    return dawid_skene(units, raters, values).weight
