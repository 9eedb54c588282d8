"""What people think of it: raters, feedback with aspects and spans, comparisons."""

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
    index_where_given,
    primary_id,
)
from rlhf_core.vocabulary import Choice, RaterKind, RevisionKind


class Rater(Base):
    """Who rates. `pseudonym` is a keyed hash of the id outside; an SME has an account."""

    __tablename__ = "raters"

    id: Mapped[uuid.UUID] = primary_id()
    pseudonym: Mapped[str] = mapped_column(sa.String(64), unique=True)
    rater_kind: Mapped[RaterKind] = mapped_column(closed_set(RaterKind))
    account_id: Mapped[uuid.UUID | None] = mapped_column(
        sa.ForeignKey("accounts.id", ondelete="SET NULL"), unique=True
    )
    is_demo: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = created_moment()


class Feedback(Base):
    """What one rater says of one completion, or of one of its steps.

    At most one current row a rater, target and `occasion` (0; 1, 2, ... when an item is shown
    again on purpose). A withdrawn row stays, with `withdrawn_at` set. `revision` counts changes.
    Rows that one action made together share a `bulk_id`.
    """

    __tablename__ = "feedback"
    __table_args__ = (
        sa.UniqueConstraint("source", "external_id"),
        sa.Index(
            "uq_feedback_completion_rater",
            "interaction_id",
            "rater_id",
            "occasion",
            unique=True,
            sqlite_where=sa.text("step_id IS NULL"),
            postgresql_where=sa.text("step_id IS NULL"),
        ),
        sa.Index(
            "uq_feedback_step_rater",
            "step_id",
            "rater_id",
            "occasion",
            unique=True,
            sqlite_where=sa.text("step_id IS NOT NULL"),
            postgresql_where=sa.text("step_id IS NOT NULL"),
        ),
        sa.Index("ix_feedback_interaction_id", "interaction_id"),
        index_where_given("ix_feedback_queue_id", "queue_id"),
        sa.Index("ix_feedback_rater_time", "rater_id", "created_at"),
        sa.Index(
            "ix_feedback_step_time",
            "occurred_at",
            sqlite_where=sa.text("step_id IS NOT NULL"),
            postgresql_where=sa.text("step_id IS NOT NULL"),
        ),
        sa.CheckConstraint("thumb IN (-1, 0, 1)", name="thumb_range"),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name="rating_range"),
        sa.CheckConstraint("label IN (-1, 0, 1)", name="label_range"),
        sa.CheckConstraint("label IS NULL OR step_id IS NOT NULL", name="label_needs_step"),
        sa.CheckConstraint("occasion >= 0", name="occasion_range"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE", index=False)
    step_id: Mapped[uuid.UUID | None] = foreign(
        "reasoning_steps.id", ondelete="CASCADE", nullable=True, index=False
    )
    rater_id: Mapped[uuid.UUID] = foreign("raters.id", index=False)
    occasion: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    source: Mapped[str] = mapped_column(sa.String(200))
    external_id: Mapped[str] = mapped_column(sa.String(200))
    thumb: Mapped[int | None] = mapped_column(sa.SmallInteger)
    rating: Mapped[int | None] = mapped_column(sa.SmallInteger)
    label: Mapped[int | None] = mapped_column(sa.SmallInteger)
    comment: Mapped[str | None] = mapped_column(sa.Text)
    correction: Mapped[str | None] = mapped_column(sa.Text)
    duration_s: Mapped[float | None]
    queue_id: Mapped[uuid.UUID | None] = foreign(
        "rating_queues.id", ondelete="SET NULL", nullable=True, index=False
    )
    extra: Mapped[Json | None]
    bulk_id: Mapped[uuid.UUID | None]
    revision: Mapped[int] = mapped_column(default=0)
    occurred_at: Mapped[datetime] = mapped_column(index=True)
    created_at: Mapped[datetime] = created_moment()
    updated_at: Mapped[datetime] = created_moment()
    withdrawn_at: Mapped[datetime | None]


class FeedbackAspect(Base):
    """A rating (1..5) of one aspect: accuracy, tone, ..."""

    __tablename__ = "feedback_aspects"
    __table_args__ = (sa.CheckConstraint("rating BETWEEN 1 AND 5", name="rating_range"),)

    feedback_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("feedback.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    rating: Mapped[int] = mapped_column(sa.SmallInteger)


class FeedbackSpan(Base):
    """A tagged part of the completion: characters `start_at` (in) to `end_at` (out)."""

    __tablename__ = "feedback_spans"
    __table_args__ = (sa.CheckConstraint("start_at >= 0 AND end_at > start_at", name="span_range"),)

    id: Mapped[uuid.UUID] = primary_id()
    feedback_id: Mapped[uuid.UUID] = foreign("feedback.id", ondelete="CASCADE")
    start_at: Mapped[int]
    end_at: Mapped[int]
    tag: Mapped[str] = mapped_column(sa.String(100))
    note: Mapped[str | None] = mapped_column(sa.Text)


class FeedbackRevision(Base):
    """What a feedback row held before a change, who changed it, and when.

    `undoes` is set on a change that takes another back: 0 for the row's creation, n for the change
    that led to revision n.
    """

    __tablename__ = "feedback_revisions"
    __table_args__ = (sa.UniqueConstraint("feedback_id", "revision"),)

    id: Mapped[uuid.UUID] = primary_id()
    feedback_id: Mapped[uuid.UUID] = foreign("feedback.id", ondelete="CASCADE", index=False)
    revision: Mapped[int]
    kind: Mapped[RevisionKind] = mapped_column(closed_set(RevisionKind))
    before: Mapped[Json]
    changed_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    changed_at: Mapped[datetime] = created_moment()
    undoes: Mapped[int | None]
    bulk_id: Mapped[uuid.UUID | None]


class UnsentText(Base):
    """What a rater typed and has not sent: `field` is "comment" or "correction"."""

    __tablename__ = "unsent_texts"

    rater_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("raters.id", ondelete="CASCADE"), primary_key=True
    )
    interaction_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("interactions.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    field: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    content: Mapped[str] = mapped_column(sa.Text)
    updated_at: Mapped[datetime] = created_moment()


class Attachment(Base):
    """A file that belongs to a feedback row, such as a voice note."""

    __tablename__ = "attachments"

    id: Mapped[uuid.UUID] = primary_id()
    feedback_id: Mapped[uuid.UUID] = foreign("feedback.id", ondelete="CASCADE")
    media_type: Mapped[str] = mapped_column(sa.String(100))
    content: Mapped[bytes] = mapped_column(sa.LargeBinary)
    transcript: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = created_moment()


class Comparison(Base):
    """Which of two completions one rater prefers. Left and right as they were shown."""

    __tablename__ = "comparisons"
    __table_args__ = (
        sa.UniqueConstraint("source", "external_id"),
        sa.UniqueConstraint("left_interaction_id", "right_interaction_id", "rater_id", "occasion"),
        sa.CheckConstraint("left_interaction_id <> right_interaction_id", name="two_sides"),
        sa.CheckConstraint("strength BETWEEN 1 AND 3", name="strength_range"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    left_interaction_id: Mapped[uuid.UUID] = foreign(
        "interactions.id", ondelete="CASCADE", index=False
    )
    right_interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE")
    group_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    rater_id: Mapped[uuid.UUID] = foreign("raters.id")
    occasion: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    source: Mapped[str] = mapped_column(sa.String(200))
    external_id: Mapped[str] = mapped_column(sa.String(200))
    choice: Mapped[Choice] = mapped_column(closed_set(Choice))
    strength: Mapped[int | None] = mapped_column(sa.SmallInteger)
    reason: Mapped[str | None] = mapped_column(sa.Text)
    is_blind: Mapped[bool] = mapped_column(default=True)
    duration_s: Mapped[float | None]
    queue_id: Mapped[uuid.UUID | None] = foreign(
        "rating_queues.id", ondelete="SET NULL", nullable=True
    )
    extra: Mapped[Json | None]
    revision: Mapped[int] = mapped_column(default=0, server_default="0")
    occurred_at: Mapped[datetime] = mapped_column(index=True)
    created_at: Mapped[datetime] = created_moment()
    withdrawn_at: Mapped[datetime | None]


class ComparisonRevision(Base):
    """What a comparison held before a change, as `FeedbackRevision` for feedback."""

    __tablename__ = "comparison_revisions"
    __table_args__ = (sa.UniqueConstraint("comparison_id", "revision"),)

    id: Mapped[uuid.UUID] = primary_id()
    comparison_id: Mapped[uuid.UUID] = foreign("comparisons.id", ondelete="CASCADE", index=False)
    revision: Mapped[int]
    kind: Mapped[RevisionKind] = mapped_column(growing_set(RevisionKind))
    before: Mapped[Json]
    changed_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    changed_at: Mapped[datetime] = created_moment()
    undoes: Mapped[int | None]
