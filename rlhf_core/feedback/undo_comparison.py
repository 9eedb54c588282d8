"""Taking back one's last comparisons, as `undo` does it for feedback.

An action is all that one submit wrote: choosing the best of several completions writes one row a
pair, all at the same moment.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict
from rlhf_core.feedback.comparison_changes import (
    COMPARISON,
    REVISION,
    Content,
    change_content,
    columns,
    read_content,
)
from rlhf_core.vocabulary import RevisionKind

MAX_ROWS_AN_ACTION = 6
"""The pairs of four completions."""


@dataclass(frozen=True)
class UndoneComparison:
    """What was undone, and between which completions. `was_creation`: nothing is said of them now.

    `interaction_id` is the left one of the first pair.
    """

    comparison_ids: tuple[uuid.UUID, ...]
    interaction_ids: tuple[uuid.UUID, ...]
    interaction_id: uuid.UUID
    occasion: int
    queue_id: uuid.UUID | None
    was_creation: bool


@dataclass(frozen=True)
class ComparisonAction:
    """`parts` are (comparison, number): 0 is the row's creation, n led to revision n."""

    at: datetime
    parts: tuple[tuple[uuid.UUID, int], ...]


def list_comparison_actions(
    db: Session, rater_id: uuid.UUID, actor: Actor, *, limit: int
) -> list[ComparisonAction]:
    """The rater's last actions on comparisons, the latest first."""
    num_rows = limit * MAX_ROWS_AN_ACTION
    created = db.execute(
        sa.select(COMPARISON.c.created_at, COMPARISON.c.id, sa.literal(0))
        .where(COMPARISON.c.rater_id == rater_id)
        .order_by(COMPARISON.c.created_at.desc())
        .limit(num_rows)
    )
    changed = db.execute(
        sa.select(REVISION.c.changed_at, REVISION.c.comparison_id, REVISION.c.revision + 1)
        .join(COMPARISON, COMPARISON.c.id == REVISION.c.comparison_id)
        .where(
            REVISION.c.changed_by == actor.account_id,
            REVISION.c.undoes.is_(None),
            COMPARISON.c.rater_id == rater_id,
        )
        .order_by(REVISION.c.changed_at.desc())
        .limit(num_rows)
    )
    parts: dict[datetime, list[tuple[uuid.UUID, int]]] = {}
    for at, comparison_id, number in (*created, *changed):
        parts.setdefault(at, []).append((comparison_id, number))
    latest = sorted(parts, reverse=True)[:limit]
    return [ComparisonAction(at, tuple(sorted(parts[at]))) for at in latest]


def undo_comparisons(
    db: Session, action: ComparisonAction, *, actor: Actor
) -> UndoneComparison | None:
    """Take an action back; None where none of it stands, or others have changed it since."""
    rows, changes = _load(db, [comparison_id for comparison_id, _ in action.parts])
    now = utcnow()
    undone: list[Any] = []
    for comparison_id, number in action.parts:
        history = changes.get(comparison_id, [])
        if any(change.undoes == number for change in history):
            continue
        if any(c.changed_by != actor.account_id for c in history if c.revision >= number):
            continue
        _undo(db, rows[comparison_id], number, history, actor, now)
        undone.append(rows[comparison_id])
    if not undone:
        return None
    sides = [one for row in undone for one in (row.left_interaction_id, row.right_interaction_id)]
    return UndoneComparison(
        comparison_ids=tuple(row.id for row in undone),
        interaction_ids=tuple(dict.fromkeys(sides)),
        interaction_id=sides[0],
        occasion=undone[0].occasion,
        queue_id=undone[0].queue_id,
        was_creation=all(number == 0 for _, number in action.parts),
    )


def _load(
    db: Session, ids: Iterable[uuid.UUID]
) -> tuple[dict[uuid.UUID, Any], dict[uuid.UUID, list[Any]]]:
    wanted = list(ids)
    rows = db.execute(
        sa.select(*columns(), COMPARISON.c.occasion, COMPARISON.c.queue_id).where(
            COMPARISON.c.id.in_(wanted)
        )
    )
    changes: dict[uuid.UUID, list[Any]] = {}
    for change in db.execute(sa.select(REVISION).where(REVISION.c.comparison_id.in_(wanted))):
        changes.setdefault(change.comparison_id, []).append(change)
    return {row.id: row for row in rows}, changes


def _undo(
    db: Session, row: Any, number: int, history: list[Any], actor: Actor, now: datetime
) -> None:
    old = read_content(row)
    if number == 0:
        new = replace(old, withdrawn_at=now)
    else:
        (before,) = (change.before for change in history if change.revision == number - 1)
        new = Content.from_json(before)
    if not change_content(
        db,
        row.id,
        seen_revision=row.revision,
        old=old,
        new=new,
        kind=RevisionKind.WITHDRAW if number == 0 else RevisionKind.RESTORE,
        actor=actor,
        at=now,
        undoes=number,
    ):
        raise Conflict("This comparison is being changed at this moment; try again.")
