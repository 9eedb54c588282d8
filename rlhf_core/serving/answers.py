"""Answers as they are given: stored before they stream, so that feedback can be credited to them.

Each is an interaction with the version that answered, and a row of the served log.
"""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id, utcnow
from rlhf_core.feedback.drafts import InteractionDraft
from rlhf_core.feedback.service import create_interaction
from rlhf_core.store.queries.dirty_days import mark_days_of_feedback
from rlhf_core.store.tables import Feedback, Interaction, ModelVersion, ServedLogEntry

ENDPOINT = "chat"
PRODUCTION_ARM = "production"
PARTIAL = {"is_partial": True}
"""What `Interaction.extra` says of an answer that has not come to its end."""


@dataclass(frozen=True)
class Served:
    """How an answer came about; `latency_ms` is the time until its end."""

    version_id: uuid.UUID
    latency_ms: float
    num_candidates: int = 1
    arm: str = PRODUCTION_ARM
    propensity: float = 1.0
    is_fallback: bool = False
    reason: str | None = None


def begin_answer(db: Session, draft: InteractionDraft, *, version_id: uuid.UUID) -> uuid.UUID:
    """Store what was asked, before the first piece of the answer; the interaction's id."""
    partial = draft.model_copy(update={"extra": PARTIAL})
    stored = create_interaction(
        db, partial, actor=SYSTEM, model_version_id=_find_version(db, version_id)
    )
    return stored.id


def finish_answer(
    db: Session, interaction_id: uuid.UUID | None, text: str, served: Served, *, is_whole: bool
) -> None:
    """Keep the answer as far as it came, and how it was served.

    Where nothing came of it the interaction goes; without one only that one was served is kept.
    The version may be deleted meanwhile: its name stays with the interaction.
    """
    if interaction_id is not None and not text and not is_whole:
        db.execute(sa.delete(Interaction).where(Interaction.id == interaction_id))
        interaction_id = None
    if interaction_id is not None:
        db.execute(
            sa.update(Interaction)
            .where(Interaction.id == interaction_id)
            .values(completion=text, extra=None if is_whole else PARTIAL)
        )
        said = db.scalars(sa.select(Feedback.id).where(Feedback.interaction_id == interaction_id))
        mark_days_of_feedback(db, said.all())  # given while it was still on its way
    db.execute(
        sa.insert(ServedLogEntry),
        {
            "id": new_id(),
            "endpoint": ENDPOINT,
            "model_version_id": _find_version(db, served.version_id),
            "arm": served.arm,
            "propensity": served.propensity,
            "interaction_id": interaction_id,
            "num_candidates": served.num_candidates,
            "latency_ms": served.latency_ms,
            "is_fallback": served.is_fallback,
            "reason": served.reason and served.reason[:200],
            "served_at": utcnow(),
        },
    )


def _find_version(db: Session, version_id: uuid.UUID) -> uuid.UUID | None:
    return db.scalar(sa.select(ModelVersion.id).where(ModelVersion.id == version_id))
