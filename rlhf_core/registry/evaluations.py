"""What examinations on frozen rows said of a version."""

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import NotFound
from rlhf_core.registry.views import storable
from rlhf_core.store.tables import (
    Account,
    Dataset,
    DatasetVersion,
    Evaluation,
    Model,
    ModelVersion,
)


@dataclass(frozen=True)
class EvaluationView:
    """An examination. `examination` is all of it as JSON, `metrics` its flat numbers.

    `dataset` is what people call the rows (`ratings v3`; None where they are gone), `split` the
    part of them (`test`, `all`, ...).
    """

    id: uuid.UUID
    model_version_id: uuid.UUID
    dataset_version_id: uuid.UUID | None
    dataset: str | None
    job_id: uuid.UUID | None
    split: str
    num_rows: int
    metrics: dict[str, float]
    examination: dict[str, Any]
    created_by: str | None
    created_at: datetime


def record_evaluation(
    db: Session,
    *,
    actor: Actor,
    version_id: uuid.UUID,
    dataset_version_id: uuid.UUID | None,
    job_id: uuid.UUID | None,
    split: str,
    num_rows: int,
    examination_json: Mapping[str, Any],
) -> EvaluationView:
    """Keep an examination. A job keeps one of a version on the same rows, however often it runs.

    Raises NotFound where there is no such version.
    """
    require(actor, Permission.RUN_JOBS)
    named = db.execute(
        sa.select(Model.name, ModelVersion.number)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(ModelVersion.id == version_id)
    ).one_or_none()
    if named is None:
        raise NotFound(f"There is no model version {version_id}.")
    if job_id is not None:
        known = _load(
            db,
            Evaluation.job_id == job_id,
            Evaluation.model_version_id == version_id,
            Evaluation.dataset_version_id == dataset_version_id,
            Evaluation.split == split,
        )
        if known:
            return known[0]
    details = dict(storable(dict(examination_json)))
    metrics = {
        name: float(value)
        for name, value in (details.pop("metrics", None) or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    evaluation_id = new_id()
    db.execute(
        sa.insert(Evaluation).values(
            id=evaluation_id,
            model_version_id=version_id,
            dataset_version_id=dataset_version_id,
            job_id=job_id,
            split=split,
            num_rows=num_rows,
            metrics=metrics,
            slices=details.pop("slices", None),
            details=details,
            created_by=actor.account_id,
            created_at=utcnow(),
        )
    )
    record_event(
        db,
        actor=actor,
        action="model.evaluate",
        target_kind="model_version",
        target_id=version_id,
        details={"model": named.name, "number": named.number, "split": split, "rows": num_rows},
    )
    return _load(db, Evaluation.id == evaluation_id)[0]


def list_evaluations(db: Session, version_id: uuid.UUID, *, actor: Actor) -> list[EvaluationView]:
    """The examinations of a version, the latest first."""
    require(actor, Permission.READ_MODELS)
    return _load(db, Evaluation.model_version_id == version_id)


def _load(db: Session, *conditions: sa.ColumnElement[bool]) -> list[EvaluationView]:
    statement = (
        sa.select(Evaluation, Dataset.name, DatasetVersion.number, Account.name)
        .outerjoin(DatasetVersion, DatasetVersion.id == Evaluation.dataset_version_id)
        .outerjoin(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .outerjoin(Account, Account.id == Evaluation.created_by)
        .where(*conditions)
        .order_by(Evaluation.created_at.desc(), Evaluation.id.desc())
    )
    return [
        EvaluationView(
            id=found.id,
            model_version_id=found.model_version_id,
            dataset_version_id=found.dataset_version_id,
            dataset=None if dataset is None else f"{dataset} v{number}",
            job_id=found.job_id,
            split=found.split,
            num_rows=found.num_rows,
            metrics=found.metrics,
            examination={
                **(found.details or {}),
                "metrics": found.metrics,
                "slices": found.slices or [],
            },
            created_by=account,
            created_at=found.created_at,
        )
        for found, dataset, number, account in db.execute(statement)
    ]
