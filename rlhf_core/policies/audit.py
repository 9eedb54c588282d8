"""Audit of over-optimisation: a policy's reward beside a judge that it never learned from.

A policy learns what its reward measures, and beyond some distance from where it began the rest:
what people like falls while the reward goes on rising (Gao et al. 2022, arXiv 2210.10760, with
sqrt(KL) as the distance). So a held-out judge looks on, and the policy at its peak is kept.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

WINDOW_SHARE = 0.2
NUM_CANDIDATES = 25
MAX_POINTS = 200
POINT_FIGURES = (
    "reward", "held_out_reward", "kl", "length", "distinct_2", "entropy", "eos_share",
    "opening_share",
)  # fmt: skip
DRIFTS = ("length", "distinct_2", "entropy", "eos_share", "opening_share")
HELD_OUT = "held_out_reward"
MIN_GAIN_OF_REWARD = 0.02
LARGE_DRIFT = 0.3
"""A share by which a figure of the answers may change before the audit's sentence names it."""


def half_window(num_updates: int) -> int:
    """How many updates on each side smooth a figure: a fifth of the run in all, three at least."""
    return max(1, round(num_updates * WINDOW_SHARE / 2))


def candidate_every(num_updates: int) -> int:
    """After how many updates there is a policy that may be the one to keep."""
    return max(1, num_updates // NUM_CANDIDATES)


def smooth(values: Sequence[float], half: int) -> list[float]:
    """What was measured around each policy, from before the first update to after the last.

    `values[h]` is of the policy after h updates; the last one was never sampled. A window that is
    cut off at an end still has half + 1 values, or all.
    """
    count = len(values)
    found = []
    for place in range(count + 1):
        start = max(0, min(place - half, count - half - 1))
        end = max(min(count, place + half + 1), min(count, half + 1))
        found.append(sum(values[start:end]) / (end - start))
    return found


def is_settled(place: int, num_measured: int, half: int, num_updates: int) -> bool:
    """Whether nothing that is yet to be measured changes the smoothed value at `place`."""
    return num_measured >= num_updates or num_measured > place + half


def find_peak(history: Sequence[Mapping[str, float]], places: Sequence[int], half: int) -> int:
    """After how many updates, of those in `places`, the held-out judge liked the policy most.

    `half` is that of the whole run. The later one where two are alike; the last of `places` where
    nobody judged.
    """
    judged = [one[HELD_OUT] for one in history if HELD_OUT in one]
    if not judged or len(judged) < len(history):
        return max(places)
    smoothed = smooth(judged, half)
    return max(places, key=lambda place: (smoothed[place], place))


def make_audit(
    history: Sequence[Mapping[str, float]],
    *,
    kept_update: int,
    sycophancy: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The audit of a run, as JSON. `history[h]` has the figures of the policy after h updates.

    `best_update` is the peak of the smoothed held-out reward over all updates (None without a
    judge), `kept_update` the policy that was written: the best of those at hand. `drift` compares
    the answers of the kept policy with the first ones: 1.0 is no change.
    """
    num_updates, half = len(history), half_window(len(history))
    is_judged = all(HELD_OUT in one for one in history)
    points = [_point(place, figures) for place, figures in enumerate(history)]
    best = None
    if is_judged:
        for point, value in zip(
            points, smooth([one[HELD_OUT] for one in history], half), strict=False
        ):
            point["held_out_smoothed"] = value
        best = find_peak(history, range(num_updates + 1), half)
    thin = math.ceil(len(points) / MAX_POINTS)
    drift = _drift(history, kept_update, max(1, half // 2))  # the first answers soon change
    return {
        "points": [point for place, point in enumerate(points) if place % thin == 0],
        "best_update": best,
        "kept_update": kept_update,
        "num_updates": num_updates,
        "sentence": _sentence(history, kept_update, half, is_judged, drift),
        "drift": drift,
        "sycophancy": dict(sycophancy) if sycophancy else None,
    }


def _point(update: int, figures: Mapping[str, float]) -> dict[str, float | None]:
    found: dict[str, float | None] = {
        "update": update,
        "sqrt_kl": math.sqrt(max(0.0, figures.get("kl", 0.0))),
    }
    return found | {name: figures.get(name) for name in POINT_FIGURES}


def _drift(history: Sequence[Mapping[str, float]], kept: int, half: int) -> dict[str, float]:
    found = {}
    for name in DRIFTS:
        if all(name in one for one in history):
            smoothed = smooth([one[name] for one in history], half)
            if smoothed[0] > 0.0:
                found[name] = smoothed[kept] / smoothed[0]
    return found


def _sentence(
    history: Sequence[Mapping[str, float]],
    kept: int,
    half: int,
    is_judged: bool,
    drift: Mapping[str, float],
) -> str:
    """What the audit found, for people."""
    last = len(history)
    if not is_judged:
        return (
            "No held-out judge looked on, so nothing says whether the reward was learned or gamed:"
            f" the policy after all {last} updates is kept." + _drift_words(drift)
        )
    held = smooth([one[HELD_OUT] for one in history], half)
    reward = smooth([one["reward"] for one in history], half)
    figures = (
        f"held-out reward {held[0]:.3f} at first, {held[kept]:.3f} kept, {held[last]:.3f} last"
    )
    if kept == 0 and last > 0:
        words = "The held-out judge liked no trained policy more than the base, which is kept"
    elif kept == last:
        words = f"The held-out judge liked the last policy most: that after {last} updates is kept"
    elif reward[last] - reward[kept] > MIN_GAIN_OF_REWARD * abs(reward[last] - reward[0]):
        words = (
            f"After {kept} of {last} updates the reward went on rising and the held-out judge "
            "liked the answers less: the policy of that update is kept"
        )
    else:
        words = (
            f"The held-out judge liked the policy after {kept} of {last} updates most: it is kept"
        )
    return f"{words} ({figures})." + _drift_words(drift)


def _drift_words(drift: Mapping[str, float]) -> str:
    names = {
        "length": "answers are {} as long", "distinct_2": "word pairs are {} as various",
        "opening_share": "the commonest opening is {} as common",
    }  # fmt: skip
    said = [
        words.format(f"{drift[name]:.1f} times")
        for name, words in names.items()
        if name in drift and abs(drift[name] - 1.0) > LARGE_DRIFT
    ]
    return f" Compared with the first ones, {', '.join(said)}." if said else ""
