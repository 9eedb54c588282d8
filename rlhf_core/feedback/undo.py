"""Taking back one's last actions. All of it is derived from the database, so a reload forgets none.

An action is a row's creation or a change of it by its rater. Undoing writes one more change, which
names the one it takes back: neither is undone again.
"""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict
from rlhf_core.feedback.changes import (
    FEEDBACK,
    REVISIONS,
    VALUES,
    Content,
    change_content,
    load_content,
)
from rlhf_core.feedback.raters import find_rater
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import RevisionKind

MAX_UNDO = 10


@dataclass(frozen=True)
class UndoneFeedback:
    """What was undone, and where. `was_creation`: the row is withdrawn now, else restored."""

    feedback_id: uuid.UUID
    interaction_id: uuid.UUID
    step_id: uuid.UUID | None
    was_creation: bool


@dataclass(frozen=True)
class _Action:
    at: datetime
    number: int  # 0: the row's creation; n: the change that led to revision n
    feedback_id: uuid.UUID


def undo_last(db: Session, *, actor: Actor) -> UndoneFeedback | None:
    """Undo the actor's latest action that still stands, of their last ten; None if there is none.

    The creation of a row is undone by withdrawing it, a change by restoring the values before.
    What somebody else has changed since is left alone.
    """
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return None
    actions = _list_last_actions(db, rater_id, actor)
    rows, changes = _load(db, {action.feedback_id for action in actions})
    for action in actions:
        row, history = rows[action.feedback_id], changes.get(action.feedback_id, [])
        if any(change.undoes == action.number for change in history):
            continue
        since = [change for change in history if change.revision >= action.number]
        if any(change.changed_by != actor.account_id for change in since):
            continue
        return _undo(db, action, row, history, actor)
    return None


def _list_last_actions(db: Session, rater_id: uuid.UUID, actor: Actor) -> list[_Action]:
    created = db.execute(
        sa.select(FEEDBACK.c.created_at, sa.literal(0), FEEDBACK.c.id)
        .where(FEEDBACK.c.rater_id == rater_id)
        .order_by(FEEDBACK.c.created_at.desc())
        .limit(MAX_UNDO)
    )
    changed = db.execute(
        sa.select(REVISIONS.c.changed_at, REVISIONS.c.revision + 1, REVISIONS.c.feedback_id)
        .join(FEEDBACK, FEEDBACK.c.id == REVISIONS.c.feedback_id)
        .where(
            REVISIONS.c.changed_by == actor.account_id,
            REVISIONS.c.undoes.is_(None),
            FEEDBACK.c.rater_id == rater_id,
        )
        .order_by(REVISIONS.c.changed_at.desc())
        .limit(MAX_UNDO)
    )
    actions = [_Action(*row) for row in (*created, *changed)]
    return sorted(actions, key=lambda action: (action.at, action.number), reverse=True)[:MAX_UNDO]


def _load(
    db: Session, feedback_ids: set[uuid.UUID]
) -> tuple[dict[uuid.UUID, Any], dict[uuid.UUID, list[Any]]]:
    rows = db.execute(
        sa.select(
            FEEDBACK.c.id,
            FEEDBACK.c.revision,
            FEEDBACK.c.interaction_id,
            FEEDBACK.c.step_id,
            Interaction.occurred_at.label("interaction_at"),
            *(FEEDBACK.c[name] for name in VALUES),
        )
        .join(Interaction, Interaction.id == FEEDBACK.c.interaction_id)
        .where(FEEDBACK.c.id.in_(feedback_ids))
    )
    changes: dict[uuid.UUID, list[Any]] = {}
    for change in db.execute(
        sa.select(
            REVISIONS.c.feedback_id,
            REVISIONS.c.revision,
            REVISIONS.c.undoes,
            REVISIONS.c.changed_by,
            REVISIONS.c.before,
        ).where(REVISIONS.c.feedback_id.in_(feedback_ids))
    ):
        changes.setdefault(change.feedback_id, []).append(change)
    return {row.id: row for row in rows}, changes


def _undo(
    db: Session, action: _Action, row: Any, history: list[Any], actor: Actor
) -> UndoneFeedback:
    old = load_content(db, row)
    if action.number == 0:
        new = replace(old, withdrawn_at=utcnow())
    else:
        (before,) = (h.before for h in history if h.revision == action.number - 1)
        new = Content.from_json(before)
    if not change_content(
        db,
        row.id,
        seen_revision=row.revision,
        old=old,
        new=new,
        kind=RevisionKind.WITHDRAW if action.number == 0 else RevisionKind.RESTORE,
        actor=actor,
        undoes=action.number,
    ):
        raise Conflict("This feedback is being changed at this moment; try again.")
    mark_days_dirty(db, [row.interaction_at, old.occurred_at, new.occurred_at])
    return UndoneFeedback(row.id, row.interaction_id, row.step_id, action.number == 0)
