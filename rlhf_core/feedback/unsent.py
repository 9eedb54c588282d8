"""What a rater typed and has not sent yet: kept, so that a reload or a crash loses nothing."""

import uuid
from typing import Any, Literal, get_args

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import NotFound
from rlhf_core.feedback.drafts import FeedbackDraft, explain
from rlhf_core.feedback.raters import find_or_create_rater, find_rater, of_pseudonym
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Feedback, Interaction, UnsentText
from rlhf_core.store.upsert import dialect_insert
from rlhf_core.vocabulary import RaterKind

UnsentField = Literal["comment", "correction"]
FIELDS: tuple[UnsentField, ...] = get_args(UnsentField)
UNSENT = table_of(UnsentText)

# built once: building a statement takes longer than running it
_of_item = sa.and_(
    UNSENT.c.rater_id == sa.bindparam("rater", type_=sa.Uuid),
    UNSENT.c.interaction_id == sa.bindparam("interaction", type_=sa.Uuid),
)
_drop = sa.delete(UNSENT).where(_of_item)


def keep_unsent(
    db: Session,
    interaction_id: uuid.UUID,
    field: UnsentField,
    content: str | None,
    *,
    actor: Actor,
) -> None:
    """Keep what the actor typed into this field of the item; None forgets it.

    Raises:
        NotFound: no such interaction.
        InvalidInput: a text that could not be sent either (too long, a NUL in it).
    """
    require(actor, Permission.RATE)
    if content is None:
        drop_unsent(db, interaction_id, actor=actor, field=field)
        return
    try:
        FeedbackDraft.model_validate({field: content})
    except ValidationError as error:
        raise explain(error) from error
    if db.scalar(sa.select(Interaction.id).where(Interaction.id == interaction_id)) is None:
        raise NotFound(f"There is no interaction {interaction_id}; it may have been erased.")
    row = {
        "rater_id": find_or_create_rater(
            db, external_id=None, rater_kind=RaterKind.SME, actor=actor
        ),
        "interaction_id": interaction_id,
        "field": field,
        "content": content,
        "updated_at": utcnow(),
    }
    statement = dialect_insert(db, UNSENT)
    statement = statement.on_conflict_do_update(
        index_elements=["rater_id", "interaction_id", "field"],
        set_={name: statement.excluded[name] for name in ("content", "updated_at")},
    )
    db.execute(statement, row)


def drop_unsent(
    db: Session,
    interaction_id: uuid.UUID,
    *,
    actor: Actor,
    field: UnsentField | None = None,
) -> None:
    """Forget what the actor typed about the item, or only into this field of it."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    if rater_id is None:
        return
    statement = _drop if field is None else _drop.where(UNSENT.c.field == field)
    db.execute(statement, {"rater": rater_id, "interaction": interaction_id})


def unsent_text(field: UnsentField) -> sa.ScalarSelect[Any]:
    """The text that the rater of `pseudonym` typed into this field of `interaction`, in SQL."""
    return (
        sa.select(UNSENT.c.content)
        .where(
            UNSENT.c.rater_id == of_pseudonym.scalar_subquery(),
            UNSENT.c.interaction_id == sa.bindparam("interaction", type_=sa.Uuid),
            UNSENT.c.field == field,
        )
        .scalar_subquery()
    )


def keep_withdrawn_texts(db: Session, feedback_id: uuid.UUID, *, actor: Actor) -> None:
    """Keep the texts of the actor's feedback that was just undone, so that none is typed again."""
    require(actor, Permission.RATE)
    row = db.execute(
        sa.select(Feedback.interaction_id, Feedback.comment, Feedback.correction).where(
            Feedback.id == feedback_id, Feedback.rater_id == find_rater(db, actor=actor)
        )
    ).one_or_none()
    if row is None:
        return
    if row.comment is not None:
        keep_unsent(db, row.interaction_id, "comment", row.comment, actor=actor)
    if row.correction is not None:
        keep_unsent(db, row.interaction_id, "correction", row.correction, actor=actor)
