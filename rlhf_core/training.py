"""What a learner is given, and what it returns. Learners know no database."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from rlhf_core.errors import InvalidInput


@dataclass(frozen=True)
class Sample:
    """An answer that a policy gave on its way, beside the reference's to the same prompt."""

    prompt: str
    completion: str
    reference: str = ""
    reward: float | None = None


class Tracker(Protocol):
    """Where a learner reports its way. Implementations never raise because of their own outage."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the run is: `fraction` in 0..1, `message` one short line."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Record numbers at a step (>= 0). NaN and infinite values are left out."""

    def log(self, text: str) -> None:
        """Append one line to the run's log."""

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Show what a policy answers at a step (>= 0)."""

    def should_stop(self) -> bool:
        """Whether the run was asked to end; a learner then saves its checkpoint and returns."""


class NoOpTracker:
    """A tracker that keeps nothing: for notebooks and tests."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Do nothing."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Do nothing."""

    def log(self, text: str) -> None:
        """Do nothing."""

    def samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Do nothing."""

    def should_stop(self) -> bool:
        """Never stop."""
        return False


@dataclass(frozen=True)
class TrainReport:
    """What a learner leaves behind.

    `artifact_dir` holds the files of the model; `metrics` are flat finite numbers, `details` is
    anything else that is JSON (report tables, curves); `library_versions` names what made it.
    """

    artifact_dir: Path
    metrics: dict[str, float]
    params: dict[str, Any]
    seed: int
    num_rows: int
    details: dict[str, Any] = field(default_factory=dict)
    library_versions: dict[str, str] = field(default_factory=dict)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (where imported later, by the caller's process)."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def installed_versions(*packages: str) -> dict[str, str]:
    """The versions of the named distributions, for a report."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}


def require(fits: bool, name: str, value: object, choices: str) -> None:
    """Raise InvalidInput that names the parameter, its value and what to choose, unless it fits."""
    if not fits:
        raise InvalidInput(f"{name} {value!r}: choose {choices}.", field=name)


def require_choice(params: Any, name: str, choices: Sequence[str]) -> None:
    """Raise InvalidInput unless the field `name` of the dataclass `params` is a choice."""
    value = getattr(params, name)
    listed = ", ".join(choices[:-1])
    require(value in choices, name, value, f"{listed} or {choices[-1]}" if listed else choices[0])


def require_between(
    params: Any, name: str, low: float, high: float, *, above: bool = False
) -> None:
    """Raise InvalidInput unless the field `name` of the dataclass `params` is in low..high.

    `above`: it must be more than `low`. A field of type int takes whole numbers only.
    """
    value = getattr(params, name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = next(one.type for one in fields(params) if one.name == name)
    is_whole = isinstance(value, int) or kind is not int
    fits = is_number and is_whole and low <= value <= high and not (above and value == low)
    require(fits, name, value, f"{'above ' if above else ''}{low:g} to {high:g}")
