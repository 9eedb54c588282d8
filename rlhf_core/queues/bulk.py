"""One judgement of many completions at once: looked at before, and undone as one."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id
from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.raters import find_rater
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.queues.slots import FEEDBACK
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.tables import Interaction

MAX_BULK = 500
FIELDS = ("thumb", "rating", "comment", "correction")


@dataclass(frozen=True)
class BulkPreview:
    """What a bulk judgement would do: so many new ones, changed ones, and those it leaves alone."""

    num_new: int
    num_changed: int
    num_same: int

    @property
    def num_all(self) -> int:
        """How many completions are meant."""
        return self.num_new + self.num_changed + self.num_same


def preview_bulk(
    db: Session, *, actor: Actor, interaction_ids: Sequence[uuid.UUID], draft: FeedbackDraft
) -> BulkPreview:
    """What `rate_in_bulk` would do now. Nothing is stored.

    Raises:
        InvalidInput: no completion, too many, or the draft is about steps, spans or other people.
        NotFound: a completion is not there any more.
    """
    require(actor, Permission.RATE)
    ids = _check(db, interaction_ids, draft)
    rater_id = find_rater(db, actor=actor)
    given = [name for name in FIELDS if name in draft.model_fields_set]
    num_same = num_changed = 0
    for part in in_slices(ids):
        query = sa.select(*(FEEDBACK.c[name] for name in given), FEEDBACK.c.id).where(
            FEEDBACK.c.interaction_id.in_(part),
            FEEDBACK.c.rater_id == rater_id,
            FEEDBACK.c.step_id.is_(None),
            FEEDBACK.c.occasion == draft.occasion,
            FEEDBACK.c.withdrawn_at.is_(None),
        )
        for row in db.execute(query):
            is_same = all(getattr(row, name) == getattr(draft, name) for name in given)
            num_same += is_same
            num_changed += not is_same
    return BulkPreview(len(ids) - num_same - num_changed, num_changed, num_same)


def rate_in_bulk(
    db: Session, *, actor: Actor, interaction_ids: Sequence[uuid.UUID], draft: FeedbackDraft
) -> uuid.UUID:
    """Give the same judgement to all of them, as the actor's own; the id of this one action.

    What the actor said of one before is edited, its history kept. `undo_last` undoes it as one.

    Raises:
        InvalidInput: no completion, too many, or the draft is about steps, spans or other people.
        NotFound: a completion is not there any more.
    """
    require(actor, Permission.RATE)
    ids = _check(db, interaction_ids, draft)
    bulk_id = new_id()
    for interaction_id in sorted(ids):  # in one order, so that two at once never block each other
        submit_feedback(db, interaction_id, draft, actor=actor, source="bulk", bulk_id=bulk_id)
    return bulk_id


def _check(
    db: Session, interaction_ids: Sequence[uuid.UUID], draft: FeedbackDraft
) -> list[uuid.UUID]:
    ids = list(dict.fromkeys(interaction_ids))
    if not 1 <= len(ids) <= MAX_BULK:
        raise InvalidInput(
            f"Choose 1 to {MAX_BULK} completions to rate at once, not {len(ids):,}.",
            field="interaction_ids",
        )
    beyond = draft.model_fields_set - {*FIELDS, "occasion"}
    if beyond:
        raise InvalidInput(
            f"{', '.join(sorted(beyond))} cannot be given to many completions at once: "
            f"give {', '.join(FIELDS[:-1])} or {FIELDS[-1]}.",
            field=sorted(beyond)[0],
        )
    known = db.scalar(
        sa.select(sa.func.count()).select_from(Interaction).where(Interaction.id.in_(ids))
    )
    if known != len(ids):
        raise NotFound("Some of these completions are not there any more: choose again.")
    return ids
