"""One-coin Dawid-Skene: the truth and each rater's accuracy, learnt from each other.

A rater answers right with a probability of their own, and else picks one of the other answers
evenly. It assumes one truth: where people honestly differ, keep their spread too. Source: Dawid and
Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm" (1979), with
one parameter a rater and priors, so that few answers do not make a rater perfect or useless.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlhf_core.agreement.units import Floats
from rlhf_core.errors import InvalidInput

MIN_ANSWERS = 20
"""Below this a rater is taken to be like the average one."""
PRIOR_ANSWERS = 4.0
PRIOR_ACCURACY = 0.7
MAX_ROUNDS = 200
TOLERANCE = 1e-6

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RaterModel:
    """What was learnt. `truth[i, k]` is P(unit i is `values[k]`).

    `accuracy` holds P(right) a rater, `weight` how much their word counts: the logarithm of the
    odds for the right answer against one wrong one, at least 0.
    """

    units: list[Any]
    values: list[Any]
    truth: Floats
    accuracy: dict[Any, float]
    weight: dict[Any, float]


def dawid_skene(
    unit: Sequence[Hashable],
    rater: Sequence[Hashable],
    value: Sequence[Any],
    *,
    num_values: int | None = None,
    min_answers: int = MIN_ANSWERS,
) -> RaterModel:
    """Learn from a long table: `rater[i]` said `value[i]` of `unit[i]`; all (n,).

    `num_values`: how many answers there are to choose from, at least 2, if some never occur. The
    accuracy of a rater has a Beta prior worth `PRIOR_ANSWERS` answers; raters with fewer than
    `min_answers` answers get the accuracy that they have together.
    """
    if not len(unit) == len(rater) == len(value):
        raise InvalidInput(
            f"{len(unit)} units, {len(rater)} raters, {len(value)} values: give as many of each."
        )
    units, which_unit = _number(unit)
    raters, which_rater = _number(rater)
    values, which_value = _number(value)
    size = max(num_values or 0, len(values), 2)
    accuracy, truth = _learn(
        which_unit,
        _pool_rare(which_rater, len(raters), min_answers),
        which_value,
        shape=(len(units), len(raters), size),
    )
    weight = np.maximum(0.0, np.log(accuracy * (size - 1) / (1 - accuracy)))
    return RaterModel(
        units=units,
        values=values,
        truth=truth[:, : len(values)],
        accuracy=dict(zip(raters, accuracy.tolist(), strict=True)),
        weight=dict(zip(raters, weight.tolist(), strict=True)),
    )


@dataclass(frozen=True)
class _Coins:
    """Which coin each answer and each rater has; the last one is shared by the rare raters."""

    of_answer: Ints
    of_rater: Ints
    number: int


def _pool_rare(which_rater: Ints, num_raters: int, min_answers: int) -> _Coins:
    said = np.bincount(which_rater, minlength=num_raters)
    coin = np.where(said >= min_answers, np.arange(num_raters), num_raters)
    return _Coins(of_answer=coin[which_rater], of_rater=coin, number=num_raters + 1)


def _learn(
    which_unit: Ints, coins: _Coins, which_value: Ints, *, shape: tuple[int, int, int]
) -> tuple[Floats, Floats]:
    """Expectation maximisation from the vote shares. Accuracy (r,), truth (u, k)."""
    num_units, _, size = shape
    cell = which_unit * size + which_value
    votes = np.bincount(cell, minlength=num_units * size).reshape(num_units, size)
    truth = (votes + 1e-9) / (votes + 1e-9).sum(axis=1, keepdims=True)
    said = np.bincount(coins.of_answer, minlength=coins.number)
    prior_right = PRIOR_ANSWERS * max(PRIOR_ACCURACY, 1.2 / size)
    accuracy = np.zeros(coins.number)
    for _ in range(MAX_ROUNDS):
        right = np.bincount(
            coins.of_answer, weights=truth[which_unit, which_value], minlength=coins.number
        )
        before, accuracy = accuracy, (right + prior_right) / (said + PRIOR_ANSWERS)
        share = (truth.sum(axis=0) + 1.0) / (num_units + size)
        log_odds = np.log(accuracy * (size - 1) / (1 - accuracy))
        gained = np.bincount(cell, weights=log_odds[coins.of_answer], minlength=num_units * size)
        logits = np.log(share) + gained.reshape(num_units, size)
        logits -= logits.max(axis=1, keepdims=True)
        truth = np.exp(logits)
        truth /= truth.sum(axis=1, keepdims=True)
        if np.abs(accuracy - before).max(initial=0.0) < TOLERANCE:
            break
    return accuracy[coins.of_rater], truth


def _number(things: Sequence[Hashable]) -> tuple[list[Any], Ints]:
    """The distinct things in order of appearance, and the place of each in that list."""
    place: dict[Hashable, int] = {}
    numbers = np.fromiter(
        (place.setdefault(thing, len(place)) for thing in things), dtype=np.int64, count=len(things)
    )
    return list(place), numbers
