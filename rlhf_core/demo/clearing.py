"""What goes with the demo world: its own rows, and what was made of them alone."""

import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.config import get_settings
from rlhf_core.store.tables import (
    Comparison,
    Consent,
    Dataset,
    DatasetMember,
    DatasetVersion,
    Deployment,
    Evaluation,
    Event,
    Feedback,
    Interaction,
    Job,
    Model,
    ModelAlias,
    ModelAliasChange,
    ModelVersion,
    Rater,
    RatingAssignment,
    RatingQueue,
    RatingQueueItem,
)
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import JobState

FINAL = [state for state in JobState if state.is_final]


@dataclass(frozen=True)
class Made:
    """What was made of the demo world alone: frozen versions, models, and the jobs behind them."""

    dataset_versions: list[uuid.UUID]
    model_versions: list[uuid.UUID]
    jobs: list[uuid.UUID]


def find_made(db: Session) -> Made:
    """What was made of it alone. What was mixed with real data on purpose stays."""
    members = sa.select(DatasetMember.dataset_version_id).join(
        Interaction, Interaction.id == DatasetMember.interaction_id
    )
    versions = list(
        db.scalars(
            sa.select(DatasetVersion.id).where(
                DatasetVersion.id.in_(members.where(Interaction.is_demo)),
                DatasetVersion.id.not_in(members.where(sa.not_(Interaction.is_demo))),
            )
        )
    )
    made = sa.or_(
        ModelVersion.dataset_version_id.in_(versions),
        ModelVersion.details["is_demo"].as_boolean(),  # a starter is made of no frozen dataset
    )
    models = list(db.scalars(sa.select(ModelVersion.id).where(made)))
    jobs = set(db.scalars(sa.select(ModelVersion.job_id).where(ModelVersion.id.in_(models))))
    examined = sa.or_(
        Evaluation.model_version_id.in_(models), Evaluation.dataset_version_id.in_(versions)
    )
    jobs |= set(db.scalars(sa.select(Evaluation.job_id).where(examined)))
    return Made(versions, models, [job for job in jobs if job is not None])


def find_folders(db: Session, made: Made) -> list[Path]:
    """The folders of files that only these versions name."""
    root = get_settings().artifact_dir
    folders = []
    for table, ids in (
        (DatasetVersion, made.dataset_versions),
        (ModelVersion, made.model_versions),
    ):
        path: Any = table.artifact_path
        shared = sa.select(path).where(table.id.not_in(ids))
        wanted = sa.select(path).where(table.id.in_(ids), path.not_in(shared)).distinct()
        folders += [root / text for text in db.scalars(wanted)]
    return folders


def remove_files(folders: Iterable[Path]) -> None:
    """Remove what `clear_demo` names, after its commit; what cannot be removed stays."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def delete_made(db: Session, made: Made) -> None:
    """Delete the versions with all that points at them, then names without a version."""
    models, versions = made.model_versions, made.dataset_versions
    moved = ModelAliasChange.from_version_id.in_(models), ModelAliasChange.to_version_id.in_(models)
    served = Deployment.version_id.in_(models), Deployment.baseline_version_id.in_(models)
    for statement in (
        sa.delete(Deployment).where(sa.or_(*served)),
        sa.delete(ModelAliasChange).where(sa.or_(*moved)),
        sa.update(ModelAlias)
        .where(ModelAlias.version_id.in_(models))
        .values(version_id=None, revision=ModelAlias.revision + 1),
        sa.delete(Evaluation).where(
            sa.or_(
                Evaluation.model_version_id.in_(models),
                Evaluation.dataset_version_id.in_(versions),
            )
        ),
        sa.delete(ModelVersion).where(ModelVersion.id.in_(models)),
        sa.delete(DatasetVersion).where(DatasetVersion.id.in_(versions)),
        sa.delete(Job).where(Job.id.in_(made.jobs), Job.state.in_(FINAL)),
    ):
        db.execute(statement, execution_options={"synchronize_session": False})
    if models:
        _delete_empty(db, Model, sa.select(ModelVersion.model_id))
    if versions:
        _delete_empty(db, Dataset, sa.select(DatasetVersion.dataset_id))


def _delete_empty(db: Session, table: type[Any], in_use: sa.Select[Any]) -> None:
    db.execute(
        sa.delete(table).where(table.id.not_in(in_use)),
        execution_options={"synchronize_session": False},
    )


def list_days_said(db: Session) -> list[datetime]:
    """Moments of the feedback that `delete_world` deletes, and of what it was said of."""
    rows = db.execute(
        sa.select(Feedback.occurred_at, Interaction.occurred_at)
        .join(Interaction, Interaction.id == Feedback.interaction_id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .where(sa.or_(Interaction.is_demo, Rater.is_demo))
    )
    return [moment for row in rows for moment in row]


def delete_world(db: Session) -> int:
    """Delete the demo's own rows, and what others said of them; how many interactions."""
    demo = sa.select(Interaction.id).where(Interaction.is_demo)
    raters = sa.select(Rater.id).where(Rater.is_demo)
    items = sa.select(RatingQueueItem.id).where(RatingQueueItem.interaction_id.in_(demo))
    sides = Comparison.left_interaction_id.in_(demo), Comparison.right_interaction_id.in_(demo)
    for statement in (
        sa.delete(RatingAssignment).where(
            sa.or_(RatingAssignment.queue_item_id.in_(items), RatingAssignment.rater_id.in_(raters))
        ),
        sa.delete(RatingQueue).where(RatingQueue.is_demo),
        sa.delete(Comparison).where(sa.or_(*sides, Comparison.rater_id.in_(raters))),
        sa.delete(Feedback).where(
            sa.or_(Feedback.interaction_id.in_(demo), Feedback.rater_id.in_(raters))
        ),
        sa.delete(Event).where(Event.is_demo),
        sa.delete(Consent).where(Consent.is_demo),
    ):
        db.execute(statement, execution_options={"synchronize_session": False})
    gone = db.execute(
        sa.delete(Interaction).where(Interaction.is_demo),
        execution_options={"synchronize_session": False},
    )
    db.execute(
        sa.delete(Rater).where(Rater.is_demo), execution_options={"synchronize_session": False}
    )
    return changed_rows(gone)
