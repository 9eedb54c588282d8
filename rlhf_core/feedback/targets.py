"""Finding what feedback is about, who gives it, and the row that stands: in one statement."""

import uuid
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.feedback import raters
from rlhf_core.feedback.changes import FEEDBACK, VALUES
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.privacy.consent import refuse_opted_out, standing_word
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Interaction, Rater, ReasoningStep
from rlhf_core.vocabulary import RaterKind

INTERACTION = table_of(Interaction)
STEP = table_of(ReasoningStep)
RATER = table_of(Rater)


def feedback_columns() -> list[sa.ColumnElement[Any]]:
    """The columns that `load_content` and a compare-and-set need."""
    return [FEEDBACK.c.id, FEEDBACK.c.revision, *(FEEDBACK.c[name] for name in VALUES)]


def look_up(db: Session, interaction_id: uuid.UUID, draft: FeedbackDraft, actor: Actor) -> Any:
    """The interaction, and what stands of this rater's feedback on it or on its step.

    The row has `interaction`, `interaction_at`, `step`, `rater` (None: to be made), `pseudonym`
    and the columns of the feedback that stands (`id` None: there is none).

    Raises:
        NotFound: no such interaction, or it has no such step.
        Forbidden: the person opted out of giving feedback.
        InvalidInput: a span ends beyond the completion.
    """
    is_end_user = draft.rater is None and draft.rater_kind is RaterKind.END_USER
    if draft.rater is not None:
        pseudonym = raters.outside_pseudonym(db, draft.rater)
    elif is_end_user:
        pseudonym = raters.outside_pseudonym(db, f"user of {interaction_id}")
    else:
        pseudonym = raters.account_pseudonym(actor)
    statement = _look_up_statement(draft.step is not None, is_end_user, bool(draft.spans))
    values = {
        "interaction": interaction_id,
        "pseudonym": pseudonym,
        "occasion": draft.occasion,
        "position": draft.step,
    }
    row = db.execute(statement, values).one_or_none()
    if row is None:
        raise NotFound(f"There is no interaction {interaction_id}; store it first.")
    refuse_opted_out(row.consent)
    if draft.step is not None and row.step is None:
        raise NotFound(f"Interaction {interaction_id} has no step {draft.step}.")
    for span in draft.spans:
        if span.end_at > row.length:
            raise InvalidInput(
                f"span ends at {span.end_at}, the completion has {row.length} characters",
                field="spans",
            )
    return row


@lru_cache  # building it takes longer than running it
def _look_up_statement(of_step: bool, of_end_user: bool, with_length: bool) -> sa.Select[Any]:
    pseudonym: sa.ColumnElement[str] = sa.bindparam("pseudonym", type_=sa.String)
    if of_end_user:
        pseudonym = sa.func.coalesce(INTERACTION.c.user_pseudonym, pseudonym)
    position = sa.bindparam("position", type_=sa.Integer)
    same_step = sa.and_(STEP.c.interaction_id == INTERACTION.c.id, STEP.c.position == position)
    same_target = (
        FEEDBACK.c.step_id == STEP.c.id
        if of_step
        else sa.and_(FEEDBACK.c.interaction_id == INTERACTION.c.id, FEEDBACK.c.step_id.is_(None))
    )
    same_row = sa.and_(
        same_target,
        FEEDBACK.c.rater_id == RATER.c.id,
        FEEDBACK.c.occasion == sa.bindparam("occasion", type_=sa.SmallInteger),
    )
    joined = INTERACTION.outerjoin(RATER, RATER.c.pseudonym == pseudonym)
    if of_step:
        joined = joined.outerjoin(STEP, same_step)
    length = sa.func.length(INTERACTION.c.completion) if with_length else sa.null()
    return (
        sa.select(
            INTERACTION.c.id.label("interaction"),
            INTERACTION.c.occurred_at.label("interaction_at"),
            length.label("length"),
            (STEP.c.id if of_step else sa.null()).label("step"),
            RATER.c.id.label("rater"),
            pseudonym.label("pseudonym"),
            standing_word(pseudonym).label("consent"),
            *feedback_columns(),
        )
        .select_from(joined.outerjoin(FEEDBACK, same_row))
        .where(INTERACTION.c.id == sa.bindparam("interaction", type_=sa.Uuid))
    )
