"""What others said of a thing, for those who have said something of it themselves.

Nobody is named: others are counted through for each thing, so that they cannot be told again
elsewhere, and of an end user only that it is one.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.comparison_changes import COMPARISON, columns, read_content
from rlhf_core.feedback.raters import find_rater
from rlhf_core.store.tables import Feedback, FeedbackAspect, Rater, ReasoningStep
from rlhf_core.vocabulary import Choice, RaterKind

MAX_OTHERS = 100


@dataclass(frozen=True)
class OtherOpinion:
    """What another rater says now. `number` counts the others of this thing from 1.

    `labels` by position are of the steps that the asking rater labelled, too. Of a pair `choice`
    and `preferred_id` (None: neither) are set instead of thumb, rating and aspects.
    """

    number: int
    rater_kind: RaterKind
    said_at: datetime
    thumb: int | None = None
    rating: int | None = None
    comment: str | None = None
    correction: str | None = None
    aspects: dict[str, int] = field(default_factory=dict)
    labels: dict[int, int] = field(default_factory=dict)
    choice: Choice | None = None
    preferred_id: uuid.UUID | None = None
    strength: int | None = None


def list_others(
    db: Session,
    interaction_id: uuid.UUID,
    *,
    actor: Actor,
    other_interaction_id: uuid.UUID | None = None,
) -> list[OtherOpinion]:
    """What others say of a completion (of a pair, with `other_interaction_id`), the oldest first.

    Raises:
        Forbidden: the actor has not judged it yet, or took their judgement back.
    """
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if other_interaction_id is not None:
        return _list_on_pair(db, (interaction_id, other_interaction_id), rater_id)
    return _list_on_completion(db, interaction_id, rater_id)


def _list_on_completion(
    db: Session, interaction_id: uuid.UUID, rater_id: uuid.UUID | None
) -> list[OtherOpinion]:
    rows = db.execute(
        sa.select(
            Feedback.id, Feedback.rater_id, Rater.rater_kind, ReasoningStep.position,
            Feedback.step_id, Feedback.thumb, Feedback.rating, Feedback.label, Feedback.comment,
            Feedback.correction, Feedback.created_at,
        )
        .join(Rater, Rater.id == Feedback.rater_id)
        .outerjoin(ReasoningStep, ReasoningStep.id == Feedback.step_id)
        .where(
            Feedback.interaction_id == interaction_id,
            Feedback.occasion == 0,
            Feedback.withdrawn_at.is_(None),
        )
        .order_by(Feedback.created_at, Feedback.id)
    ).all()  # fmt: skip
    mine = [row for row in rows if row.rater_id == rater_id]
    has_judged = any(
        row.step_id is None and (row.thumb is not None or row.rating is not None) for row in mine
    )
    labelled = {row.position for row in mine if row.label is not None}
    if not has_judged and not labelled:
        raise _too_early()
    fields: dict[uuid.UUID, dict[str, Any]] = {}
    whole = [row for row in rows if row.step_id is None and row.rater_id != rater_id]
    aspects = _load_aspects(db, [row.id for row in whole])
    if has_judged:
        for row in whole:
            fields[row.rater_id] = {
                "rater_kind": row.rater_kind,
                "said_at": row.created_at,
                "thumb": row.thumb,
                "rating": row.rating,
                "comment": row.comment,
                "correction": row.correction,
                "aspects": aspects.get(row.id, {}),
            }
    for row in rows:
        if row.rater_id != rater_id and row.label is not None and row.position in labelled:
            start = {"rater_kind": row.rater_kind, "said_at": row.created_at}
            labels = fields.setdefault(row.rater_id, start).setdefault("labels", {})
            labels[row.position] = row.label
    return _number(fields.values())


def _list_on_pair(
    db: Session, pair: tuple[uuid.UUID, uuid.UUID], rater_id: uuid.UUID | None
) -> list[OtherOpinion]:
    rows = db.execute(
        sa.select(*columns(), COMPARISON.c.rater_id, COMPARISON.c.created_at, Rater.rater_kind)
        .join(Rater, Rater.id == COMPARISON.c.rater_id)
        .where(
            COMPARISON.c.left_interaction_id.in_(pair),
            COMPARISON.c.right_interaction_id.in_(pair),
            COMPARISON.c.occasion == 0,
            COMPARISON.c.withdrawn_at.is_(None),
        )
        .order_by(COMPARISON.c.created_at, COMPARISON.c.id)
    ).all()
    if all(row.rater_id != rater_id for row in rows):
        raise _too_early()
    return _number(
        {
            "rater_kind": row.rater_kind,
            "said_at": row.created_at,
            "comment": row.reason,
            "choice": row.choice,
            "preferred_id": read_content(row).preferred_id,
            "strength": row.strength,
        }
        for row in rows
        if row.rater_id != rater_id
    )


def _number(said: Iterable[dict[str, Any]]) -> list[OtherOpinion]:
    ordered = sorted(said, key=lambda fields: fields["said_at"])[:MAX_OTHERS]
    return [OtherOpinion(number=number, **fields) for number, fields in enumerate(ordered, 1)]


def _load_aspects(db: Session, ids: list[uuid.UUID]) -> dict[uuid.UUID, dict[str, int]]:
    found: dict[uuid.UUID, dict[str, int]] = {}
    for row in db.scalars(sa.select(FeedbackAspect).where(FeedbackAspect.feedback_id.in_(ids))):
        found.setdefault(row.feedback_id, {})[row.name] = row.rating
    return found


def _too_early() -> Forbidden:
    return Forbidden("What others said is shown after your own rating: rate it first.")
