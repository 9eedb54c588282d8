"""Small things to test with: each builder has working defaults; a test names what it is about."""

import itertools
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.clock import new_id
from rlhf_core.feedback.drafts import FeedbackDraft, InteractionDraft, StepDraft
from rlhf_core.feedback.service import (
    StoredFeedback,
    StoredInteraction,
    create_interaction,
    submit_feedback,
)
from rlhf_core.store.tables import Account
from rlhf_core.vocabulary import Role

_numbers = itertools.count(1)


def make_actor(db: Session, role: Role = Role.RATER, *, name: str | None = None) -> Actor:
    """Someone with an account in this role."""
    name = name or f"{role.value}-{next(_numbers)}"
    account_id = new_id()
    db.execute(sa.insert(Account), {"id": account_id, "name": name, "role": role})
    return Actor(name=name, role=role, account_id=account_id)


def interaction_draft(*, steps: int | list[str] = 0, **fields: Any) -> InteractionDraft:
    """An interaction about a word problem; `steps` are contents, or how many to make up."""
    number = next(_numbers)
    contents = [f"Step {n}: add {n}." for n in range(steps)] if isinstance(steps, int) else steps
    defaults: dict[str, Any] = {
        "prompt": f"What is {number} plus {number}?",
        "completion": f"{number} plus {number} is {2 * number}.",
        "steps": [StepDraft(content=content) for content in contents],
    }
    return InteractionDraft(**(defaults | fields))


def make_interaction(
    db: Session, *, steps: int | list[str] = 0, actor: Actor = SYSTEM, **fields: Any
) -> StoredInteraction:
    """A stored interaction; `fields` are those of `InteractionDraft`."""
    return create_interaction(db, interaction_draft(steps=steps, **fields), actor=actor)


def make_feedback(
    db: Session,
    interaction_id: uuid.UUID,
    *,
    actor: Actor = SYSTEM,
    source: str = "page",
    **fields: Any,
) -> StoredFeedback:
    """Stored feedback, by default a rating of 4; `fields` are those of `FeedbackDraft`."""
    draft = FeedbackDraft(**(fields or {"rating": 4}))
    return submit_feedback(db, interaction_id, draft, actor=actor, source=source)
