"""Frozen datasets: a version's rows lie in its artifact; members tie them to their origin."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import (
    Base,
    Json,
    closed_set,
    created_moment,
    foreign,
    growing_set,
    primary_id,
)
from rlhf_core.vocabulary import DatasetPurpose, Split


class Dataset(Base):
    """A name for versions with one purpose."""

    __tablename__ = "datasets"

    id: Mapped[uuid.UUID] = primary_id()
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    purpose: Mapped[DatasetPurpose] = mapped_column(growing_set(DatasetPurpose))
    description: Mapped[str | None] = mapped_column(sa.Text)
    is_demo: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()


class DatasetVersion(Base):
    """Frozen rows. `content_hash` is the SHA-256 of the rows file; equal content is one version."""

    __tablename__ = "dataset_versions"
    __table_args__ = (
        sa.UniqueConstraint("dataset_id", "number"),
        sa.UniqueConstraint("dataset_id", "content_hash"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    dataset_id: Mapped[uuid.UUID] = foreign("datasets.id", index=False)
    number: Mapped[int]
    content_hash: Mapped[str] = mapped_column(sa.String(64), index=True)
    artifact_path: Mapped[str] = mapped_column(sa.String(500))
    params: Mapped[Json]
    num_rows: Mapped[int]
    num_groups: Mapped[int]
    left_out: Mapped[Json]
    card: Mapped[Json | None]
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()


class DatasetMember(Base):
    """Which interaction (and feedback or comparison) a frozen row came from."""

    __tablename__ = "dataset_members"
    __table_args__ = (sa.Index("ix_dataset_members_row", "dataset_version_id", "row_number"),)

    id: Mapped[uuid.UUID] = primary_id()
    dataset_version_id: Mapped[uuid.UUID] = foreign(
        "dataset_versions.id", ondelete="CASCADE", index=False
    )
    row_number: Mapped[int]
    split: Mapped[Split] = mapped_column(closed_set(Split))
    interaction_id: Mapped[uuid.UUID | None] = foreign(
        "interactions.id", ondelete="SET NULL", nullable=True
    )
    feedback_id: Mapped[uuid.UUID | None] = foreign(
        "feedback.id", ondelete="SET NULL", nullable=True
    )
    comparison_id: Mapped[uuid.UUID | None] = foreign(
        "comparisons.id", ondelete="SET NULL", nullable=True
    )
