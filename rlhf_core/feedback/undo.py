"""Taking back one's last actions. All of it is derived from the database, so a reload forgets none.

An action is a row's creation or a change of it by its rater; rows of one `bulk_id` are one action.
Undoing writes one more change, which names the one it takes back: neither is undone again.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
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
from rlhf_core.feedback.undo_comparison import (
    ComparisonAction,
    UndoneComparison,
    list_comparison_actions,
    undo_comparisons,
)
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import RevisionKind

MAX_UNDO = 10


@dataclass(frozen=True)
class UndoneFeedback:
    """What was undone, and where. `was_creation`: the row is withdrawn now, else restored.

    Of an action on several rows it names one of them, and how many they were.
    """

    feedback_id: uuid.UUID
    interaction_id: uuid.UUID
    step_id: uuid.UUID | None
    was_creation: bool
    num_undone: int = 1


@dataclass(frozen=True)
class _Action:
    """`parts` are (feedback, number): 0 is the row's creation, n the change to revision n."""

    at: datetime
    parts: tuple[tuple[uuid.UUID, int], ...]


def undo_last(db: Session, *, actor: Actor) -> UndoneFeedback | UndoneComparison | None:
    """Undo the actor's latest action that still stands, of their last ten; None if there is none.

    The creation of a row is undone by withdrawing it, a change by restoring the values before.
    What somebody else has changed since is left alone.
    """
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return None
    actions: list[_Action | ComparisonAction] = [
        *_list_last_actions(db, rater_id, actor),
        *list_comparison_actions(db, rater_id, actor, limit=MAX_UNDO),
    ]
    actions = sorted(actions, key=attrgetter("at"), reverse=True)[:MAX_UNDO]
    for action in actions:
        undone = (
            undo_comparisons(db, action, actor=actor)
            if isinstance(action, ComparisonAction)
            else _undo_action(db, action, actor)
        )
        if undone is not None:
            return undone
    return None


def _list_last_actions(db: Session, rater_id: uuid.UUID, actor: Actor) -> list[_Action]:
    created = sa.select(FEEDBACK.c.created_at, FEEDBACK.c.id, sa.literal(0)).where(
        FEEDBACK.c.rater_id == rater_id
    )
    changed = (
        sa.select(REVISIONS.c.changed_at, REVISIONS.c.feedback_id, REVISIONS.c.revision + 1)
        .join(FEEDBACK, FEEDBACK.c.id == REVISIONS.c.feedback_id)
        .where(
            REVISIONS.c.changed_by == actor.account_id,
            REVISIONS.c.undoes.is_(None),
            FEEDBACK.c.rater_id == rater_id,
        )
    )
    actions: list[_Action] = []
    bulks: dict[uuid.UUID, datetime] = {}
    for query, bulk_id in ((created, FEEDBACK.c.bulk_id), (changed, REVISIONS.c.bulk_id)):
        at, *_ = query.selected_columns
        alone = query.where(bulk_id.is_(None)).order_by(at.desc()).limit(MAX_UNDO)
        actions += (_Action(row[0], ((row[1], row[2]),)) for row in db.execute(alone))
        latest = sa.func.max(at)
        several = query.with_only_columns(bulk_id, latest).where(bulk_id.is_not(None))
        several = several.group_by(bulk_id).order_by(latest.desc()).limit(MAX_UNDO)
        bulks |= {row[0]: row[1] for row in db.execute(several)}
    for one, at_last in bulks.items():
        rows = [
            row
            for query, bulk_id in ((created, FEEDBACK.c.bulk_id), (changed, REVISIONS.c.bulk_id))
            for row in db.execute(query.where(bulk_id == one))
        ]
        actions.append(_Action(at_last, tuple((row[1], row[2]) for row in rows)))
    return sorted(actions, key=lambda one: (one.at, one.parts[0][1]), reverse=True)[:MAX_UNDO]


def _undo_action(db: Session, action: _Action, actor: Actor) -> UndoneFeedback | None:
    """Undo what still stands of it and was not changed by others; None where nothing is left."""
    rows, changes = _load(db, [feedback_id for feedback_id, _ in action.parts])
    undone = []
    for feedback_id, number in action.parts:
        history = changes.get(feedback_id, [])
        since = [change for change in history if change.revision >= number]
        is_undone = any(change.undoes == number for change in history)
        if not is_undone and all(change.changed_by == actor.account_id for change in since):
            undone.append(_undo(db, number, rows[feedback_id], history, actor))
    return replace(undone[0], num_undone=len(undone)) if undone else None


def _load(
    db: Session, feedback_ids: Sequence[uuid.UUID]
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


def _undo(db: Session, number: int, row: Any, history: list[Any], actor: Actor) -> UndoneFeedback:
    old = load_content(db, row)
    if number == 0:
        new = replace(old, withdrawn_at=utcnow())
    else:
        (before,) = (h.before for h in history if h.revision == number - 1)
        new = Content.from_json(before)
    if not change_content(
        db,
        row.id,
        seen_revision=row.revision,
        old=old,
        new=new,
        kind=RevisionKind.WITHDRAW if number == 0 else RevisionKind.RESTORE,
        actor=actor,
        undoes=number,
    ):
        raise Conflict("This feedback is being changed at this moment; try again.")
    mark_days_dirty(db, [row.interaction_at, old.occurred_at, new.occurred_at])
    return UndoneFeedback(row.id, row.interaction_id, row.step_id, number == 0)
