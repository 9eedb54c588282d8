"""What a learner is given, and what it returns. Learners know no database."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


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
