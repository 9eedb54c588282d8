"""Which interactions to rate next, so that a dataset grows by most."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.said import is_filled, refusal
from rlhf_core.store.tables import Feedback, Interaction, ReasoningStep
from rlhf_core.vocabulary import DatasetPurpose

MAX_SHORT_IDS = 500


def find_short_interactions(db: Session, params: DatasetParams) -> tuple[bool, list[UUID]]:
    """At most 500 interactions without a judgement, and whether they are second answers.

    For pairs: unrated answers to prompts that have exactly one rated answer (True); if there are
    none, unrated answers to prompts that have two or more of them. For steps: interactions none of
    whose steps was judged. For other purposes: those that nobody rated, or where the filters ask
    for several raters, fewer than those did; of these the most rated come first.
    """
    purpose = params.purpose
    if purpose is DatasetPurpose.PROMPTS:
        return False, []
    waiting: list[sa.ColumnElement[bool]] = [refusal(params, Interaction).is_(None)]
    if purpose is DatasetPurpose.STEPS:
        waiting.append(sa.exists().where(ReasoningStep.interaction_id == Interaction.id))
        waiting.append(~sa.exists().where(*_judged_step()))
        return False, _list(db, waiting, Interaction.id)
    waiting.append(is_filled(Interaction.completion))
    if purpose is not DatasetPurpose.PREFERENCES and params.filters.min_raters > 1:
        raters = sa.select(sa.func.count(Feedback.rater_id.distinct())).where(*_rated(Interaction))
        num_raters = raters.scalar_subquery()
        waiting.append(num_raters < params.filters.min_raters)
        return False, _list(db, waiting, -num_raters)
    waiting.append(~sa.exists().where(*_rated(Interaction)))
    if purpose is not DatasetPurpose.PREFERENCES:
        return False, _list(db, waiting, Interaction.id)
    second = _list(
        db, [*waiting, Interaction.prompt_hash.in_(_rated_once(params))], Interaction.prompt_hash
    )
    if second:
        return True, second
    others = sa.orm.aliased(Interaction)
    has_other = sa.exists().where(
        others.prompt_hash == Interaction.prompt_hash,
        others.id != Interaction.id,
        refusal(params, others).is_(None),
        ~sa.exists().where(*_rated(others)),
    )
    return False, _list(db, [*waiting, has_other], Interaction.prompt_hash)


def _list(db: Session, conditions: list[sa.ColumnElement[bool]], order: Any) -> list[UUID]:
    query = sa.select(Interaction.id).where(*conditions).order_by(order, Interaction.id)
    return list(db.scalars(query.limit(MAX_SHORT_IDS)))


def _rated(table: Any) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        Feedback.interaction_id == table.id,
        Feedback.step_id.is_(None),
        Feedback.withdrawn_at.is_(None),
        sa.or_(Feedback.rating.is_not(None), Feedback.thumb.is_not(None)),
    )


def _judged_step() -> tuple[sa.ColumnElement[bool], ...]:
    return (
        Feedback.interaction_id == Interaction.id,
        Feedback.step_id.is_not(None),
        Feedback.withdrawn_at.is_(None),
    )


def _rated_once(params: DatasetParams) -> sa.Select[str]:
    """Prompts with exactly one rated answer."""
    table = sa.orm.aliased(Interaction)
    return (
        sa.select(table.prompt_hash)
        .where(refusal(params, table).is_(None), sa.exists().where(*_rated(table)))
        .group_by(table.prompt_hash)
        .having(sa.func.count() == 1)
    )
