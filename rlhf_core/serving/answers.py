"""Answers as they are given: stored before they stream, so that feedback can be credited to them.

Each is an interaction with the version that answered, and a row of the served log.
"""

import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id, utcnow
from rlhf_core.feedback.drafts import InteractionDraft
from rlhf_core.feedback.service import create_interaction
from rlhf_core.serving.reasoning import split_reasoning
from rlhf_core.store.queries.dirty_days import mark_days_of_feedback
from rlhf_core.store.tables import (
    Feedback,
    Interaction,
    ModelVersion,
    ReasoningStep,
    ServedLogEntry,
)
from rlhf_core.vocabulary import Arm

ENDPOINT = "chat"
CHAT_ID_PREFIX = "chatcmpl-"
"""How the ids of answers begin in OpenAI's API; the id of the served log's row follows."""
PARTIAL = {"is_partial": True}
"""What `Interaction.extra` says of an answer that has not come to its end."""


@dataclass(frozen=True)
class Served:
    """How an answer came about; `latency_ms` is the time until its end.

    `arm` is None for a version that the caller named. `is_error`: there was to be an answer, and
    none came; then the version is None where nobody knows which one was asked. `served_id` names
    the row of the served log, if the caller was told one.
    """

    version_id: uuid.UUID | None
    latency_ms: float
    num_candidates: int = 1
    arm: str | None = Arm.PRODUCTION.value
    propensity: float | None = 1.0
    deployment_id: uuid.UUID | None = None
    user_pseudonym: str | None = None
    is_fallback: bool = False
    is_error: bool = False
    reason: str | None = None
    served_id: uuid.UUID | None = None


def read_route(line: dict[str, Any]) -> dict[str, Any]:
    """The side of a deployment that the first line of `/chat` names, as fields of `Served`."""
    deployment_id = line.get("deployment_id")
    return {
        "arm": line.get("arm"),
        "propensity": line.get("propensity"),
        "deployment_id": None if deployment_id is None else uuid.UUID(deployment_id),
    }


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
    """Keep the answer as far as it came, the reasoning steps in it apart, and how it was served.

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
            .values(
                completion=_keep_steps(db, interaction_id, text),
                extra=None if is_whole else PARTIAL,
            )
        )
        said = db.scalars(sa.select(Feedback.id).where(Feedback.interaction_id == interaction_id))
        mark_days_of_feedback(db, said.all())  # given while it was still on its way
    db.execute(
        sa.insert(ServedLogEntry),
        {
            "id": served.served_id or new_id(),
            "endpoint": ENDPOINT,
            "model_version_id": served.version_id and _find_version(db, served.version_id),
            "deployment_id": served.deployment_id,
            "arm": served.arm,
            "propensity": served.propensity,
            "user_pseudonym": served.user_pseudonym,
            "interaction_id": interaction_id,
            "num_candidates": served.num_candidates,
            "latency_ms": served.latency_ms,
            "is_fallback": served.is_fallback,
            "is_error": served.is_error,
            "reason": served.reason and served.reason[:200],
            "served_at": utcnow(),
        },
    )


def _keep_steps(db: Session, interaction_id: uuid.UUID, text: str) -> str:
    """Store the reasoning steps that a text holds; what it answers apart from them."""
    found = split_reasoning(text)
    if found.steps:
        rows = [
            {
                "id": new_id(),
                "interaction_id": interaction_id,
                "position": position,
                "kind": found.kind,
                "content": step,
            }
            for position, step in enumerate(found.steps)
        ]
        db.execute(sa.insert(ReasoningStep), rows)
    return found.answer


def _find_version(db: Session, version_id: uuid.UUID) -> uuid.UUID | None:
    return db.scalar(sa.select(ModelVersion.id).where(ModelVersion.id == version_id))
