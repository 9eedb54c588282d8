"""Rows for export: interactions in the order of their identity, each with all that hangs on it."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.store.base import table_of
from rlhf_core.store.tables import (
    Comparison,
    Feedback,
    FeedbackAspect,
    FeedbackSpan,
    Interaction,
    Rater,
    ReasoningStep,
)

INTERACTION = table_of(Interaction)
STEP = table_of(ReasoningStep)
FEEDBACK = table_of(Feedback)
ASPECT = table_of(FeedbackAspect)
SPAN = table_of(FeedbackSpan)
COMPARISON = table_of(Comparison)
RATER = table_of(Rater)
AT_ONCE = 500

Row = Any
"""A row of a query: its columns are attributes."""


@dataclass(slots=True)
class FeedbackRow:
    """A feedback row with its rater (`pseudonym`, `rater_kind`), aspects and spans."""

    row: Row
    aspects: dict[str, int] = field(default_factory=dict)
    spans: list[Row] = field(default_factory=list)


@dataclass(slots=True)
class InteractionRow:
    """An interaction with its steps in order and its feedback in the order of its identity."""

    row: Row
    steps: list[Row] = field(default_factory=list)
    feedback: list[FeedbackRow] = field(default_factory=list)


def stream_interactions(db: Session, *, source: str | None = None) -> Iterator[InteractionRow]:
    """All interactions but demo ones, by (source, external_id), in constant memory.

    Withdrawn feedback is left out. The order is that of the bytes, the same on both databases.
    """
    query = (
        sa.select(INTERACTION)
        .where(sa.not_(INTERACTION.c.is_demo))
        .order_by(*(_by_bytes(db, INTERACTION.c[name]) for name in ("source", "external_id")))
        .execution_options(yield_per=AT_ONCE)
    )
    if source is not None:
        query = query.where(INTERACTION.c.source == source)
    for part in db.execute(query).partitions():
        yield from _complete(db, part)


def _complete(db: Session, rows: Sequence[Row]) -> list[InteractionRow]:
    found = {row.id: InteractionRow(row) for row in rows}
    ids = list(found)
    steps = sa.select(STEP).where(STEP.c.interaction_id.in_(ids)).order_by(STEP.c.position)
    for step in db.execute(steps):
        found[step.interaction_id].steps.append(step)
    query = (
        sa.select(FEEDBACK, RATER.c.pseudonym, RATER.c.rater_kind, STEP.c.position)
        .join(RATER, RATER.c.id == FEEDBACK.c.rater_id)
        .outerjoin(STEP, STEP.c.id == FEEDBACK.c.step_id)
        .where(FEEDBACK.c.interaction_id.in_(ids), FEEDBACK.c.withdrawn_at.is_(None))
        .order_by(*(_by_bytes(db, FEEDBACK.c[name]) for name in ("source", "external_id")))
    )
    feedback: dict[uuid.UUID, FeedbackRow] = {}
    for row in db.execute(query):
        feedback[row.id] = FeedbackRow(row)
        found[row.interaction_id].feedback.append(feedback[row.id])
    _complete_feedback(db, feedback)
    return list(found.values())


def _complete_feedback(db: Session, feedback: dict[uuid.UUID, FeedbackRow]) -> None:
    ids = list(feedback)
    for at in range(0, len(ids), 10 * AT_ONCE):
        part = ids[at : at + 10 * AT_ONCE]
        aspects = sa.select(ASPECT).where(ASPECT.c.feedback_id.in_(part))
        for aspect in db.execute(aspects.order_by(_by_bytes(db, ASPECT.c.name))):
            feedback[aspect.feedback_id].aspects[aspect.name] = aspect.rating
        spans = sa.select(SPAN).where(SPAN.c.feedback_id.in_(part))
        for span in db.execute(
            spans.order_by(SPAN.c.start_at, SPAN.c.end_at, _by_bytes(db, SPAN.c.tag), SPAN.c.id)
        ):
            feedback[span.feedback_id].spans.append(span)


def stream_comparisons(db: Session, *, source: str | None = None) -> Iterator[Row]:
    """All comparisons but withdrawn and demo ones, by (source, external_id), with both sides.

    Each row has the columns of the comparison, `pseudonym` and `rater_kind`, and of each side
    `left_source`, `left_external_id`, `left_completion`, and the same for the right; the prompt and
    the context are the left one's.
    """
    left, right = INTERACTION.alias("l"), INTERACTION.alias("r")
    sides = [
        side.c[name].label(f"{label}_{name}")
        for label, side in (("left", left), ("right", right))
        for name in ("source", "external_id", "completion")
    ]
    query = (
        sa.select(
            COMPARISON, RATER.c.pseudonym, RATER.c.rater_kind, left.c.prompt, left.c.context, *sides
        )
        .join(RATER, RATER.c.id == COMPARISON.c.rater_id)
        .join(left, left.c.id == COMPARISON.c.left_interaction_id)
        .join(right, right.c.id == COMPARISON.c.right_interaction_id)
        .where(
            COMPARISON.c.withdrawn_at.is_(None), sa.not_(left.c.is_demo), sa.not_(right.c.is_demo)
        )
        .order_by(*(_by_bytes(db, COMPARISON.c[name]) for name in ("source", "external_id")))
        .execution_options(yield_per=AT_ONCE)
    )
    if source is not None:
        query = query.where(COMPARISON.c.source == source)
    yield from db.execute(query)


def list_sources(db: Session) -> list[tuple[str, int]]:
    """Each source with its number of interactions, demo ones left out."""
    query = (
        sa.select(INTERACTION.c.source, sa.func.count())
        .where(sa.not_(INTERACTION.c.is_demo))
        .group_by(INTERACTION.c.source)
        .order_by(INTERACTION.c.source)
    )
    return [(source, count) for source, count in db.execute(query)]


def _by_bytes(db: Session, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """SQLite compares bytes by itself; PostgreSQL asks the locale unless told otherwise."""
    if db.get_bind().dialect.name == "sqlite":
        return column
    return sa.collate(column, "C")
