"""Who gets what to rate, and how a dispute was settled."""

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
from rlhf_core.vocabulary import (
    AdjudicationDecision,
    AssignmentState,
    Choice,
    QueueItemKind,
    QueueOrder,
    QueueSubject,
)


class RatingQueue(Base):
    """A named set of items to rate. `overlap` is the number of raters an item needs."""

    __tablename__ = "rating_queues"
    __table_args__ = (
        sa.CheckConstraint("overlap >= 1", name="overlap_range"),
        sa.CheckConstraint("gold_rate BETWEEN 0 AND 1", name="gold_range"),
        sa.CheckConstraint("repeat_rate BETWEEN 0 AND 1", name="repeat_range"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    instructions: Mapped[str | None] = mapped_column(sa.Text)
    subject: Mapped[QueueSubject] = mapped_column(
        growing_set(QueueSubject),
        default=QueueSubject.COMPLETIONS,
        server_default=QueueSubject.COMPLETIONS.value,
    )
    filters: Mapped[Json | None]
    aspects: Mapped[JsonList | None]
    order: Mapped[QueueOrder] = mapped_column(
        closed_set(QueueOrder), default=QueueOrder.OLDEST_FIRST
    )
    overlap: Mapped[int] = mapped_column(default=1)
    gold_rate: Mapped[float] = mapped_column(default=0.0)
    repeat_rate: Mapped[float] = mapped_column(default=0.0)
    is_blind: Mapped[bool] = mapped_column(default=True)
    lease_s: Mapped[int] = mapped_column(default=1800)
    is_demo: Mapped[bool] = mapped_column(default=False)
    created_by: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    created_at: Mapped[datetime] = created_moment()
    closed_at: Mapped[datetime | None]


class RatingQueueMember(Base):
    """An account that a queue is assigned to. A queue without members is everyone's."""

    __tablename__ = "rating_queue_members"

    queue_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("rating_queues.id", ondelete="CASCADE"), primary_key=True
    )
    account_id: Mapped[uuid.UUID] = mapped_column(
        sa.ForeignKey("accounts.id", ondelete="CASCADE"), primary_key=True, index=True
    )


IS_ONE = sa.text("other_interaction_id IS NULL")
IS_PAIR = sa.text("other_interaction_id IS NOT NULL")


class RatingQueueItem(Base):
    """An interaction in a queue, with the probability with which it was chosen.

    In a queue of comparisons a pair of them: `interaction_id` has the lower id of the two.
    """

    __tablename__ = "rating_queue_items"
    __table_args__ = (
        sa.Index(
            "uq_rating_queue_items_one",
            "queue_id",
            "interaction_id",
            "kind",
            unique=True,
            sqlite_where=IS_ONE,
            postgresql_where=IS_ONE,
        ),
        sa.Index(
            "uq_rating_queue_items_pair",
            "queue_id",
            "interaction_id",
            "other_interaction_id",
            "kind",
            unique=True,
            sqlite_where=IS_PAIR,
            postgresql_where=IS_PAIR,
        ),
        sa.Index("ix_rating_queue_items_order", "queue_id", "priority"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    queue_id: Mapped[uuid.UUID] = foreign("rating_queues.id", ondelete="CASCADE", index=False)
    interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE")
    other_interaction_id: Mapped[uuid.UUID | None] = foreign(
        "interactions.id", ondelete="CASCADE", nullable=True
    )
    kind: Mapped[QueueItemKind] = mapped_column(
        closed_set(QueueItemKind), default=QueueItemKind.NORMAL
    )
    priority: Mapped[float] = mapped_column(default=0.0)
    selection_probability: Mapped[float | None]
    selection_reason: Mapped[str | None] = mapped_column(sa.String(100))
    gold_answer: Mapped[Json | None]
    created_at: Mapped[datetime] = created_moment()


class RatingAssignment(Base):
    """One rater's slot on an item. `slot` runs from 0 to overlap - 1: the UNIQUE caps raters."""

    __tablename__ = "rating_assignments"
    __table_args__ = (
        sa.UniqueConstraint("queue_item_id", "slot"),
        sa.UniqueConstraint("queue_item_id", "rater_id"),
        sa.Index("ix_rating_assignments_rater_state", "rater_id", "state"),
    )

    id: Mapped[uuid.UUID] = primary_id()
    queue_item_id: Mapped[uuid.UUID] = foreign(
        "rating_queue_items.id", ondelete="CASCADE", index=False
    )
    slot: Mapped[int]
    rater_id: Mapped[uuid.UUID] = foreign("raters.id", index=False)
    state: Mapped[AssignmentState] = mapped_column(closed_set(AssignmentState))
    leased_at: Mapped[datetime] = created_moment()
    lease_expires_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    feedback_id: Mapped[uuid.UUID | None] = foreign(
        "feedback.id", ondelete="SET NULL", nullable=True
    )


class Adjudication(Base):
    """The answer that a named person gave to a dispute, with the reason."""

    __tablename__ = "adjudications"

    id: Mapped[uuid.UUID] = primary_id()
    interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE")
    step_id: Mapped[uuid.UUID | None] = foreign(
        "reasoning_steps.id", ondelete="CASCADE", nullable=True
    )
    queue_id: Mapped[uuid.UUID | None] = foreign(
        "rating_queues.id", ondelete="SET NULL", nullable=True
    )
    adjudicator_id: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    decision: Mapped[AdjudicationDecision] = mapped_column(closed_set(AdjudicationDecision))
    thumb: Mapped[int | None] = mapped_column(sa.SmallInteger)
    rating: Mapped[int | None] = mapped_column(sa.SmallInteger)
    label: Mapped[int | None] = mapped_column(sa.SmallInteger)
    reason: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = created_moment()
    superseded_at: Mapped[datetime | None]


class PairAdjudication(Base):
    """As `Adjudication`, of two completions; the first has the lower id.

    `choice` LEFT means that the first is better, RIGHT the second, TIE neither.
    """

    __tablename__ = "pair_adjudications"

    id: Mapped[uuid.UUID] = primary_id()
    first_interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE")
    second_interaction_id: Mapped[uuid.UUID] = foreign("interactions.id", ondelete="CASCADE")
    adjudicator_id: Mapped[uuid.UUID | None] = foreign(
        "accounts.id", ondelete="SET NULL", nullable=True
    )
    decision: Mapped[AdjudicationDecision] = mapped_column(closed_set(AdjudicationDecision))
    choice: Mapped[Choice | None] = mapped_column(closed_set(Choice))
    reason: Mapped[str | None] = mapped_column(sa.Text)
    created_at: Mapped[datetime] = created_moment()
    superseded_at: Mapped[datetime | None]
