"""Alert rules, the alerts they opened, and the messages that went out."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import Base, Json, closed_set, created_moment, foreign, primary_id
from rlhf_core.vocabulary import AlertState


class AlertRule(Base):
    """What to watch. `kind` names the rule's function, `params` its numbers."""

    __tablename__ = "alert_rules"

    id: Mapped[uuid.UUID] = primary_id()
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    kind: Mapped[str] = mapped_column(sa.String(64))
    params: Mapped[Json]
    channels: Mapped[Json | None]
    is_enabled: Mapped[bool] = mapped_column(default=True)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()
    checked_at: Mapped[datetime | None]


class Alert(Base):
    """A rule that fired on a slice. At most one unresolved a rule and slice.

    `ended_at`: when the rule no longer fired. Until then it opens no other alert on the slice, also
    where a person called this one resolved.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        sa.Index(
            "uq_alerts_unresolved",
            "rule_id",
            "slice_key",
            unique=True,
            sqlite_where=sa.text("state <> 'resolved'"),
            postgresql_where=sa.text("state <> 'resolved'"),
        ),
    )

    id: Mapped[uuid.UUID] = primary_id()
    rule_id: Mapped[uuid.UUID] = foreign("alert_rules.id", ondelete="CASCADE")
    slice_key: Mapped[str] = mapped_column(sa.String(200), default="")
    state: Mapped[AlertState] = mapped_column(closed_set(AlertState), default=AlertState.OPEN)
    value: Mapped[float | None]
    details: Mapped[Json | None]
    opened_at: Mapped[datetime] = mapped_column(index=True)
    acknowledged_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    acknowledged_at: Mapped[datetime | None]
    resolved_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    resolved_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]


class AlertDelivery(Base):
    """One message of an alert (None: of a digest) to one channel, until it is sent or given up."""

    __tablename__ = "alert_deliveries"

    id: Mapped[uuid.UUID] = primary_id()
    alert_id: Mapped[uuid.UUID | None] = foreign("alerts.id", ondelete="CASCADE", nullable=True)
    channel: Mapped[str] = mapped_column(sa.String(32))
    target: Mapped[str] = mapped_column(sa.String(500))
    content: Mapped[Json]
    num_attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(index=True)
    error: Mapped[str | None] = mapped_column(sa.String(500))
    created_at: Mapped[datetime] = created_moment()
    sent_at: Mapped[datetime | None]
