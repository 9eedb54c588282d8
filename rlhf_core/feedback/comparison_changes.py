"""What a comparison says, and changing it without losing what it said before.

As `changes` does it for feedback: a change is a compare-and-set on `Comparison.revision`, and the
values before are kept in `ComparisonRevision`.
"""

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import new_id
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Comparison, ComparisonRevision
from rlhf_core.store.upsert import changed_rows, insert_ignoring
from rlhf_core.vocabulary import Choice, RevisionKind

COMPARISON = table_of(Comparison)
REVISION = table_of(ComparisonRevision)

SAID = ("choice", "strength", "reason", "is_blind", "duration_s", "extra")
SIDES = ("left_interaction_id", "right_interaction_id")
MOMENTS = ("occurred_at", "withdrawn_at")


@dataclass(frozen=True)
class Content:
    """All that a comparison says; the sides as they were shown.

    `group_id` is shared by the pairs of one choice among several completions.
    """

    left_interaction_id: uuid.UUID
    right_interaction_id: uuid.UUID
    choice: Choice
    occurred_at: datetime
    strength: int | None = None
    reason: str | None = None
    is_blind: bool = True
    duration_s: float | None = None
    extra: dict[str, Any] | None = None
    withdrawn_at: datetime | None = None
    group_id: uuid.UUID | None = None

    @property
    def preferred_id(self) -> uuid.UUID | None:
        """The better completion; None where there is none."""
        match self.choice:
            case Choice.LEFT:
                return self.left_interaction_id
            case Choice.RIGHT:
                return self.right_interaction_id
            case Choice.TIE | Choice.BOTH_BAD:
                return None

    def values(self) -> dict[str, Any]:
        """The columns of the row."""
        return {name: getattr(self, name) for name in _names()}

    def to_json(self) -> dict[str, Any]:
        """The form that a revision keeps."""
        data = self.values()
        for name in (*SIDES, "group_id"):
            data[name] = None if data[name] is None else str(data[name])
        for name in MOMENTS:
            data[name] = None if data[name] is None else data[name].isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Content":
        """Read what `to_json` wrote."""
        data = {**data, "choice": Choice(data["choice"])}
        for name in (*SIDES, "group_id"):  # revisions of old name no group
            data[name] = None if data.get(name) is None else uuid.UUID(data[name])
        for name in MOMENTS:
            data[name] = None if data[name] is None else datetime.fromisoformat(data[name])
        return cls(**data)


def columns() -> list[sa.ColumnElement[Any]]:
    """What `read_content` and a compare-and-set need of a row."""
    return [COMPARISON.c.id, COMPARISON.c.revision, *(COMPARISON.c[name] for name in _names())]


def read_content(row: Any) -> Content:
    """What a row says that has `columns()`."""
    return Content(**{name: getattr(row, name) for name in _names()})


def new_content(
    left_id: uuid.UUID,
    right_id: uuid.UUID,
    draft: PreferenceDraft,
    now: datetime,
    group_id: uuid.UUID | None,
) -> Content:
    """What a new row says."""
    return Content(
        left_id,
        right_id,
        occurred_at=draft.occurred_at or now,
        group_id=group_id,
        **{name: getattr(draft, name) for name in SAID} | {"reason": draft.reason or None},
    )


def merge(old: Content, left_id: uuid.UUID, right_id: uuid.UUID, draft: PreferenceDraft) -> Content:
    """`old` with the sides as they were shown now and the fields that the draft gives."""
    given: dict[str, Any] = {
        name: getattr(draft, name) for name in SAID if name in draft.model_fields_set
    }
    if "reason" in given:
        given["reason"] = given["reason"] or None
    if draft.occurred_at is not None:
        given["occurred_at"] = draft.occurred_at
    return dataclasses.replace(
        old, left_interaction_id=left_id, right_interaction_id=right_id, **given
    )


def insert_content(
    db: Session, identity: dict[str, Any], content: Content, *, at: datetime
) -> bool:
    """Insert a row with these identity columns; False where a UNIQUE of it exists already."""
    row = {**identity, **content.values(), "revision": 0, "created_at": at}
    return changed_rows(db.execute(insert_ignoring(db, COMPARISON), row)) == 1


def change_content(
    db: Session,
    comparison_id: uuid.UUID,
    *,
    seen_revision: int,
    old: Content,
    new: Content,
    kind: RevisionKind,
    actor: Actor,
    at: datetime,
    undoes: int | None = None,
) -> bool:
    """Set the row to `new` and keep `old`; False if the row has moved on from `seen_revision`.

    `undoes` as in `feedback.changes.change_content`. Rows of one action are given the same `at`.
    """
    result = db.execute(
        sa.update(COMPARISON)
        .where(COMPARISON.c.id == comparison_id, COMPARISON.c.revision == seen_revision)
        .values(**new.values(), revision=seen_revision + 1)
    )
    if not changed_rows(result):
        return False
    row = {
        "id": new_id(),
        "comparison_id": comparison_id,
        "revision": seen_revision,
        "kind": kind,
        "before": old.to_json(),
        "changed_by": actor.account_id,
        "changed_at": at,
        "undoes": undoes,
    }
    db.execute(sa.insert(REVISION), row)
    return True


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(Content)]
