"""What people allowed, and what was erased."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import Base, Json, closed_set, created_moment, foreign, primary_id
from rlhf_core.vocabulary import ConsentState


class Consent(Base):
    """What a person said about one use of their data; the newest row a purpose counts."""

    __tablename__ = "consents"
    __table_args__ = (sa.Index("ix_consents_person", "pseudonym", "purpose", "recorded_at"),)

    id: Mapped[uuid.UUID] = primary_id()
    pseudonym: Mapped[str] = mapped_column(sa.String(64))
    purpose: Mapped[str] = mapped_column(sa.String(64))
    state: Mapped[ConsentState] = mapped_column(closed_set(ConsentState))
    source: Mapped[str] = mapped_column(sa.String(200))
    is_demo: Mapped[bool] = mapped_column(default=False)
    recorded_at: Mapped[datetime] = created_moment()


class Erasure(Base):
    """An erasure and its receipt: what was deleted, and which models had been trained on it."""

    __tablename__ = "erasures"

    id: Mapped[uuid.UUID] = primary_id()
    pseudonym: Mapped[str] = mapped_column(sa.String(64), index=True)
    reason: Mapped[str | None] = mapped_column(sa.Text)
    receipt: Mapped[Json | None]
    requested_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    requested_at: Mapped[datetime] = created_moment()
    completed_at: Mapped[datetime | None]
