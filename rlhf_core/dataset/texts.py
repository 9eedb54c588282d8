"""The texts and properties of interactions, read for a batch of rows at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.dataset.language import guess_language
from rlhf_core.store.base import Base
from rlhf_core.store.tables import (
    Adjudication,
    Feedback,
    FeedbackAspect,
    Interaction,
    PairAdjudication,
)
from rlhf_core.vocabulary import AdjudicationDecision, Choice

BATCH = 500
Item = TypeVar("Item")


@dataclass(frozen=True)
class Texts:
    """An interaction's prompt and completion, and what kind of interaction it is."""

    prompt: str
    completion: str
    segments: dict[str, str]


@dataclass(frozen=True)
class Ruling:
    """An adjudicator's answer; both None and not excluded: it says nothing of the completion."""

    is_excluded: bool
    rating: int | None
    thumb: int | None


@dataclass(frozen=True)
class PairRuling:
    """An adjudicator's answer. `side`: 1 the one with the lower id is better, -1 the other, 0."""

    is_excluded: bool
    side: float


def in_batches(items: Iterable[Item], size: int | None = None) -> Iterator[list[Item]]:
    """The items in lists of at most `size`, by default `BATCH`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size or BATCH)):
        yield batch


def load_texts(db: Session, interaction_ids: Iterable[UUID]) -> dict[UUID, Texts]:
    """Texts by interaction; one that was deleted meanwhile is absent."""
    found: dict[UUID, Texts] = {}
    for ids in in_batches(dict.fromkeys(interaction_ids)):
        query = sa.select(
            Interaction.id,
            Interaction.prompt,
            Interaction.completion,
            Interaction.action_type,
            Interaction.source,
            Interaction.model_name,
            Interaction.language,
        ).where(Interaction.id.in_(ids))
        for own, prompt, completion, action, source, model, language in db.execute(query):
            segments = {
                "action_type": action,
                "source": source,
                "model_name": model,
                "language": language or guess_language(completion, prompt),
            }
            known = {name: value for name, value in segments.items() if value}
            found[own] = Texts(prompt, completion, known)
    return found


def load_corrections(db: Session, feedback_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Corrections by feedback row."""
    found: dict[UUID, str] = {}
    for ids in in_batches(feedback_ids):
        query = sa.select(Feedback.id, Feedback.correction).where(Feedback.id.in_(ids))
        found |= {own: text for own, text in db.execute(query) if text is not None}
    return found


def load_aspects(db: Session, feedback_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """Ratings by aspect, by feedback row; rows without any are absent."""
    found: dict[UUID, dict[str, int]] = {}
    for ids in in_batches(feedback_ids):
        query = sa.select(
            FeedbackAspect.feedback_id, FeedbackAspect.name, FeedbackAspect.rating
        ).where(FeedbackAspect.feedback_id.in_(ids))
        for own, name, rating in db.execute(query):
            found.setdefault(own, {})[name] = rating
    return found


def load_rulings(db: Session, interaction_ids: Sequence[UUID]) -> dict[UUID, Ruling]:
    """The newest standing answer of an adjudicator to each completion."""
    query = (
        sa.select(
            Adjudication.interaction_id,
            Adjudication.decision,
            Adjudication.rating,
            Adjudication.thumb,
        )
        .where(
            Adjudication.interaction_id.in_(interaction_ids),
            Adjudication.step_id.is_(None),
            Adjudication.superseded_at.is_(None),
        )
        .order_by(Adjudication.created_at, Adjudication.id)
    )
    return {
        own: Ruling(decision is AdjudicationDecision.EXCLUDED, rating, thumb)
        for own, decision, rating, thumb in db.execute(query)
    }


def load_pair_rulings(db: Session) -> dict[tuple[UUID, UUID], PairRuling]:
    """All standing answers to pairs, the lower id first: made by hand, they are few."""
    rows = db.execute(
        sa.select(
            PairAdjudication.first_interaction_id,
            PairAdjudication.second_interaction_id,
            PairAdjudication.decision,
            PairAdjudication.choice,
        )
        .where(PairAdjudication.superseded_at.is_(None))
        .order_by(PairAdjudication.created_at, PairAdjudication.id)
    )
    sides: dict[Choice | None, float] = {Choice.LEFT: 1.0, Choice.RIGHT: -1.0}
    return {
        (first, second): PairRuling(
            decision is AdjudicationDecision.EXCLUDED, sides.get(choice, 0.0)
        )
        for first, second, decision, choice in rows
    }


def load_step_rulings(
    db: Session, interaction_ids: Sequence[UUID]
) -> dict[UUID, dict[UUID | None, int | None]]:
    """By interaction: an adjudicator's label of each step; under None whether all is excluded.

    A step that was excluded has the label 0, as has one that is neither right nor wrong.
    """
    query = (
        sa.select(
            Adjudication.interaction_id,
            Adjudication.step_id,
            Adjudication.decision,
            Adjudication.label,
            Adjudication.thumb,
        )
        .where(
            Adjudication.interaction_id.in_(interaction_ids),
            Adjudication.superseded_at.is_(None),
        )
        .order_by(Adjudication.created_at, Adjudication.id)
    )
    found: dict[UUID, dict[UUID | None, int | None]] = {}
    for own, step_id, decision, label, thumb in db.execute(query):
        answers = found.setdefault(own, {})
        is_excluded = decision is AdjudicationDecision.EXCLUDED
        if step_id is None:
            answers[None] = int(is_excluded)
        else:
            answers[step_id] = 0 if is_excluded else label if label is not None else thumb
    return found


def has_any(db: Session, table: type[Base]) -> bool:
    """Whether the table holds a row at all: many databases have no aspects and no disputes."""
    return db.scalar(sa.select(sa.exists().select_from(table))) or False
