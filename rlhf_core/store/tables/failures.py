"""Clusters of bad answers that share meaning, as a job found them."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import Base, Json, JsonList, created_moment, foreign, primary_id


class FailureClustering(Base):
    """One search for clusters. `stability` is 0..1, None where it was not measured."""

    __tablename__ = "failure_clusterings"

    id: Mapped[uuid.UUID] = primary_id()
    job_id: Mapped[uuid.UUID | None] = foreign("jobs.id", ondelete="SET NULL", nullable=True)
    params: Mapped[Json]
    num_items: Mapped[int]
    num_outliers: Mapped[int]
    stability: Mapped[float | None]
    created_at: Mapped[datetime] = created_moment()


class FailureCluster(Base):
    """A cluster of a search, numbered from 0 by size. `words` are its typical words."""

    __tablename__ = "failure_clusters"
    __table_args__ = (sa.UniqueConstraint("clustering_id", "number"),)

    id: Mapped[uuid.UUID] = primary_id()
    clustering_id: Mapped[uuid.UUID] = foreign(
        "failure_clusterings.id", ondelete="CASCADE", index=False
    )
    number: Mapped[int]
    size: Mapped[int]
    words: Mapped[JsonList]
    figures: Mapped[Json]


class FailureClusterMember(Base):
    """An interaction in a cluster. `distance` is the cosine distance to its centre (0..2)."""

    __tablename__ = "failure_cluster_members"

    cluster_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("failure_clusters.id", ondelete="CASCADE"), primary_key=True
    )
    interaction_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("interactions.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    distance: Mapped[float]
