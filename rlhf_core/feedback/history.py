"""What a rater said so far, and how it changed; what others said is in `others`."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import NotFound
from rlhf_core.feedback.changes import FEEDBACK, REVISIONS, load_content
from rlhf_core.feedback.comparison_changes import COMPARISON, REVISION, columns, read_content
from rlhf_core.feedback.others import OtherOpinion, list_others
from rlhf_core.feedback.raters import find_rater
from rlhf_core.store.queries.search import contains_text
from rlhf_core.store.tables import (
    Account,
    Comparison,
    Feedback,
    FeedbackAspect,
    FeedbackSpan,
    Interaction,
    RatingQueue,
    ReasoningStep,
)
from rlhf_core.vocabulary import Choice, RevisionKind

__all__ = [
    "Change",
    "HistoryEntry",
    "HistoryFilter",
    "OtherOpinion",
    "Subject",
    "count_history",
    "get_entry",
    "list_changes",
    "list_history",
    "list_others",
]

MAX_ENTRIES = 1_000
SIGNS = ("thumb", "label")
"""Of these 0 says something."""
PROMPT_CHARS = 300
NOBODY = uuid.UUID(int=0)


class Subject(StrEnum):
    """What an entry of the history is about."""

    COMPLETION = "completion"
    STEP = "step"
    COMPARISON = "comparison"


@dataclass(frozen=True)
class HistoryFilter:
    """Which entries are wanted. `is_withdrawn` None: both. `text` is looked for in the prompt."""

    subject: Subject | None = None
    queue_id: uuid.UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    is_withdrawn: bool | None = None
    is_changed: bool = False
    text: str = ""


@dataclass(frozen=True)
class HistoryEntry:
    """One row of the rater. `prompt` is cut off; `position` is that of a step.

    Of a comparison `interaction_id` is the left side and `other_interaction_id` the right one, as
    they were shown. `num_changes` counts what came after its making.
    """

    id: uuid.UUID
    subject: Subject
    interaction_id: uuid.UUID
    other_interaction_id: uuid.UUID | None
    position: int | None
    occasion: int
    prompt: str
    queue: str | None
    thumb: int | None
    rating: int | None
    label: int | None
    choice: Choice | None
    strength: int | None
    comment: str | None
    correction: str | None
    num_changes: int
    made_at: datetime
    withdrawn_at: datetime | None
    aspects: dict[str, int] = field(default_factory=dict)
    num_spans: int = 0


@dataclass(frozen=True)
class Change:
    """One change: who made it (None: a program), when, and fields with the value before and after.

    `kind` None: the making itself.
    """

    at: datetime
    by: str | None
    kind: RevisionKind | None
    is_undo: bool
    fields: tuple[tuple[str, Any, Any], ...]


def list_history(
    db: Session,
    *,
    actor: Actor,
    wanted: HistoryFilter | None = None,
    limit: int = 50,
    offset: int = 0,
) -> list[HistoryEntry]:
    """The actor's own feedback and comparisons, the latest made first; `limit` is cut to 1,000."""
    require(actor, Permission.RATE)
    wanted = wanted or HistoryFilter()
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return []
    limit = max(0, min(limit, MAX_ENTRIES))
    entries: list[HistoryEntry] = []
    if wanted.subject is not Subject.COMPARISON:
        entries += _list_feedback(db, rater_id, wanted, limit + offset)
    if wanted.subject in (None, Subject.COMPARISON):
        entries += _list_comparisons(db, rater_id, wanted, limit + offset)
    entries.sort(key=lambda entry: (entry.made_at, entry.id), reverse=True)
    return entries[offset : offset + limit]


def count_history(db: Session, *, actor: Actor, wanted: HistoryFilter | None = None) -> int:
    """How many entries `list_history` has in all."""
    require(actor, Permission.RATE)
    wanted = wanted or HistoryFilter()
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return 0
    total = 0
    if wanted.subject is not Subject.COMPARISON:
        query = sa.select(sa.func.count()).select_from(Feedback).join(Interaction)
        total += db.scalar(query.where(*_of_feedback(rater_id, wanted))) or 0
    if wanted.subject in (None, Subject.COMPARISON):
        joined = (
            sa.select(sa.func.count())
            .select_from(Comparison)
            .join(Interaction, Interaction.id == Comparison.left_interaction_id)
        )
        total += db.scalar(joined.where(*_of_comparisons(rater_id, wanted))) or 0
    return total


def get_entry(db: Session, entry_id: uuid.UUID, *, actor: Actor) -> HistoryEntry:
    """One of the actor's own entries.

    Raises:
        NotFound: they have none of this id.
    """
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor) or NOBODY
    wanted = HistoryFilter()
    found = _list_feedback(db, rater_id, wanted, 1, Feedback.id == entry_id)
    found = found or _list_comparisons(db, rater_id, wanted, 1, Comparison.id == entry_id)
    if not found:
        raise NotFound("This rating does not exist (any more), or it is not yours.")
    return found[0]


def list_changes(db: Session, entry_id: uuid.UUID, *, actor: Actor) -> list[Change]:
    """How one of the actor's own entries came to be what it is, the making first."""
    entry = get_entry(db, entry_id, actor=actor)
    if entry.subject is Subject.COMPARISON:
        revisions, owner = REVISION, REVISION.c.comparison_id
        row = db.execute(sa.select(*columns()).where(COMPARISON.c.id == entry_id)).one()
        now = read_content(row).to_json()
    else:
        revisions, owner = REVISIONS, REVISIONS.c.feedback_id
        row = db.execute(sa.select(FEEDBACK).where(FEEDBACK.c.id == entry_id)).one()
        now = load_content(db, row).to_json()
    history = db.execute(
        sa.select(
            revisions.c.before, revisions.c.kind, revisions.c.changed_at, revisions.c.undoes,
            Account.name,
        )
        .outerjoin(Account, Account.id == revisions.c.changed_by)
        .where(owner == entry_id)
        .order_by(revisions.c.revision)
    ).all()  # fmt: skip
    states = [_shown(state, entry) for state in (*(row.before for row in history), now)]
    made = Change(entry.made_at, actor.name, None, False, _differences({}, states[0]))
    return [
        made,
        *(
            Change(row.changed_at, row.name, row.kind, row.undoes is not None,
                   _differences(before, after))
            for row, before, after in zip(history, states, states[1:], strict=False)
        ),
    ]  # fmt: skip


def _shown(state: dict[str, Any], entry: HistoryEntry) -> dict[str, Any]:
    """Of all that a row said, what a person would miss. Choices as seen from the sides of now."""
    if entry.subject is not Subject.COMPARISON:
        names = ("rating", "thumb", "label", "aspects", "comment", "correction", "spans")
        shown = {name: state.get(name) or None for name in names if name not in SIGNS}
        return shown | {name: state.get(name) for name in SIGNS}
    choice = Choice(state["choice"])
    if state["left_interaction_id"] != str(entry.interaction_id):
        choice = {Choice.LEFT: Choice.RIGHT, Choice.RIGHT: Choice.LEFT}.get(choice, choice)
    return {"choice": choice.value, "strength": state["strength"], "reason": state["reason"]}


def _differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    return tuple(
        (name, before.get(name), value)
        for name, value in after.items()
        if before.get(name) != value
    )


def _list_feedback(
    db: Session,
    rater_id: uuid.UUID,
    wanted: HistoryFilter,
    limit: int,
    *more: sa.ColumnElement[bool],
) -> list[HistoryEntry]:
    rows = db.execute(
        sa.select(
            Feedback.id, Feedback.interaction_id, Feedback.step_id, ReasoningStep.position,
            Feedback.occasion, _prompt(Interaction), RatingQueue.name.label("queue"),
            Feedback.thumb, Feedback.rating, Feedback.label, Feedback.comment,
            Feedback.correction, Feedback.revision, Feedback.created_at, Feedback.withdrawn_at,
        )
        .join(Interaction, Interaction.id == Feedback.interaction_id)
        .outerjoin(ReasoningStep, ReasoningStep.id == Feedback.step_id)
        .outerjoin(RatingQueue, RatingQueue.id == Feedback.queue_id)
        .where(*_of_feedback(rater_id, wanted), *more)
        .order_by(Feedback.created_at.desc(), Feedback.id.desc())
        .limit(limit)
    ).all()  # fmt: skip
    ids = [row.id for row in rows]
    aspects: dict[uuid.UUID, dict[str, int]] = {}
    for aspect in db.scalars(sa.select(FeedbackAspect).where(FeedbackAspect.feedback_id.in_(ids))):
        aspects.setdefault(aspect.feedback_id, {})[aspect.name] = aspect.rating
    counted = sa.select(FeedbackSpan.feedback_id, sa.func.count()).where(
        FeedbackSpan.feedback_id.in_(ids)
    )
    spans = {own: count for own, count in db.execute(counted.group_by(FeedbackSpan.feedback_id))}
    return [
        HistoryEntry(
            id=row.id,
            subject=Subject.COMPLETION if row.step_id is None else Subject.STEP,
            interaction_id=row.interaction_id,
            other_interaction_id=None,
            position=row.position,
            occasion=row.occasion,
            prompt=row.prompt,
            queue=row.queue,
            thumb=row.thumb,
            rating=row.rating,
            label=row.label,
            choice=None,
            strength=None,
            comment=row.comment,
            correction=row.correction,
            num_changes=row.revision,
            made_at=row.created_at,
            withdrawn_at=row.withdrawn_at,
            aspects=aspects.get(row.id, {}),
            num_spans=spans.get(row.id, 0),
        )
        for row in rows
    ]


def _list_comparisons(
    db: Session,
    rater_id: uuid.UUID,
    wanted: HistoryFilter,
    limit: int,
    *more: sa.ColumnElement[bool],
) -> list[HistoryEntry]:
    rows = db.execute(
        sa.select(Comparison, _prompt(Interaction), RatingQueue.name.label("queue"))
        .join(Interaction, Interaction.id == Comparison.left_interaction_id)
        .outerjoin(RatingQueue, RatingQueue.id == Comparison.queue_id)
        .where(*_of_comparisons(rater_id, wanted), *more)
        .order_by(Comparison.created_at.desc(), Comparison.id.desc())
        .limit(limit)
    )
    return [
        HistoryEntry(
            id=row.id,
            subject=Subject.COMPARISON,
            interaction_id=row.left_interaction_id,
            other_interaction_id=row.right_interaction_id,
            position=None,
            occasion=row.occasion,
            prompt=prompt,
            queue=queue,
            thumb=None,
            rating=None,
            label=None,
            choice=row.choice,
            strength=row.strength,
            comment=row.reason,
            correction=None,
            num_changes=row.revision,
            made_at=row.created_at,
            withdrawn_at=row.withdrawn_at,
        )
        for row, prompt, queue in rows
    ]


def _of_feedback(rater_id: uuid.UUID, wanted: HistoryFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [Feedback.rater_id == rater_id]
    where += _fits(Feedback, wanted)
    if wanted.subject is Subject.COMPLETION:
        where.append(Feedback.step_id.is_(None))
    if wanted.subject is Subject.STEP:
        where.append(Feedback.step_id.is_not(None))
    return where


def _of_comparisons(rater_id: uuid.UUID, wanted: HistoryFilter) -> list[sa.ColumnElement[bool]]:
    return [Comparison.rater_id == rater_id, *_fits(Comparison, wanted)]


def _fits(table: Any, wanted: HistoryFilter) -> Iterable[sa.ColumnElement[bool]]:
    if wanted.queue_id is not None:
        yield table.queue_id == wanted.queue_id
    if wanted.since is not None:
        yield table.created_at >= wanted.since
    if wanted.until is not None:
        yield table.created_at < wanted.until
    if wanted.is_withdrawn is not None:
        is_null = table.withdrawn_at.is_(None)
        yield ~is_null if wanted.is_withdrawn else is_null
    if wanted.is_changed:
        yield table.revision > 0
    if wanted.text.strip():
        yield contains_text(Interaction.prompt, wanted.text.strip())


def _prompt(table: Any) -> sa.ColumnElement[str]:
    return sa.func.substr(table.prompt, 1, PROMPT_CHARS).label("prompt")
