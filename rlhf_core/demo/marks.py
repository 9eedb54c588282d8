"""What was made of demo rows, so that wherever it shows it is marked as demo."""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.store.tables import (
    DatasetMember,
    DatasetVersion,
    Evaluation,
    Interaction,
    Job,
    ModelVersion,
    Rater,
)
from rlhf_core.vocabulary import JobKind


@dataclass(frozen=True)
class DemoMarks:
    """The ids of what has demo rows in it, also beside real ones."""

    dataset_versions: frozenset[uuid.UUID] = frozenset()
    model_versions: frozenset[uuid.UUID] = frozenset()
    jobs: frozenset[uuid.UUID] = frozenset()


def find_marks(db: Session) -> DemoMarks:
    """What was made of demo rows. While there is nothing but the demo world, that is every run.

    Without a demo world it costs one small query.
    """
    if db.scalar(sa.select(Rater.id).where(Rater.is_demo).limit(1)) is None:
        return DemoMarks()
    has_demo_row = (
        sa.exists()
        .where(DatasetMember.dataset_version_id == DatasetVersion.id)
        .where(Interaction.id == DatasetMember.interaction_id, Interaction.is_demo)
    )
    datasets = db.scalars(sa.select(DatasetVersion.id).where(has_demo_row)).all()
    made = sa.or_(
        ModelVersion.dataset_version_id.in_(datasets),
        ModelVersion.details["is_demo"].as_boolean(),  # a starter is made of no frozen dataset
    )
    made_by = sa.select(ModelVersion.id, ModelVersion.job_id).where(made)
    models = {row.id: row.job_id for row in db.execute(made_by)}
    examined = sa.or_(
        Evaluation.model_version_id.in_(models), Evaluation.dataset_version_id.in_(datasets)
    )
    jobs: set[uuid.UUID | None] = set(models.values())
    jobs |= set(db.scalars(sa.select(Evaluation.job_id).where(examined)))
    if db.scalar(sa.select(Interaction.id).where(sa.not_(Interaction.is_demo)).limit(1)) is None:
        jobs |= set(db.scalars(sa.select(Job.id).where(Job.kind != JobKind.IMPORT)))
    return DemoMarks(
        frozenset(datasets), frozenset(models), frozenset(job for job in jobs if job is not None)
    )
