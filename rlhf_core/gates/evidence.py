"""What is known of a version: the examinations that count, and what serves beside it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.standing import Standing, read_standing
from rlhf_core.gates.rules import POLICIES
from rlhf_core.registry.evaluations import EvaluationView, list_evaluations
from rlhf_core.registry.service import find_production
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import ModelVersion
from rlhf_core.vocabulary import Split

MAX_LEAKAGE = 0.1
"""Share of an examination's prompts that may be known from training before it counts no more."""


@dataclass(frozen=True)
class Evidence:
    """Figures on rows that the version did not learn from; `source` says which, in words."""

    source: str
    num_rows: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    examination: Mapping[str, Any] = field(default_factory=dict)

    def low_of(self, metric: str) -> float | None:
        """The lower end of the figure's 95 % interval."""
        return self.intervals[metric][0] if metric in self.intervals else None


@dataclass(frozen=True)
class Examined:
    """A version with all that the checks ask about; what is asked for is read once."""

    db: Session
    actor: Actor
    version: ModelVersionView

    @property
    def is_policy(self) -> bool:
        """Whether it answers, rather than judges answers."""
        return self.version.kind in POLICIES

    @cached_property
    def production(self) -> ModelVersionView | None:
        """The version that serves now; None while none was promoted, or where it is this one."""
        found = find_production(self.db, self.version.model_name)
        return None if found is None or found.id == self.version.id else found

    @cached_property
    def evaluations(self) -> list[EvaluationView]:
        """The examinations that count, the latest first."""
        return list_sound(self.db, self.version, self.actor)

    @cached_property
    def evidence(self) -> Evidence | None:
        """The latest examination, else what the training run measured on rows left out of it."""
        if self.evaluations:
            return _of_evaluation(self.evaluations[0])
        return _of_training(self.version)

    @cached_property
    def standing(self) -> Standing:
        """What became of the rows that it learned from; a second's work for 100,000 rows."""
        return read_standing(self.db, self.learned_versions)

    @cached_property
    def learned_versions(self) -> list[uuid.UUID]:
        """The frozen datasets that it learned from, by way of its base and reward models, too."""
        return find_learned(self.db, self.version)


def list_sound(db: Session, version: ModelVersionView, actor: Actor) -> list[EvaluationView]:
    """The examinations on rows that the version did not learn from, the latest first."""
    return [
        evaluation
        for evaluation in list_evaluations(db, version.id, actor=actor)
        if _is_sound(evaluation, version)
    ]


def find_learned(db: Session, version: ModelVersionView) -> list[uuid.UUID]:
    """The frozen datasets of a version, of what it was trained from, and of what rewarded it."""
    datasets: dict[uuid.UUID, None] = {}
    seen: set[uuid.UUID] = set()
    waiting = [version]
    while waiting:
        seen |= {one.id for one in waiting}
        datasets |= dict.fromkeys(one.dataset_version_id for one in waiting
                                  if one.dataset_version_id is not None)  # fmt: skip
        teachers = {teacher for one in waiting for teacher in _teachers_of(one)} - seen
        waiting = load_versions(db, ModelVersion.id.in_(teachers)) if teachers else []
    return list(datasets)


def _is_sound(evaluation: EvaluationView, version: ModelVersionView) -> bool:
    """A policy's examination leaves out what it learned from; a reward model's tells how much."""
    if version.kind in POLICIES:
        return True
    is_own = (
        version.dataset_version_id is not None
        and evaluation.dataset_version_id == version.dataset_version_id
    )
    if is_own and evaluation.split != Split.TEST.value:
        return False
    leakage = evaluation.examination.get("leakage") or {}
    return float(leakage.get("share") or 0.0) <= MAX_LEAKAGE


def _of_evaluation(evaluation: EvaluationView) -> Evidence:
    rows = f"{evaluation.dataset} ({evaluation.split})" if evaluation.dataset else evaluation.split
    return Evidence(
        source=f"its examination of {evaluation.created_at:%Y-%m-%d} on {rows}",
        num_rows=evaluation.num_rows,
        metrics=evaluation.metrics,
        intervals=_intervals(evaluation.examination.get("intervals")),
        examination=evaluation.examination,
    )


def _of_training(version: ModelVersionView) -> Evidence | None:
    """Only where the run says on how many rows: a figure without its n says nothing."""
    num_rows = version.details.get("n")
    if not isinstance(num_rows, int):
        return None
    return Evidence(
        source="the rows that its training run left out in turn",
        num_rows=num_rows,
        metrics=version.metrics,
        intervals=_intervals(version.details.get("intervals")),
    )


def _intervals(found: Mapping[str, Any] | None) -> dict[str, tuple[float, float]]:
    return {
        name: (float(bounds[0]), float(bounds[1]))
        for name, bounds in (found or {}).items()
        if bounds and None not in bounds
    }


def _teachers_of(version: ModelVersionView) -> list[uuid.UUID]:
    """What it was trained from, and the reward models of its run."""
    named = [version.details.get("base") or {}, *(version.details.get("rewards") or ())]
    return [uuid.UUID(str(one["version_id"])) for one in named if one.get("version_id")]
