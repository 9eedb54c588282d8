"""Accounts, their secrets (hashed), the audit, answered requests, and facts of this store."""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from rlhf_core.clock import utcnow
from rlhf_core.store.base import (
    Base,
    Json,
    JsonList,
    closed_set,
    created_moment,
    foreign,
    primary_id,
)
from rlhf_core.vocabulary import Role, TokenKind


class Account(Base):
    """A person or program that signs in. No password hash: sign-in by link only."""

    __tablename__ = "accounts"

    id: Mapped[uuid.UUID] = primary_id()
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    role: Mapped[Role] = mapped_column(closed_set(Role))
    password_hash: Mapped[str | None] = mapped_column(sa.String(300))
    created_at: Mapped[datetime] = created_moment()
    disabled_at: Mapped[datetime | None]


class Token(Base):
    """A secret's SHA-256. API tokens carry scopes; a sign-in link works once."""

    __tablename__ = "tokens"

    id: Mapped[uuid.UUID] = primary_id()
    account_id: Mapped[uuid.UUID] = foreign("accounts.id", ondelete="CASCADE")
    kind: Mapped[TokenKind] = mapped_column(closed_set(TokenKind))
    name: Mapped[str | None] = mapped_column(sa.String(200))
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    scopes: Mapped[JsonList | None]
    created_at: Mapped[datetime] = created_moment()
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEvent(Base):
    """Who did what to which thing."""

    __tablename__ = "audit_events"
    __table_args__ = (sa.Index("ix_audit_events_target", "target_kind", "target_id"),)

    id: Mapped[uuid.UUID] = primary_id()
    at: Mapped[datetime] = mapped_column(index=True)
    account_id: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    action: Mapped[str] = mapped_column(sa.String(100))
    target_kind: Mapped[str | None] = mapped_column(sa.String(64))
    target_id: Mapped[str | None] = mapped_column(sa.String(200))
    details: Mapped[Json | None]


class IdempotencyKey(Base):
    """The answer given to a request, so that its repetition gets the same answer."""

    __tablename__ = "idempotency_keys"

    account_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    request_hash: Mapped[str] = mapped_column(sa.String(64))
    status_code: Mapped[int]
    response: Mapped[Json]
    created_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)


class StoreFact(Base):
    """A fact about this database, such as the fingerprint of the pseudonym key in use."""

    __tablename__ = "store_facts"

    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    value: Mapped[str] = mapped_column(sa.Text)
