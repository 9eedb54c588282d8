"""Storing which of some completions of one prompt a rater prefers. The caller commits.

A pair is the same pair whichever side is left: a rater has one current word on it an occasion.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback import raters
from rlhf_core.feedback.comparison_changes import (
    COMPARISON,
    change_content,
    columns,
    insert_content,
    merge,
    new_content,
    read_content,
)
from rlhf_core.feedback.drafts import PreferenceDraft
from rlhf_core.privacy.consent import find_consent, refuse_opted_out
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Interaction, Rater
from rlhf_core.vocabulary import Choice, RaterKind, RevisionKind

RATER = table_of(Rater)
MAX_SIDES = 4
MAX_TRIES = 5


@dataclass(frozen=True)
class StoredComparison:
    """`revision` counts the changes; it stays where nothing changed."""

    id: uuid.UUID
    revision: int
    was_created: bool


def submit_comparison(
    db: Session,
    left_id: uuid.UUID,
    right_id: uuid.UUID,
    draft: PreferenceDraft,
    *,
    actor: Actor,
    source: str = "page",
    queue_id: uuid.UUID | None = None,
) -> StoredComparison:
    """Store which of two completions a rater prefers; left and right as they were shown.

    A second submit of the rater on the pair edits the first, also with the sides swapped: fields
    that the draft was built with replace the old ones, the others stay. An equal one changes
    nothing. After a withdrawal it starts afresh.

    Without `draft.rater` the rater is the actor; for `RaterKind.END_USER` it is the user of the
    left interaction. To speak for others takes the permission to write interactions.

    Raises:
        NotFound: one of the interactions does not exist.
        InvalidInput: both are the same one, or they answer different prompts.
        Forbidden: the end user opted out.
        Conflict: `draft.external_id` names another comparison already.
    """
    speaker = _Speaker.of(db, (left_id, right_id), draft, actor)
    now = utcnow()
    return _store(db, speaker, left_id, right_id, draft, source, queue_id, None, now)


def submit_best(
    db: Session,
    shown_ids: Sequence[uuid.UUID],
    best_id: uuid.UUID | None,
    draft: PreferenceDraft,
    *,
    actor: Actor,
    queue_id: uuid.UUID | None = None,
) -> list[StoredComparison]:
    """Store which of two to four completions is best: it is preferred to each of the others.

    `shown_ids` as they were shown, from the left. `best_id` None: `draft.choice`, a tie or both
    bad, is said of every pair. All of it is one action for `undo_last`. Saying something else of
    the same completions later withdraws the pairs on which nothing is said any more.

    Raises:
        InvalidInput: fewer than two or more than four, one of them twice, `best_id` is not among
            them, or neither it nor a choice without a side is given; else as `submit_comparison`.
    """
    if not 2 <= len(shown_ids) <= MAX_SIDES or len(set(shown_ids)) < len(shown_ids):
        raise InvalidInput(f"Compare two to {MAX_SIDES} different completions.", field="shown_ids")
    has_side = draft.choice in (Choice.LEFT, Choice.RIGHT)
    if has_side if best_id is None else best_id not in shown_ids:
        raise InvalidInput("best_id: name one of the completions, or a tie.", field="best_id")
    speaker = _Speaker.of(db, shown_ids, draft, actor)
    now = utcnow()
    group_id = None if len(shown_ids) == 2 else new_id()
    stored = []
    for left_id, right_id in combinations(shown_ids, 2):
        said = draft
        if best_id is not None:
            if best_id not in (left_id, right_id):
                continue
            choice = Choice.LEFT if best_id == left_id else Choice.RIGHT
            said = draft.model_copy(update={"choice": choice})
        stored.append(_store(db, speaker, left_id, right_id, said, "page", queue_id, group_id, now))
    _withdraw_others(db, speaker, shown_ids, {one.id for one in stored}, now)
    return stored


def withdraw_comparison(db: Session, comparison_id: uuid.UUID, *, actor: Actor) -> StoredComparison:
    """Take a comparison out of all counts and datasets. The row and its history stay.

    One's own, or with the permission to write interactions anyone's. Twice is once.
    """
    require(actor, Permission.RATE)
    for _ in range(MAX_TRIES):
        row = db.execute(
            sa.select(*columns(), RATER.c.pseudonym)
            .join(RATER, RATER.c.id == COMPARISON.c.rater_id)
            .where(COMPARISON.c.id == comparison_id)
        ).one_or_none()
        if row is None:
            raise NotFound(f"There is no comparison {comparison_id}; it may have been erased.")
        own = row.pseudonym == raters.account_pseudonym(actor)
        if not own and not actor.may(Permission.WRITE_INTERACTIONS):
            raise Forbidden(f"{actor.name} may withdraw only their own comparisons; ask an admin.")
        if row.withdrawn_at is not None:
            return StoredComparison(comparison_id, row.revision, was_created=False)
        if _withdraw(db, row, actor, utcnow()):
            return StoredComparison(comparison_id, row.revision + 1, was_created=False)
    raise _changing()


def list_own(
    db: Session,
    interaction_ids: Sequence[uuid.UUID],
    *,
    rater_id: uuid.UUID,
    occasion: int = 0,
) -> list[Any]:
    """A rater's standing comparisons among these, the latest first: rows with `columns()`."""
    return list(
        db.execute(
            sa.select(*columns())
            .where(
                COMPARISON.c.left_interaction_id.in_(interaction_ids),
                COMPARISON.c.right_interaction_id.in_(interaction_ids),
                COMPARISON.c.rater_id == rater_id,
                COMPARISON.c.occasion == occasion,
                COMPARISON.c.withdrawn_at.is_(None),
            )
            .order_by(COMPARISON.c.occurred_at.desc(), COMPARISON.c.id)
        )
    )


@dataclass(frozen=True)
class _Speaker:
    """Who says it (their row is locked: of two of their requests one waits for the other)."""

    rater_id: uuid.UUID
    actor: Actor
    occasion: int

    @classmethod
    def of(
        cls, db: Session, ids: Sequence[uuid.UUID], draft: PreferenceDraft, actor: Actor
    ) -> "_Speaker":
        is_end_user = draft.rater_kind is RaterKind.END_USER
        for_others = draft.rater is not None or is_end_user
        require(actor, Permission.WRITE_INTERACTIONS if for_others else Permission.RATE)
        user = _check_same_prompt(db, ids)
        if draft.rater is not None:
            pseudonym = raters.outside_pseudonym(db, draft.rater)
        elif is_end_user:
            pseudonym = user or raters.outside_pseudonym(db, f"user of {ids[0]}")
        else:
            pseudonym = raters.account_pseudonym(actor)
        if for_others:
            refuse_opted_out(find_consent(db, pseudonym))
        rater_id = raters.create_rater(
            db,
            pseudonym,
            rater_kind=draft.rater_kind,
            account_id=None if for_others else actor.account_id,
            actor=actor,
        )
        db.execute(
            sa.select(RATER.c.id).where(RATER.c.id == rater_id).with_for_update(key_share=True)
        )
        return cls(rater_id, actor, draft.occasion)


def _check_same_prompt(db: Session, ids: Sequence[uuid.UUID]) -> str | None:
    """The pseudonym of the first one's user, if these answer one prompt in one context."""
    rows = {
        row.id: row
        for row in db.execute(
            sa.select(
                Interaction.id,
                Interaction.prompt_hash,
                Interaction.context,
                Interaction.user_pseudonym,
            ).where(Interaction.id.in_(ids))
        )
    }
    for wanted in ids:
        if wanted not in rows:
            raise NotFound(f"There is no interaction {wanted}; it may have been erased.")
    if len(rows) < len(ids):
        raise InvalidInput("left and right are the same interaction; name two.", field="right_id")
    first = rows[ids[0]]
    for row in rows.values():
        if (row.prompt_hash, row.context or []) != (first.prompt_hash, first.context or []):
            raise InvalidInput(
                f"Interactions {first.id} and {row.id} answer different prompts: only completions "
                "of one prompt in one context can be compared.",
                field="right_id",
            )
    user: str | None = first.user_pseudonym
    return user


def _store(
    db: Session,
    speaker: _Speaker,
    left_id: uuid.UUID,
    right_id: uuid.UUID,
    draft: PreferenceDraft,
    source: str,
    queue_id: uuid.UUID | None,
    group_id: uuid.UUID | None,
    now: datetime,
) -> StoredComparison:
    for _ in range(MAX_TRIES):
        row = _find(db, speaker, left_id, right_id)
        if row is not None:
            stored = _edit(db, row, left_id, right_id, draft, speaker.actor, group_id, now)
        else:
            own = new_id()
            identity = {
                "id": own,
                "rater_id": speaker.rater_id,
                "occasion": speaker.occasion,
                "source": source,
                "external_id": draft.external_id or str(own),
                "queue_id": queue_id,
            }
            content = new_content(left_id, right_id, draft, now, group_id)
            if not insert_content(db, identity, content, at=now):
                raise Conflict(
                    f"Comparison {draft.external_id!r} of source {source!r} is stored for another "
                    "pair or rater already; send another external_id."
                )
            stored = StoredComparison(own, 0, was_created=True)
        if stored is not None:
            return stored
    raise _changing()


def _find(db: Session, speaker: _Speaker, left_id: uuid.UUID, right_id: uuid.UUID) -> Any:
    """The rater's row on the pair. Imports may hold two, one a side: the one that stands first."""
    left, right = COMPARISON.c.left_interaction_id, COMPARISON.c.right_interaction_id
    as_shown = sa.and_(left == left_id, right == right_id)
    return db.execute(
        sa.select(*columns())
        .where(
            sa.or_(as_shown, sa.and_(left == right_id, right == left_id)),
            COMPARISON.c.rater_id == speaker.rater_id,
            COMPARISON.c.occasion == speaker.occasion,
        )
        .order_by(COMPARISON.c.withdrawn_at.is_not(None), sa.case((as_shown, 0), else_=1))
        .limit(1)
    ).one_or_none()


def _edit(
    db: Session,
    row: Any,
    left_id: uuid.UUID,
    right_id: uuid.UUID,
    draft: PreferenceDraft,
    actor: Actor,
    group_id: uuid.UUID | None,
    now: datetime,
) -> StoredComparison | None:
    old = read_content(row)
    was_withdrawn = old.withdrawn_at is not None
    start = replace(old, strength=None, reason=None) if was_withdrawn else old
    new = replace(merge(start, left_id, right_id, draft), withdrawn_at=None)
    if was_withdrawn and draft.occurred_at is None:
        new = replace(new, occurred_at=now)
    if new == old:
        return StoredComparison(row.id, row.revision, was_created=False)
    new = replace(new, group_id=group_id)  # part of another decision now, or one of its own
    kind = RevisionKind.RESTORE if was_withdrawn else RevisionKind.EDIT
    if not change_content(
        db, row.id, seen_revision=row.revision, old=old, new=new, kind=kind, actor=actor, at=now
    ):
        return None
    return StoredComparison(row.id, row.revision + 1, was_created=False)


def _withdraw_others(
    db: Session,
    speaker: _Speaker,
    shown_ids: Sequence[uuid.UUID],
    kept: set[uuid.UUID],
    now: datetime,
) -> None:
    """Withdraw what the rater said earlier of these completions and says no more."""
    own = list_own(db, shown_ids, rater_id=speaker.rater_id, occasion=speaker.occasion)
    for row in own:
        if row.id not in kept and not _withdraw(db, row, speaker.actor, now):
            raise _changing()


def _withdraw(db: Session, row: Any, actor: Actor, now: datetime) -> bool:
    old = read_content(row)
    return change_content(
        db, row.id, seen_revision=row.revision, old=old, new=replace(old, withdrawn_at=now),
        kind=RevisionKind.WITHDRAW, actor=actor, at=now,
    )  # fmt: skip


def _changing() -> Conflict:
    return Conflict("This comparison is being changed by others at this moment; try again.")
