"""The reason that a rater typed on a comparison and has not sent: it survives a reload."""

import uuid
from collections.abc import Sequence
from hashlib import blake2b

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import NotFound
from rlhf_core.feedback.drafts import PreferenceDraft, explain
from rlhf_core.feedback.raters import find_or_create_rater, find_rater
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Interaction, UnsentText
from rlhf_core.store.upsert import dialect_insert
from rlhf_core.vocabulary import Choice, RaterKind

UNSENT = table_of(UnsentText)


def keep_unsent_reason(
    db: Session, interaction_ids: Sequence[uuid.UUID], reason: str | None, *, actor: Actor
) -> None:
    """Keep what the actor typed about these completions; None or nothing forgets it.

    Raises:
        NotFound: the completions are not there any more.
        InvalidInput: a text that could not be sent either (too long, a NUL in it).
    """
    require(actor, Permission.RATE)
    if not reason:
        drop_unsent_reason(db, interaction_ids, actor=actor)
        return
    try:
        PreferenceDraft(choice=Choice.TIE, reason=reason)
    except ValidationError as error:
        raise explain(error) from error
    first, field = _place_of(interaction_ids)
    if db.scalar(sa.select(Interaction.id).where(Interaction.id == first)) is None:
        raise NotFound("One of these completions does not exist any more; go on to the next ones.")
    rater_id = find_or_create_rater(db, external_id=None, rater_kind=RaterKind.SME, actor=actor)
    row = {
        "rater_id": rater_id,
        "interaction_id": first,
        "field": field,
        "content": reason,
        "updated_at": utcnow(),
    }
    insert = dialect_insert(db, UNSENT)
    changed = {name: insert.excluded[name] for name in ("content", "updated_at")}
    keys = ["rater_id", "interaction_id", "field"]
    db.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), row)


def drop_unsent_reason(db: Session, interaction_ids: Sequence[uuid.UUID], *, actor: Actor) -> None:
    """Forget what the actor typed about these completions."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if rater_id is not None:
        db.execute(sa.delete(UNSENT).where(*_is_at(rater_id, interaction_ids)))


def find_unsent_reason(
    db: Session, interaction_ids: Sequence[uuid.UUID], rater_id: uuid.UUID
) -> str | None:
    """What this rater typed about these completions and did not send."""
    return db.scalar(sa.select(UNSENT.c.content).where(*_is_at(rater_id, interaction_ids)))


def _is_at(
    rater_id: uuid.UUID, interaction_ids: Sequence[uuid.UUID]
) -> list[sa.ColumnElement[bool]]:
    first, field = _place_of(interaction_ids)
    return [
        UNSENT.c.rater_id == rater_id, UNSENT.c.interaction_id == first, UNSENT.c.field == field
    ]  # fmt: skip


def _place_of(interaction_ids: Sequence[uuid.UUID]) -> tuple[uuid.UUID, str]:
    """It hangs on the lowest id, and is erased with it; the field names them all."""
    digest = blake2b(digest_size=8)
    for one in sorted(interaction_ids):
        digest.update(one.bytes)
    return min(interaction_ids), f"reason {digest.hexdigest()}"
