"""What a feedback row says, and changing it without losing what it said before.

Every change is a compare-and-set on `Feedback.revision`: of two writers at once one wins, the other
looks again. The values before are kept in `FeedbackRevision`.
"""

import dataclasses
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.clock import new_id, utcnow
from rlhf_core.feedback.drafts import VOICE_NOTES, FeedbackDraft
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import (
    Feedback,
    FeedbackAspect,
    FeedbackRevision,
    FeedbackSpan,
)
from rlhf_core.store.upsert import changed_rows, insert_ignoring
from rlhf_core.vocabulary import RevisionKind

FEEDBACK = table_of(Feedback)
ASPECTS = table_of(FeedbackAspect)
SPANS = table_of(FeedbackSpan)
REVISIONS = table_of(FeedbackRevision)

VALUES = (
    "thumb", "rating", "label", "comment", "correction", "duration_s", "extra", "occurred_at",
    "withdrawn_at",
)  # fmt: skip
MOMENTS = ("occurred_at", "withdrawn_at")


@dataclass(frozen=True)
class Content:
    """All that a feedback row says. `spans` are (start_at, end_at, tag, note)."""

    occurred_at: datetime
    thumb: int | None = None
    rating: int | None = None
    label: int | None = None
    comment: str | None = None
    correction: str | None = None
    duration_s: float | None = None
    extra: dict[str, Any] | None = None
    withdrawn_at: datetime | None = None
    aspects: dict[str, int] = field(default_factory=dict)
    spans: tuple[tuple[int, int, str, str | None], ...] = ()

    @property
    def says_something(self) -> bool:
        """Whether a person would miss the row."""
        said = (self.thumb, self.rating, self.label, self.comment, self.correction)
        has_parts = bool(self.aspects or self.spans or (self.extra or {}).get(VOICE_NOTES))
        return has_parts or any(value is not None for value in said)

    def values(self) -> dict[str, Any]:
        """The columns of the feedback row itself."""
        return {name: getattr(self, name) for name in VALUES}

    def to_json(self) -> dict[str, Any]:
        """The form that a revision keeps."""
        data = dataclasses.asdict(self)
        for name in MOMENTS:
            data[name] = None if data[name] is None else data[name].isoformat()
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Content":
        """Read what `to_json` wrote."""
        data = dict(data)
        for name in MOMENTS:
            data[name] = None if data[name] is None else datetime.fromisoformat(data[name])
        data["spans"] = tuple(tuple(span) for span in data["spans"])
        return cls(**data)


def content_of(draft: FeedbackDraft) -> Content:
    """What a new row says."""
    return merge(Content(occurred_at=draft.occurred_at or utcnow()), draft)


def merge(old: Content, draft: FeedbackDraft) -> Content:
    """`old` with the fields that the draft gives (None, or an empty comment, clears one)."""
    given: dict[str, Any] = {
        name: getattr(draft, name)
        for name in ("thumb", "rating", "label", "comment", "correction", "duration_s", "extra")
        if name in draft.model_fields_set
    }
    if "comment" in given:
        given["comment"] = given["comment"] or None
    if draft.occurred_at is not None:
        given["occurred_at"] = draft.occurred_at
    if "aspects" in draft.model_fields_set:
        given["aspects"] = dict(draft.aspects)
    if "spans" in draft.model_fields_set:
        given["spans"] = tuple(sorted((s.start_at, s.end_at, s.tag, s.note) for s in draft.spans))
    return dataclasses.replace(old, **given)


def load_content(db: Session, row: Any) -> Content:
    """The whole content of a row that has `id` and the columns of `VALUES`."""
    aspects = db.execute(
        sa.select(ASPECTS.c.name, ASPECTS.c.rating).where(ASPECTS.c.feedback_id == row.id)
    )
    spans = db.execute(
        sa.select(SPANS.c.start_at, SPANS.c.end_at, SPANS.c.tag, SPANS.c.note).where(
            SPANS.c.feedback_id == row.id
        )
    )
    return Content(
        **{name: getattr(row, name) for name in VALUES},
        aspects={name: rating for name, rating in aspects},
        spans=tuple(sorted((s.start_at, s.end_at, s.tag, s.note) for s in spans)),
    )


def insert_content(db: Session, identity: dict[str, Any], content: Content) -> bool:
    """Insert a row with these identity columns; False where a UNIQUE of it exists already."""
    now = utcnow()
    row = {**identity, **content.values(), "revision": 0, "created_at": now, "updated_at": now}
    result = db.execute(insert_ignoring(db, FEEDBACK), row)
    if not changed_rows(result):
        return False
    _insert_parts(db, identity["id"], content)
    return True


def change_content(
    db: Session,
    feedback_id: uuid.UUID,
    *,
    seen_revision: int,
    old: Content,
    new: Content,
    kind: RevisionKind,
    actor: Actor,
    undoes: int | None = None,
    bulk_id: uuid.UUID | None = None,
) -> bool:
    """Set the row to `new` and keep `old`; False if the row has moved on from `seen_revision`.

    After False the row is locked (PostgreSQL; on SQLite a writer is alone anyway): the caller looks
    again and succeeds, however many others wait.

    `undoes` is the number of the change that this one takes back: 0 is the row's creation, change
    n led to revision n. `bulk_id`: one action makes this change and others.
    """
    now = utcnow()
    result = db.execute(
        sa.update(FEEDBACK)
        .where(FEEDBACK.c.id == feedback_id, FEEDBACK.c.revision == seen_revision)
        .values(**new.values(), revision=seen_revision + 1, updated_at=now)
    )
    if not changed_rows(result):
        db.execute(sa.select(FEEDBACK.c.id).where(FEEDBACK.c.id == feedback_id).with_for_update())
        return False
    db.execute(
        sa.insert(REVISIONS),
        {
            "id": new_id(),
            "feedback_id": feedback_id,
            "revision": seen_revision,
            "kind": kind,
            "before": old.to_json(),
            "changed_by": actor.account_id,
            "changed_at": now,
            "undoes": undoes,
            "bulk_id": bulk_id,
        },
    )
    if (old.aspects, old.spans) != (new.aspects, new.spans):
        db.execute(sa.delete(ASPECTS).where(ASPECTS.c.feedback_id == feedback_id))
        db.execute(sa.delete(SPANS).where(SPANS.c.feedback_id == feedback_id))
        _insert_parts(db, feedback_id, new)
    return True


def _insert_parts(db: Session, feedback_id: uuid.UUID, content: Content) -> None:
    if content.aspects:
        rows: list[dict[str, Any]] = [
            {"feedback_id": feedback_id, "name": name, "rating": rating}
            for name, rating in content.aspects.items()
        ]
        db.execute(sa.insert(ASPECTS), rows)
    if content.spans:
        rows = [
            {"id": new_id(), "feedback_id": feedback_id, "start_at": start_at, "end_at": end_at,
             "tag": tag, "note": note}
            for start_at, end_at, tag, note in content.spans
        ]  # fmt: skip
        db.execute(sa.insert(SPANS), rows)
