"""Storing interactions and what people think of them. The caller commits."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback import raters
from rlhf_core.feedback.changes import (
    FEEDBACK,
    change_content,
    content_of,
    insert_content,
    load_content,
    merge,
)
from rlhf_core.feedback.drafts import FeedbackDraft, InteractionDraft, prompt_hash
from rlhf_core.feedback.targets import INTERACTION, RATER, STEP, feedback_columns, look_up
from rlhf_core.feedback.undo import UndoneFeedback, undo_last
from rlhf_core.feedback.undo_comparison import UndoneComparison
from rlhf_core.feedback.views import FeedbackView, find_message, list_recent_feedback
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.upsert import changed_rows, insert_ignoring
from rlhf_core.vocabulary import RaterKind, RevisionKind

__all__ = [
    "FeedbackView",
    "StoredFeedback",
    "StoredInteraction",
    "UndoneComparison",
    "UndoneFeedback",
    "create_interaction",
    "find_message",
    "get_step_position",
    "list_recent_feedback",
    "submit_feedback",
    "undo_last",
    "withdraw_feedback",
]

MAX_TRIES = 5


@dataclass(frozen=True)
class StoredInteraction:
    """`step_ids` in the order of their positions."""

    id: uuid.UUID
    step_ids: tuple[uuid.UUID, ...]
    was_created: bool


@dataclass(frozen=True)
class StoredFeedback:
    """`revision` counts the changes; it stays where nothing changed."""

    id: uuid.UUID
    revision: int
    was_created: bool


def create_interaction(
    db: Session,
    draft: InteractionDraft,
    *,
    actor: Actor,
    is_demo: bool = False,
    model_version_id: uuid.UUID | None = None,
) -> StoredInteraction:
    """Store an interaction with its steps and feedback; the same one twice is stored once.

    Where `(source, identity)` exists already, the stored one is returned as it is; of the draft's
    feedback only what is missing is added, so that a repeated request reverts no later edit.
    To rate as oneself takes the permission to rate, here too.
    """
    require(actor, Permission.WRITE_INTERACTIONS)
    for feedback in draft.feedback:
        _require_voice(actor, feedback)
    interaction_id = new_id()
    occurred_at = draft.occurred_at or utcnow()
    identity = draft.identity()
    row = {
        "id": interaction_id,
        "source": draft.source,
        "external_id": identity,
        "chat_id": draft.chat_id,
        "message_id": draft.message_id,
        "turn": draft.turn,
        "user_pseudonym": draft.user and raters.outside_pseudonym(db, draft.user),
        "context": None if draft.context is None else [m.model_dump() for m in draft.context],
        "prompt": draft.prompt,
        "prompt_hash": prompt_hash(draft.prompt),
        "completion": draft.completion,
        "action_type": draft.action_type,
        "action_data": draft.action_data,
        "model_name": draft.model_name,
        "model_version_id": model_version_id,
        "language": draft.language,
        "extra": draft.extra,
        "is_demo": is_demo,
        "occurred_at": occurred_at,
        "created_at": utcnow(),
    }
    result = db.execute(insert_ignoring(db, INTERACTION), row)
    was_created = changed_rows(result) == 1
    if was_created:
        step_ids = _insert_steps(db, interaction_id, draft)
        mark_days_dirty(db, [occurred_at])
    else:
        interaction_id = db.scalars(
            sa.select(INTERACTION.c.id).where(
                INTERACTION.c.source == draft.source, INTERACTION.c.external_id == identity
            )
        ).one()
        step_ids = tuple(
            db.scalars(
                sa.select(STEP.c.id)
                .where(STEP.c.interaction_id == interaction_id)
                .order_by(STEP.c.position)
            )
        )
    for feedback in draft.feedback:
        _store_feedback(
            db, interaction_id, feedback, actor=actor, source=draft.source, keep_existing=True
        )
    return StoredInteraction(interaction_id, step_ids, was_created)


def submit_feedback(
    db: Session,
    interaction_id: uuid.UUID,
    draft: FeedbackDraft,
    *,
    actor: Actor,
    source: str = "page",
    step_id: uuid.UUID | None = None,
    bulk_id: uuid.UUID | None = None,
) -> StoredFeedback:
    """Store what a rater says of a completion, or of a step (`draft.step` or `step_id`).

    There is one row a rater, target and occasion. A second submit of the rater edits it: fields
    that the draft was built with replace the old ones (None clears), the others stay. An equal one
    changes nothing, one that clears all withdraws. After a withdrawal it starts afresh.

    Without `draft.rater` the rater is the actor; for `RaterKind.END_USER` it is the user of the
    interaction. To speak for others takes the permission to write interactions. What one action
    submits with one `bulk_id` is undone as one.

    Raises:
        NotFound: no such interaction or step.
        InvalidInput: the step is of another interaction, a span ends beyond the completion, or
            nothing is said.
        Conflict: `draft.external_id` names the feedback of another target or rater already.
        Forbidden: the end user opted out.
    """
    _require_voice(actor, draft)
    if step_id is not None:
        position = get_step_position(db, interaction_id, step_id)
        if draft.step not in (None, position):
            raise InvalidInput(f"step {draft.step} is not step {step_id}; name one.", field="step")
        draft = draft.model_copy(update={"step": position})
    return _store_feedback(db, interaction_id, draft, actor=actor, source=source, bulk_id=bulk_id)


def withdraw_feedback(db: Session, feedback_id: uuid.UUID, *, actor: Actor) -> StoredFeedback:
    """Take a feedback row out of all counts and datasets. The row and its history stay.

    One's own, or with the permission to write interactions anyone's. Twice is once.
    """
    require(actor, Permission.RATE)
    for _ in range(MAX_TRIES):
        row = db.execute(
            sa.select(*feedback_columns(), RATER.c.pseudonym, INTERACTION.c.occurred_at.label("at"))
            .join(RATER, RATER.c.id == FEEDBACK.c.rater_id)
            .join(INTERACTION, INTERACTION.c.id == FEEDBACK.c.interaction_id)
            .where(FEEDBACK.c.id == feedback_id)
        ).one_or_none()
        if row is None:
            raise NotFound(f"There is no feedback {feedback_id}; it may have been erased.")
        own = row.pseudonym == raters.account_pseudonym(actor)
        if not own and not actor.may(Permission.WRITE_INTERACTIONS):
            raise Forbidden(f"{actor.name} may withdraw only their own feedback; ask an admin.")
        if row.withdrawn_at is not None:
            return StoredFeedback(feedback_id, row.revision, was_created=False)
        old = load_content(db, row)
        new = replace(old, withdrawn_at=utcnow())
        if change_content(
            db, feedback_id, seen_revision=row.revision, old=old, new=new,
            kind=RevisionKind.WITHDRAW, actor=actor,
        ):  # fmt: skip
            mark_days_dirty(db, [row.at, old.occurred_at])
            return StoredFeedback(feedback_id, row.revision + 1, was_created=False)
    raise _changing(feedback_id)


def get_step_position(db: Session, interaction_id: uuid.UUID, step_id: uuid.UUID | str) -> int:
    """The position of a step, named by its id here or (text) by its id outside.

    Raises:
        NotFound: no such step.
        InvalidInput: it is a step of another interaction.
    """
    by_id = STEP.c.id == step_id if isinstance(step_id, uuid.UUID) else None
    found = db.execute(
        sa.select(STEP.c.interaction_id, STEP.c.position).where(
            STEP.c.external_id == step_id if by_id is None else by_id
        )
    ).all()
    for row in found:
        if row.interaction_id == interaction_id:
            return int(row.position)
    if found:
        raise InvalidInput(
            f"step {step_id} belongs to another interaction than {interaction_id}.", field="step_id"
        )
    raise NotFound(f"There is no step {step_id}; store it with its interaction first.")


def _require_voice(actor: Actor, draft: FeedbackDraft) -> None:
    for_others = draft.rater is not None or draft.rater_kind is RaterKind.END_USER
    require(actor, Permission.WRITE_INTERACTIONS if for_others else Permission.RATE)


def _insert_steps(
    db: Session, interaction_id: uuid.UUID, draft: InteractionDraft
) -> tuple[uuid.UUID, ...]:
    step_ids = tuple(new_id() for _ in draft.steps)
    rows = [
        {
            "id": step_id,
            "interaction_id": interaction_id,
            "position": position,
            "kind": step.kind,
            "content": step.content,
            "external_id": step.external_id,
        }
        for position, (step_id, step) in enumerate(zip(step_ids, draft.steps, strict=True))
    ]
    if rows:
        db.execute(sa.insert(STEP), rows)
    return step_ids


def _store_feedback(
    db: Session,
    interaction_id: uuid.UUID,
    draft: FeedbackDraft,
    *,
    actor: Actor,
    source: str,
    keep_existing: bool = False,
    bulk_id: uuid.UUID | None = None,
) -> StoredFeedback:
    for _ in range(MAX_TRIES):
        target = look_up(db, interaction_id, draft, actor)
        if target.id is None:
            stored = _insert(db, target, draft, actor=actor, source=source, bulk_id=bulk_id)
        elif keep_existing:
            return StoredFeedback(target.id, target.revision, was_created=False)
        else:
            stored = _edit(db, target, draft, actor=actor, bulk_id=bulk_id)
        if stored is not None:
            return stored
    raise _changing(interaction_id)


def _insert(
    db: Session,
    target: Any,
    draft: FeedbackDraft,
    *,
    actor: Actor,
    source: str,
    bulk_id: uuid.UUID | None,
) -> StoredFeedback | None:
    rater_id = target.rater
    if rater_id is None:
        own = target.pseudonym == raters.account_pseudonym(actor)
        rater_id = raters.create_rater(
            db,
            target.pseudonym,
            rater_kind=draft.rater_kind,
            account_id=actor.account_id if own else None,
            actor=actor,
        )
    feedback_id = new_id()
    identity = {
        "id": feedback_id,
        "interaction_id": target.interaction,
        "step_id": target.step,
        "rater_id": rater_id,
        "occasion": draft.occasion,
        "source": source,
        "external_id": draft.external_id or str(feedback_id),
        "bulk_id": bulk_id,
    }
    content = content_of(draft)
    if not content.says_something:
        raise InvalidInput("says nothing: the comment is empty", field="comment")
    if not insert_content(db, identity, content):
        if draft.external_id is not None:
            _refuse_known_external_id(db, identity)
        return None
    mark_days_dirty(db, [target.interaction_at, content.occurred_at])
    return StoredFeedback(feedback_id, 0, was_created=True)


def _refuse_known_external_id(db: Session, identity: dict[str, Any]) -> None:
    names = ("interaction_id", "step_id", "rater_id", "occasion")
    other = db.execute(
        sa.select(*(FEEDBACK.c[name] for name in names)).where(
            FEEDBACK.c.source == identity["source"],
            FEEDBACK.c.external_id == identity["external_id"],
        )
    ).one_or_none()
    if other is not None and any(getattr(other, name) != identity[name] for name in names):
        raise Conflict(
            f"Feedback {identity['external_id']!r} of source {identity['source']!r} is stored for "
            "another target or rater already; send another external_id."
        )


def _edit(
    db: Session, target: Any, draft: FeedbackDraft, *, actor: Actor, bulk_id: uuid.UUID | None
) -> StoredFeedback | None:
    old = load_content(db, target)
    was_withdrawn = old.withdrawn_at is not None
    new = content_of(draft) if was_withdrawn else merge(old, draft)
    kind = RevisionKind.RESTORE if was_withdrawn else RevisionKind.EDIT
    if not new.says_something:  # all of it was cleared
        new = replace(old, withdrawn_at=old.withdrawn_at or utcnow())
        kind = RevisionKind.WITHDRAW
    if new == old:
        return StoredFeedback(target.id, target.revision, was_created=False)
    changed = change_content(
        db,
        target.id,
        seen_revision=target.revision,
        old=old,
        new=new,
        kind=kind,
        actor=actor,
        bulk_id=bulk_id,
    )
    if not changed:
        return None
    mark_days_dirty(db, [target.interaction_at, old.occurred_at, new.occurred_at])
    return StoredFeedback(target.id, target.revision + 1, was_created=False)


def _changing(thing: uuid.UUID) -> Conflict:
    return Conflict(f"Feedback on {thing} is being changed by others at this moment; try again.")
