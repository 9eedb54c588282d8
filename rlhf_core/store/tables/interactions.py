"""What was said: interactions, their reasoning steps, and events of end users."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.store.base import (
    Base,
    Json,
    JsonList,
    created_moment,
    foreign,
    index_where_given,
    primary_id,
)


class Interaction(Base):
    """One prompt and the completion that answered it.

    `(source, external_id)` is the identity for imports and the API; where the sender has no id,
    `external_id` is a hash of the content. `prompt_hash` groups equal prompts (normalised).
    """

    __tablename__ = "interactions"
    __table_args__ = (
        sa.UniqueConstraint("source", "external_id"),
        index_where_given("ix_interactions_chat", "chat_id", "message_id"),
        index_where_given("ix_interactions_user_pseudonym", "user_pseudonym"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    source: Mapped[str] = mapped_column(sa.String(200))
    external_id: Mapped[str] = mapped_column(sa.String(200))
    chat_id: Mapped[str | None] = mapped_column(sa.String(200))
    message_id: Mapped[str | None] = mapped_column(sa.String(200))
    turn: Mapped[int | None]
    user_pseudonym: Mapped[str | None] = mapped_column(sa.String(64))
    context: Mapped[JsonList | None]
    prompt: Mapped[str] = mapped_column(sa.Text)
    prompt_hash: Mapped[str] = mapped_column(sa.String(32), index=True)
    completion: Mapped[str] = mapped_column(sa.Text)
    action_type: Mapped[str | None] = mapped_column(sa.String(100))
    action_data: Mapped[Json | None]
    model_name: Mapped[str | None] = mapped_column(sa.String(200))
    model_version_id: Mapped[uuid.UUID | None] = foreign(
        "model_versions.id", ondelete="SET NULL", nullable=True, index=False
    )
    language: Mapped[str | None] = mapped_column(sa.String(16))
    extra: Mapped[Json | None]
    is_demo: Mapped[bool] = mapped_column(default=False)
    occurred_at: Mapped[datetime] = mapped_column(index=True)
    created_at: Mapped[datetime] = created_moment()


class ReasoningStep(Base):
    """One step of the way to the completion, numbered by `position` from 0."""

    __tablename__ = "reasoning_steps"
    __table_args__ = (
        sa.UniqueConstraint("interaction_id", "position"),
        index_where_given("ix_reasoning_steps_external_id", "external_id"),
        sa.CheckConstraint("position >= 0", name="position_range"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE", index=False)
    position: Mapped[int]
    kind: Mapped[str | None] = mapped_column(sa.String(100))
    content: Mapped[str] = mapped_column(sa.Text)
    external_id: Mapped[str | None] = mapped_column(sa.String(200))


class Event(Base):
    """Something an end user did: the material of sessions and funnels."""

    __tablename__ = "events"
    __table_args__ = (
        sa.UniqueConstraint("source", "external_id"),
        sa.Index("ix_events_name_time", "name", "occurred_at"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    source: Mapped[str] = mapped_column(sa.String(200))
    external_id: Mapped[str] = mapped_column(sa.String(200))
    name: Mapped[str] = mapped_column(sa.String(100))
    session_key: Mapped[str | None] = mapped_column(sa.String(200), index=True)
    user_pseudonym: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    interaction_id: Mapped[uuid.UUID | None] = foreign(
        "interactions.id", ondelete="SET NULL", nullable=True
    )
    properties: Mapped[Json | None]
    is_demo: Mapped[bool] = mapped_column(default=False)
    occurred_at: Mapped[datetime] = mapped_column(index=True)
    created_at: Mapped[datetime] = created_moment()
