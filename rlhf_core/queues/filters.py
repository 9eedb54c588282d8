"""Which interactions a queue is made from, as conditions of SQL."""

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.feedback.raters import find_rater
from rlhf_core.queues.slots import FEEDBACK, says_something
from rlhf_core.store.queries.answers import is_whole
from rlhf_core.store.queries.search import contains_text
from rlhf_core.store.tables import FailureClusterMember, Interaction, ReasoningStep
from rlhf_core.vocabulary import QueueSubject, RatingState

SHOWN_CHARS = 300
FAR_APART = 2
"""Raters whose ratings of one thing lie so far apart disagree; so do a thumb up and one down."""


@dataclass(frozen=True)
class QueueFilter:
    """What an interaction must be like; None and empty leave it open.

    `text` is looked for in prompt and completion, whatever the case. `since` (in) and `until` (out)
    are about when it happened. `subject` says what counts as rated, and STEPS takes only what has
    reasoning steps. `cluster_id` is a group of failures: only the answers in it. An answer that is
    still being written, or broke off, never matches.
    """

    subject: QueueSubject = QueueSubject.COMPLETIONS
    source: str | None = None
    model_name: str | None = None
    model_version_id: uuid.UUID | None = None
    action_type: str | None = None
    rating_state: RatingState | None = None
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    cluster_id: uuid.UUID | None = None

    def to_json(self) -> dict[str, Any]:
        """What is set, in a form that a queue keeps."""
        return {
            name: value if isinstance(value, str) else str(value)
            for name, value in dataclasses.asdict(self).items()
            if value
        }


@dataclass(frozen=True)
class Match:
    """The beginning of an interaction that matches, and what the asking rater said of it."""

    id: uuid.UUID
    prompt: str
    completion: str
    action_type: str | None
    occurred_at: datetime
    my_rating: int | None
    my_thumb: int | None


def list_matching(db: Session, where: QueueFilter, *, actor: Actor, limit: int) -> list[Match]:
    """The first that match, the oldest first; texts are cut to `SHOWN_CHARS`. No model is named."""
    require(actor, Permission.READ_INTERACTIONS)
    own = sa.and_(
        FEEDBACK.c.interaction_id == Interaction.id,
        FEEDBACK.c.rater_id == find_rater(db, actor=actor),
        FEEDBACK.c.step_id.is_(None),
        FEEDBACK.c.occasion == 0,
        FEEDBACK.c.withdrawn_at.is_(None),
    )
    rows = db.execute(
        sa.select(
            Interaction.id,
            sa.func.substr(Interaction.prompt, 1, SHOWN_CHARS),
            sa.func.substr(Interaction.completion, 1, SHOWN_CHARS),
            Interaction.action_type,
            Interaction.occurred_at,
            FEEDBACK.c.rating,
            FEEDBACK.c.thumb,
        )
        .outerjoin(FEEDBACK, own)
        .where(*_conditions(where))
        .order_by(Interaction.occurred_at, Interaction.id)
        .limit(limit)
    )
    return [Match(*row) for row in rows]


def count_matching(db: Session, where: QueueFilter, *, actor: Actor) -> int:
    """How many interactions match."""
    require(actor, Permission.READ_INTERACTIONS)
    return db.scalar(sa.select(sa.func.count()).select_from(matching(where).subquery())) or 0


def matching(where: QueueFilter) -> sa.Select[uuid.UUID]:
    """The ids of the interactions that match, in no order."""
    return sa.select(Interaction.id).where(*_conditions(where))


def _conditions(where: QueueFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [is_whole()]
    for column, value in (
        (Interaction.source, where.source),
        (Interaction.model_name, where.model_name),
        (Interaction.model_version_id, where.model_version_id),
        (Interaction.action_type, where.action_type),
    ):
        if value is not None:
            found.append(column == value)
    if where.text.strip():
        wanted = where.text.strip()
        found.append(
            sa.or_(
                contains_text(Interaction.prompt, wanted),
                contains_text(Interaction.completion, wanted),
            )
        )
    if where.since is not None:
        found.append(Interaction.occurred_at >= where.since)
    if where.until is not None:
        found.append(Interaction.occurred_at < where.until)
    if where.cluster_id is not None:
        members = sa.select(FailureClusterMember.interaction_id).where(
            FailureClusterMember.cluster_id == where.cluster_id
        )
        found.append(Interaction.id.in_(members))
    if where.subject is QueueSubject.STEPS:
        found.append(
            sa.select(sa.literal(1)).where(ReasoningStep.interaction_id == Interaction.id).exists()
        )
    if where.rating_state is not None:
        found.append(_in_state(where.rating_state, where.subject))
    return found


def _in_state(state: RatingState, subject: QueueSubject) -> sa.ColumnElement[bool]:
    if subject is QueueSubject.COMPARISONS:
        subject = QueueSubject.COMPLETIONS  # of pairs each completion is looked at
    judged = [
        FEEDBACK.c.interaction_id == Interaction.id,
        FEEDBACK.c.occasion == 0,
        FEEDBACK.c.withdrawn_at.is_(None),
        *says_something(subject),
    ]
    is_rated = sa.select(sa.literal(1)).where(*judged).exists()
    num_raters = (
        sa.select(sa.func.count(sa.distinct(FEEDBACK.c.rater_id))).where(*judged).scalar_subquery()
    )
    match state:
        case RatingState.UNRATED:
            return ~is_rated
        case RatingState.RATED:
            return is_rated
        case RatingState.NEEDS_SECOND:
            return num_raters == 1
        case RatingState.DISAGREED:
            return _is_disagreed(judged, subject)
        case _:
            assert_never(state)


def _is_disagreed(
    judged: list[sa.ColumnElement[bool]], subject: QueueSubject
) -> sa.ColumnElement[bool]:
    def spread(column: sa.Column[int]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.max(column) - sa.func.min(column), 0)

    query = sa.select(FEEDBACK.c.interaction_id).where(*judged)
    if subject is QueueSubject.STEPS:
        return (
            query.group_by(FEEDBACK.c.interaction_id, FEEDBACK.c.step_id)
            .having(spread(FEEDBACK.c.label) > 1)
            .exists()
        )
    apart = sa.or_(spread(FEEDBACK.c.rating) >= FAR_APART, spread(FEEDBACK.c.thumb) >= FAR_APART)
    return query.group_by(FEEDBACK.c.interaction_id).having(apart).exists()
