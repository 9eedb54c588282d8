"""Models, their versions, which one serves, and what examinations and comparisons said."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import (
    Base,
    Json,
    JsonList,
    closed_set,
    created_moment,
    foreign,
    growing_set,
    primary_id,
)
from rlhf_core.vocabulary import Alias, ModelKind


class Model(Base):
    """A name for versions that can take each other's place, whatever is inside of each."""

    __tablename__ = "models"

    id: Mapped[uuid.UUID] = primary_id()
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    description: Mapped[str | None] = mapped_column(sa.Text)
    is_demo: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = created_moment()


class ModelVersion(Base):
    """One trained model: its files (with the manifest's SHA-256), and all that made it."""

    __tablename__ = "model_versions"
    __table_args__ = (sa.UniqueConstraint("model_id", "number"),)

    id: Mapped[uuid.UUID] = primary_id()
    model_id: Mapped[uuid.UUID] = foreign("models.id", index=False)
    number: Mapped[int]
    kind: Mapped[ModelKind] = mapped_column(growing_set(ModelKind))
    job_id: Mapped[uuid.UUID | None] = mapped_column(
        sa.ForeignKey("jobs.id", ondelete="SET NULL"), unique=True
    )
    dataset_version_id: Mapped[uuid.UUID | None] = foreign("dataset_versions.id", nullable=True)
    dataset_hash: Mapped[str | None] = mapped_column(sa.String(64))
    artifact_path: Mapped[str] = mapped_column(sa.String(500))
    manifest_sha256: Mapped[str] = mapped_column(sa.String(64))
    num_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    params: Mapped[Json]
    metrics: Mapped[Json]
    details: Mapped[Json | None]
    seed: Mapped[int]
    library_versions: Mapped[Json]
    notes: Mapped[str | None] = mapped_column(sa.Text)
    tags: Mapped[JsonList | None]
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()
    deleted_at: Mapped[datetime | None]


class ModelAlias(Base):
    """The pointer row. `revision` makes every move a compare-and-set."""

    __tablename__ = "model_aliases"

    model_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("models.id", ondelete="CASCADE"), primary_key=True
    )
    alias: Mapped[Alias] = mapped_column(closed_set(Alias), primary_key=True)
    version_id: Mapped[uuid.UUID | None] = foreign("model_versions.id", nullable=True)
    revision: Mapped[int] = mapped_column(default=0)
    updated_at: Mapped[datetime] = created_moment()


class ModelAliasChange(Base):
    """Every move of an alias: who, when, why, on what evidence."""

    __tablename__ = "model_alias_changes"
    __table_args__ = (sa.UniqueConstraint("model_id", "alias", "revision"),)

    id: Mapped[uuid.UUID] = primary_id()
    model_id: Mapped[uuid.UUID] = foreign("models.id", ondelete="CASCADE", index=False)
    alias: Mapped[Alias] = mapped_column(closed_set(Alias))
    revision: Mapped[int]
    from_version_id: Mapped[uuid.UUID | None] = foreign(
        "model_versions.id", nullable=True, index=False
    )
    to_version_id: Mapped[uuid.UUID | None] = foreign(
        "model_versions.id", nullable=True, index=False
    )
    reason: Mapped[str | None] = mapped_column(sa.Text)
    evidence: Mapped[Json | None]
    changed_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    changed_at: Mapped[datetime] = created_moment()


class Evaluation(Base):
    """An examination of a version on frozen rows. `details` is all of it but metrics and slices."""

    __tablename__ = "evaluations"

    id: Mapped[uuid.UUID] = primary_id()
    model_version_id: Mapped[uuid.UUID] = foreign("model_versions.id", ondelete="CASCADE")
    dataset_version_id: Mapped[uuid.UUID | None] = foreign("dataset_versions.id", nullable=True)
    job_id: Mapped[uuid.UUID | None] = foreign("jobs.id", ondelete="SET NULL", nullable=True)
    split: Mapped[str] = mapped_column(sa.String(32))
    num_rows: Mapped[int]
    metrics: Mapped[Json]
    slices: Mapped[JsonList | None]
    details: Mapped[Json | None]
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()


class InteractionReward(Base):
    """What a version says of a stored interaction."""

    __tablename__ = "interaction_rewards"

    interaction_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("interactions.id", ondelete="CASCADE"), primary_key=True
    )
    model_version_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("model_versions.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    reward: Mapped[float]
    scored_at: Mapped[datetime] = created_moment()


class VersionComparison(Base):
    """Versions side by side on the same frozen rows. `version_ids` in the order they were named.

    `result` is all figures with their intervals; the rows' own scores lie in the artifact folder,
    under `artifact_path`. `queue_id`: people compare what the versions disagree on.
    """

    __tablename__ = "version_comparisons"

    id: Mapped[uuid.UUID] = primary_id()
    model_id: Mapped[uuid.UUID] = foreign("models.id", ondelete="CASCADE")
    dataset_version_id: Mapped[uuid.UUID | None] = foreign("dataset_versions.id", nullable=True)
    job_id: Mapped[uuid.UUID | None] = foreign("jobs.id", ondelete="SET NULL", nullable=True)
    queue_id: Mapped[uuid.UUID | None] = foreign(
        "rating_queues.id", ondelete="SET NULL", nullable=True
    )
    split: Mapped[str] = mapped_column(sa.String(32))
    num_rows: Mapped[int]
    version_ids: Mapped[JsonList]
    result: Mapped[Json]
    artifact_path: Mapped[str | None] = mapped_column(sa.String(500))
    manifest_sha256: Mapped[str | None] = mapped_column(sa.String(64))
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()
