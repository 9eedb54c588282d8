"""How versions reach users: gates, canaries and tests on part of the traffic, what was served."""

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
from rlhf_core.vocabulary import DeploymentKind, DeploymentState, GateKind


class GateRule(Base):
    """What a version must show before it is promoted. Without `model_id`: of every model.

    A rule that is not `is_required` warns only.
    """

    __tablename__ = "gate_rules"
    __table_args__ = (sa.UniqueConstraint("model_id", "kind"),)

    id: Mapped[uuid.UUID] = primary_id()
    model_id: Mapped[uuid.UUID | None] = foreign(
        "models.id", ondelete="CASCADE", nullable=True, index=False
    )
    kind: Mapped[GateKind] = mapped_column(growing_set(GateKind))
    params: Mapped[Json]
    is_required: Mapped[bool] = mapped_column(default=True)
    is_on: Mapped[bool] = mapped_column(default=True)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()


class VersionVeto(Base):
    """An expert's word against a version; it stands until it is withdrawn."""

    __tablename__ = "version_vetoes"

    id: Mapped[uuid.UUID] = primary_id()
    version_id: Mapped[uuid.UUID] = foreign("model_versions.id", ondelete="CASCADE")
    account_id: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    reason: Mapped[str] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = created_moment()
    withdrawn_at: Mapped[datetime | None]


class Deployment(Base):
    """A version on part of the traffic. At most one runs a model.

    `version_id` is the treatment, `baseline_version_id` the control (an A/B test of system prompts
    may name one version twice). `traffic_percent` is the treatment's share now; `plan` holds the
    steps with their times, `revision` counts the changes. `checked_at` is claimed by whoever
    looks at it.
    """

    __tablename__ = "deployments"
    __table_args__ = (
        sa.CheckConstraint("traffic_percent BETWEEN 0 AND 100", name="traffic_range"),
        sa.Index(
            "uq_deployments_running",
            "model_id",
            unique=True,
            sqlite_where=sa.text("state = 'running'"),
            postgresql_where=sa.text("state = 'running'"),
        ),
    )

    id: Mapped[uuid.UUID] = primary_id()
    model_id: Mapped[uuid.UUID] = foreign("models.id")
    version_id: Mapped[uuid.UUID] = foreign("model_versions.id")
    baseline_version_id: Mapped[uuid.UUID | None] = foreign("model_versions.id", nullable=True)
    kind: Mapped[DeploymentKind] = mapped_column(
        growing_set(DeploymentKind), default=DeploymentKind.CANARY, server_default="canary"
    )
    state: Mapped[DeploymentState] = mapped_column(
        closed_set(DeploymentState), default=DeploymentState.RUNNING
    )
    traffic_percent: Mapped[float]
    revision: Mapped[int] = mapped_column(default=0, server_default="0")
    control_prompt: Mapped[str | None] = mapped_column(sa.Text)
    treatment_prompt: Mapped[str | None] = mapped_column(sa.Text)
    plan: Mapped[Json | None]
    verdict: Mapped[Json | None]
    reason: Mapped[str | None] = mapped_column(sa.Text)
    end_reason: Mapped[str | None] = mapped_column(sa.Text)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    ended_by: Mapped[uuid.UUID | None] = foreign("accounts.id", ondelete="SET NULL", nullable=True)
    started_at: Mapped[datetime] = created_moment()
    checked_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class ServedLogEntry(Base):
    """One answered request: which version, which arm, how long, and whether it fell back.

    `is_error`: the version gave no answer. `details` of an interleaved order are its candidates by
    place (`order`, their indices in the request) and the team of each place (`teams`);
    `chosen_index` is the candidate that was used, by its index in the request.
    """

    __tablename__ = "served_log"
    __table_args__ = (
        sa.Index("ix_served_log_version_time", "model_version_id", "served_at"),
        sa.Index("ix_served_log_deployment_time", "deployment_id", "served_at"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    endpoint: Mapped[str] = mapped_column(sa.String(32))
    model_version_id: Mapped[uuid.UUID | None] = foreign(
        "model_versions.id", ondelete="SET NULL", nullable=True, index=False
    )
    deployment_id: Mapped[uuid.UUID | None] = foreign(
        "deployments.id", ondelete="SET NULL", nullable=True, index=False
    )
    arm: Mapped[str | None] = mapped_column(sa.String(32))
    propensity: Mapped[float | None]
    user_pseudonym: Mapped[str | None] = mapped_column(sa.String(64))
    interaction_id: Mapped[uuid.UUID | None] = foreign(
        "interactions.id", ondelete="SET NULL", nullable=True
    )
    num_candidates: Mapped[int | None]
    latency_ms: Mapped[float]
    is_fallback: Mapped[bool] = mapped_column(default=False)
    is_error: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    reason: Mapped[str | None] = mapped_column(sa.String(200))
    details: Mapped[Json | None]
    chosen_index: Mapped[int | None]
    chosen_at: Mapped[datetime | None]
    served_at: Mapped[datetime] = mapped_column(index=True)
