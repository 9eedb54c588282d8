"""Where a solution goes wrong first, from P(right) of each of its steps.

Step labels end at the first mistake in nearly all published sets: P(right) is that of a step whose
predecessors are right. So P(first mistake at step i) is (1 - p_i) times the product of the p before
it, and P(no mistake) the product of all. A solution is held faultless if P(no mistake) exceeds a
threshold; otherwise the likeliest step is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.evaluate import resample_groups

Places = npt.NDArray[np.intp]
LEAST = 1e-9
NUM_CANDIDATES = 200
NUM_RESAMPLES = 200


@dataclass(frozen=True)
class KnownErrors:
    """Solutions of which people said where the first mistake is, or that there is none.

    `rows` are their places among the rows given, `places` the step (0, 1, ...) of the mistake, the
    number of steps where there is none; `num_steps` (n,). `num_unknown` rows say neither.
    """

    rows: Places
    places: Places
    num_steps: Places
    groups: list[str]
    num_unknown: int

    @property
    def is_faultless(self) -> npt.NDArray[np.bool_]:
        """Which of the solutions have no mistake."""
        same: npt.NDArray[np.bool_] = self.places == self.num_steps
        return same


def know_errors(rows: Sequence[SteppedCompletion]) -> KnownErrors:
    """The rows whose steps are all judged right, or all up to one that is judged wrong."""
    found = [(number, _first_error(row.labels)) for number, row in enumerate(rows)]
    known = [(number, place) for number, place in found if place is not None]
    return KnownErrors(
        rows=np.array([number for number, _ in known], dtype=np.intp),
        places=np.array([place for _, place in known], dtype=np.intp),
        num_steps=np.array([len(rows[number].labels) for number, _ in known], dtype=np.intp),
        groups=[rows[number].group for number, _ in known],
        num_unknown=len(rows) - len(known),
    )


def locate_error(probabilities: Floats) -> Floats:
    """P(first mistake at each step), and P(no mistake) last: (n + 1,) of P(right) (n,)."""
    right = np.clip(probabilities, LEAST, 1.0 - LEAST)
    so_far = np.concatenate([[1.0], np.cumprod(right)])
    return np.append(so_far[:-1] * (1.0 - right), so_far[-1])


def find_first_error(probabilities: Floats, threshold: float) -> int | None:
    """The likeliest step (0, 1, ...) of the first mistake; None if it is held faultless."""
    chances = locate_error(probabilities)
    if len(chances) == 1 or chances[-1] > threshold:
        return None
    return int(np.argmax(chances[:-1]))


def find_places(scores: Sequence[Floats], threshold: float) -> Places:
    """`find_first_error` of each solution (n,); the number of its steps for None."""
    found = [find_first_error(of_steps, threshold) for of_steps in scores]
    pairs = zip(found, scores, strict=True)
    return np.array([len(of) if place is None else place for place, of in pairs], dtype=np.intp)


def compute_first_error(found: Places, known: KnownErrors, weights: Floats) -> dict[str, Floats]:
    """Figures of the places found, one value a row of weights (b, n); NaN where not defined.

    `first_error_accuracy`: share of the solutions whose first mistake (or its absence) is found
    exactly. `erroneous_accuracy` and `faultless_accuracy`: the same of those with a mistake and of
    those without. `first_error_f1`: the harmonic mean of these two, as in ProcessBench (Zheng et
    al. 2024); where the rows hold one kind only, the accuracy on that kind.
    """
    hits = (found == known.places).astype(np.float64)
    of_kind = {
        "erroneous_accuracy": ~known.is_faultless,
        "faultless_accuracy": known.is_faultless,
    }
    figures = {"first_error_accuracy": _share(weights, hits)}
    for name, rows in of_kind.items():
        if rows.any():
            figures[name] = _share(weights[:, rows], hits[rows])
    shares = [figures[name] for name in of_kind if name in figures]
    figures["first_error_f1"] = shares[0] if len(shares) == 1 else _harmonic_mean(*shares)
    return figures


def choose_threshold(scores: Sequence[Floats], known: KnownErrors, *, seed: int) -> float:
    """The threshold of `find_first_error` with the best first-error F1 on these solutions.

    The best on average over resampled prompts: few solutions are faultless, and one of them should
    not decide. 1 (never faultless) where no solution is faultless, 0 where all are.
    """
    if not known.is_faultless.any():
        return 1.0
    if known.is_faultless.all():
        return 0.0
    chances = [locate_error(of_steps) for of_steps in scores]
    faultless = np.array([chance[-1] for chance in chances])
    named = np.array([int(np.argmax(chance[:-1])) for chance in chances])
    cuts = np.unique(np.quantile(faultless, np.linspace(0.0, 1.0, NUM_CANDIDATES)))
    candidates = np.concatenate([[0.0], (cuts[1:] + cuts[:-1]) / 2.0, [1.0]])
    weights = resample_groups(known.groups, seed=seed, resamples=NUM_RESAMPLES)
    values = []
    for candidate in candidates:
        places = np.where(faultless > candidate, known.num_steps, named)
        values.append(
            float(np.nanmean(compute_first_error(places, known, weights)["first_error_f1"]))
        )
    best = np.flatnonzero(np.array(values) >= max(values) - 1e-12)
    return float(candidates[best[len(best) // 2]])


def _first_error(labels: Sequence[bool | None]) -> int | None:
    for place, label in enumerate(labels):
        if label is None:
            return None
        if not label:
            return place
    return len(labels) or None


def _share(weights: Floats, hits: Floats) -> Floats:
    total = weights.sum(axis=1)
    found = np.full(len(total), np.nan)
    np.divide(weights @ hits, total, out=found, where=total > 0)
    return found


def _harmonic_mean(first: Floats, second: Floats) -> Floats:
    total = first + second
    found = np.where(np.isnan(total), np.nan, 0.0)
    np.divide(2.0 * first * second, total, out=found, where=total > 0)
    return found
