"""What is known of a step without a language model: its place, its length, its arithmetic.

A plain logistic regression on these numbers is the step model's start, and without the arithmetic
its baseline: how far one comes by knowing that mistakes come early.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.logistic import Labels, fit_line, turn_to_axes
from rlhf_core.rewards.steps_arithmetic import count_equations

PLACE_NAMES = (
    "log position", "is step 1", "is step 2", "is step 3", "is step 4", "share done",
    "log steps after", "is last", "log characters", "log characters of prompt",
)  # fmt: skip
FACT_NAMES = (
    *PLACE_NAMES, "repeats a step", "equations that hold", "equations that do not",
    "has one that does not",
)  # fmt: skip
MAX_EQUATIONS = 3
LIMIT = 4.0  # standard deviations; a step longer than nearly all counts as one that long
REGULARISATION = 1.0  # scikit-learn's C


def describe_steps(prompt: str, steps: Sequence[str]) -> Floats:
    """The numbers of `FACT_NAMES` for each step, not scaled: (n, 14)."""
    count = len(steps)
    table = np.zeros((count, len(FACT_NAMES)))
    seen: set[str] = set()
    for place, step in enumerate(steps):
        after = count - 1 - place
        equations = count_equations(step)
        text = " ".join(step.split())
        table[place] = [
            np.log1p(place), place == 0, place == 1, place == 2, place == 3, (place + 1) / count,
            np.log1p(after), after == 0, np.log1p(len(step)), np.log1p(len(prompt)),
            text in seen, min(equations.num_right, MAX_EQUATIONS),
            min(equations.num_wrong, MAX_EQUATIONS), equations.num_wrong > 0,
        ]  # fmt: skip
        seen.add(text)
    return table


@dataclass(frozen=True)
class FactScale:
    """Mean and standard deviation of each number, over the steps trained on."""

    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def apply(self, table: Floats) -> Floats:
        """The standardised numbers (n, d), within +-4."""
        found: Floats = np.clip((table - self.means) / self.deviations, -LIMIT, LIMIT)
        return found


def measure_facts(table: Floats) -> FactScale:
    """The scale of a table (n, d); numbers that never vary get deviation 1."""
    deviations = table.std(axis=0)
    deviations[deviations < 1e-9] = 1.0
    means: list[float] = table.mean(axis=0).tolist()
    return FactScale(means=tuple(means), deviations=tuple(deviations.tolist()))


@dataclass(frozen=True)
class StepLine:
    """A logistic regression: log odds that a step is right = facts @ coefficients + intercept."""

    scale: FactScale
    coefficients: tuple[float, ...]
    intercept: float

    def score(self, table: Floats) -> Floats:
        """Log odds (n,) of the steps of a table (n, d) that is not scaled."""
        found: Floats = self.scale.apply(table) @ np.array(self.coefficients) + self.intercept
        return found


def fit_step_line(
    table: Floats, labels: Labels, *, regularisation: float = REGULARISATION
) -> StepLine:
    """Fit a table (n, d) of steps to whether they are right (n,); both must occur."""
    scale = measure_facts(table)
    basis = turn_to_axes(scale.apply(table))
    everything = np.arange(len(labels))
    line = fit_line(basis, everything, labels, np.ones(len(labels)), regularisation=regularisation)
    coefficients: list[float] = (basis.axes @ line.coefficients).tolist()
    return StepLine(scale=scale, coefficients=tuple(coefficients), intercept=line.intercept)
