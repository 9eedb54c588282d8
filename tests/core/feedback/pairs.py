"""Completions to compare, and comparing them."""

import uuid
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.feedback.comparisons import StoredComparison, submit_comparison
from rlhf_core.feedback.drafts import PreferenceDraft
from tests.builders import make_interaction

PROMPT = "Which city is the capital of France?"


def make_completions(db: Session, num: int = 2, **fields: Any) -> list[uuid.UUID]:
    """`num` completions of one prompt, in the order of their ids."""
    fields = {"prompt": PROMPT, **fields}
    prompt = fields["prompt"]
    made = [
        make_interaction(db, completion=f"Answer {n} to {prompt}", **fields).id for n in range(num)
    ]
    return sorted(made)


def compare(
    db: Session, left: uuid.UUID, right: uuid.UUID, actor: Actor, **said: Any
) -> StoredComparison:
    """A stored comparison, by default the left one wins."""
    draft = PreferenceDraft(**{"choice": "left", **said})
    return submit_comparison(db, left, right, draft, actor=actor)
