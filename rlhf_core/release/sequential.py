"""Tests that may be looked at while the numbers come in. Pure: numbers in, numbers out.

Two kinds. A planned test looks a few times, at stated amounts of evidence (O'Brien-Fleming). An
always-valid test may be looked at after every single rating (mSPRT): its p value stays under alpha
at all times together with probability 1 - alpha where nothing is wrong.
"""

from functools import lru_cache
from math import erf, exp, lgamma, log, log1p, pi, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

NUM_POINTS = 64  # of the integration between the boundaries
MAX_LOOKS = 20
NORMAL = NormalDist()


@lru_cache(maxsize=64)
def boundary_constant(alpha: float, looks: int) -> float:
    """The C of O'Brien and Fleming's test (Biometrics 35, 1979), two-sided.

    At look k of K, at equal amounts of evidence, it stops where |z| reaches C * sqrt(K / k), which
    happens with probability `alpha` where there is no difference. Found by halving, with the
    crossing probability of Armitage, McPherson and Rowe's recursion (JRSS A 132, 1969).
    """
    low, high = 0.5, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        below, above = crossing_chances(middle, looks, drift=0.0)
        low, high = (middle, high) if below + above > alpha else (low, middle)
    return high


def boundaries(alpha: float, looks: int) -> tuple[float, ...]:
    """The z of each look."""
    constant = boundary_constant(alpha, looks)
    return tuple(constant * sqrt(looks / look) for look in range(1, looks + 1))


def crossing_chances(constant: float, looks: int, *, drift: float) -> tuple[float, float]:
    """The chance to end below the lower boundary, and above the upper one, at any look.

    Of a Brownian motion with this drift (the expected z at the last look), looked at `looks` times
    between 0 and 1: O'Brien-Fleming's boundary on it is the same `constant` at each look.
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(NUM_POINTS)
    points, weights = constant * nodes, constant * node_weights
    spread, step = sqrt(1 / looks), drift / looks
    density = _normal_density(points - step, spread)
    below, above = _tails(constant, np.zeros(1), step, spread)
    chances = np.array([below[0], above[0]])
    kernel = _normal_density(points[:, None] - points[None, :] - step, spread)
    below, above = _tails(constant, points, step, spread)
    for _ in range(looks - 1):
        mass = density * weights
        chances += [float(below @ mass), float(above @ mass)]
        density = kernel @ mass
    return float(chances[0]), float(chances[1])


@lru_cache(maxsize=64)
def drift_needed(alpha: float, power: float, looks: int) -> float:
    """The expected z at the last look with which the planned test finds a change (`power`)."""
    constant = boundary_constant(alpha, looks)
    low, high = 0.0, 12.0
    for _ in range(40):
        middle = (low + high) / 2
        found = crossing_chances(constant, looks, drift=middle)[1]
        low, high = (middle, high) if found < power else (low, middle)
    return high


def _normal_density(values: Floats, spread: float) -> Floats:
    found: Floats = np.exp(-0.5 * (values / spread) ** 2) / (spread * sqrt(2 * pi))
    return found


def _tails(constant: float, points: Floats, step: float, spread: float) -> tuple[Floats, Floats]:
    """From each point, the chance that the next look lies below -constant, and above it."""
    scale = spread * sqrt(2)
    below = [0.5 * (1 + erf((-constant - point - step) / scale)) for point in points]
    above = [0.5 * (1 - erf((constant - point - step) / scale)) for point in points]
    return np.array(below), np.array(above)


def log_harm(difference: float, variance: float, tau: float) -> float:
    """The log of the one-sided mSPRT's likelihood ratio that `difference` is below 0.

    Johari, Pekelis and Walsh (Operations Research 70, 2022) with a normal mixture of standard
    deviation `tau` cut to harm (a half-normal), so that a better version is no evidence. Where the
    true difference is 0 or above, it ever reaches log(1 / alpha) with probability alpha at most.
    """
    whole = variance + tau * tau
    reach = -difference * tau / sqrt(variance * whole)
    return log(2) + 0.5 * log(variance / whole) + 0.5 * reach * reach + _log_cdf(reach)


def always_valid_half(variance: float, tau: float, alpha: float) -> float:
    """Half the width of the interval that holds the truth at all times at once (1 - alpha).

    The confidence sequence that belongs to the two-sided mSPRT with a normal mixture.
    """
    whole = variance + tau * tau
    return sqrt(variance * whole / (tau * tau) * (2 * log(1 / alpha) + log(whole / variance)))


def harm_reach(variance: float, tau: float, alpha: float) -> float:
    """How far below 0 the difference has to lie for `log_harm` to reach log(1 / alpha)."""
    low, high = 0.0, 2 * always_valid_half(variance, tau, alpha)
    for _ in range(60):
        middle = (low + high) / 2
        is_reached = log_harm(-middle, variance, tau) >= -log(alpha)
        low, high = (low, middle) if is_reached else (middle, high)
    return high


def log_more_failures(failed: tuple[int, int], seen: tuple[int, int], *, max_rise: float) -> float:
    """The log of the evidence that treatment fails more users than control + `max_rise`.

    Both arguments are (control, treatment), counts of users. The likelihood under a mixture of all
    rates (Beta(1/2, 1/2) each) over the largest one under "no more than `max_rise` above": the
    latter is at least that of the true rates, so where these hold it ever reaches log(1 / alpha)
    with probability alpha at most (Ville). Exact for small counts, as failures are rare.
    """
    mixed = sum(_log_mixture(k, n) for k, n in zip(failed, seen, strict=True))
    free = failed[0] / seen[0] if seen[0] else 0.0
    treated = failed[1] / seen[1] if seen[1] else 0.0
    if treated <= free + max_rise:  # the rates as they are fit the null
        return mixed - _log_likelihood(failed, seen, free, treated)
    low = max(0.0, min(free, treated - max_rise))
    high = min(1 - max_rise, max(free, treated - max_rise))
    start = (low + high) / 2
    least = _log_likelihood(failed, seen, start, start + max_rise)
    if mixed <= least:  # no evidence, whatever the largest is
        return mixed - least
    for _ in range(40):  # the likelihood along the edge of the null has one top
        one, other = low + (high - low) / 3, high - (high - low) / 3
        is_rising = _log_likelihood(failed, seen, one, one + max_rise) < _log_likelihood(
            failed, seen, other, other + max_rise
        )
        low, high = (one, high) if is_rising else (low, other)
    return mixed - _log_likelihood(failed, seen, low, low + max_rise)


def log_preference(wins: int, losses: int) -> float:
    """The log of the evidence that wins are more likely than losses; exact at any moment.

    A uniform mixture over the chances above 1/2 against the even one. Wins and losses must be
    independent: one a user.
    """
    count = wins + losses
    whole = lgamma(wins + 1) + lgamma(losses + 1) - lgamma(count + 2)
    above = _binomial_above_half(wins, losses)
    return log(2) + whole + log(max(above, 1e-300)) + count * log(2)


def _binomial_above_half(wins: int, losses: int) -> float:
    """P(chance > 1/2) of Beta(wins + 1, losses + 1): a binomial tail, by its normal where many."""
    count = wins + losses + 1
    if count > 400:
        return NORMAL.cdf((wins - losses) / sqrt(count))
    logs = [lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) for k in range(wins + 1)]
    return min(1.0, sum(exp(each - count * log(2)) for each in logs))


def _log_likelihood(
    failed: tuple[int, int], seen: tuple[int, int], control: float, treatment: float
) -> float:
    total = 0.0
    for k, n, rate in zip(failed, seen, (control, treatment), strict=True):
        total += k * log(max(rate, 1e-300)) if k else 0.0
        total += (n - k) * log1p(-min(rate, 1 - 1e-15)) if n > k else 0.0
    return total


def _log_mixture(k: int, n: int) -> float:
    """The log of B(k + 1/2, n - k + 1/2) / B(1/2, 1/2)."""
    return lgamma(k + 0.5) + lgamma(n - k + 0.5) - lgamma(n + 1) - log(pi)


def _log_cdf(value: float) -> float:
    """The log of the normal distribution function, far into the tail too."""
    if value > -30:
        return log(max(NORMAL.cdf(value), 5e-324))
    return -0.5 * value * value - log(-value) - 0.5 * log(2 * pi)
