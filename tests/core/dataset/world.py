"""Raters, votes, corrections and rulings in one line each."""

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import new_id, utcnow
from rlhf_core.dataset.builder import BuiltRows, build_rows
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import (
    Adjudication,
    Comparison,
    Consent,
    Erasure,
    FeedbackAspect,
    ReasoningStep,
)
from rlhf_core.vocabulary import AdjudicationDecision, Choice, ConsentState, DatasetPurpose
from tests.learning.rated import add_feedback, add_interaction, add_rater


def params_of(purpose: DatasetPurpose, **fields: Any) -> DatasetParams:
    """Parameters; `filters` as a dictionary."""
    filters = Filters(**fields.pop("filters", {}))
    return DatasetParams(purpose=purpose, filters=filters, **fields)


def build(store: Store, params: DatasetParams) -> tuple[list[Any], dict[str, int]]:
    """The rows and what was left out."""
    rows, built = build_with_voices(store, params)
    return rows, built.left_out


def build_with_voices(store: Store, params: DatasetParams) -> tuple[list[Any], BuiltRows]:
    """The rows, and what else there is to know of them."""
    with store.reading() as db:
        built = build_rows(db, params=params)
        return list(built.rows), built


def rate(db: Session, *said: int | dict[str, Any], **fields: Any) -> uuid.UUID:
    """An interaction that each of so many new raters rates, or of which they say more."""
    interaction = add_interaction(db, **fields)
    for number, words in enumerate(said):
        rater = add_rater(db, f"u_{interaction.hex}_{number}"[:64])
        add_feedback(
            db, interaction, rater, **({"rating": words} if isinstance(words, int) else words)
        )
    return interaction


def vote(
    db: Session, left: uuid.UUID, right: uuid.UUID, choice: Choice, **fields: Any
) -> uuid.UUID:
    """What one rater says of two answers; a new rater unless `rater_id` is given."""
    values: dict[str, Any] = {
        "id": new_id(),
        "left_interaction_id": left,
        "right_interaction_id": right,
        "source": "test",
        "external_id": uuid.uuid4().hex,
        "choice": choice,
        "occurred_at": utcnow(),
        "created_at": utcnow(),
    }
    values |= fields
    if "rater_id" not in values:
        values["rater_id"] = add_rater(db, f"v_{uuid.uuid4().hex}")
    db.execute(sa.insert(Comparison).values(values))
    return uuid.UUID(str(values["id"]))


def add_steps(db: Session, interaction: uuid.UUID, *contents: str) -> list[uuid.UUID]:
    """The steps of an interaction; their ids."""
    ids = [new_id() for _ in contents]
    rows = [
        {"id": own, "interaction_id": interaction, "position": place, "content": content}
        for place, (own, content) in enumerate(zip(ids, contents, strict=True))
    ]
    db.execute(sa.insert(ReasoningStep), rows)
    return ids


def rule(
    db: Session,
    interaction: uuid.UUID,
    decision: AdjudicationDecision = AdjudicationDecision.RESOLVED,
    **fields: Any,
) -> None:
    """An adjudicator's answer."""
    values = {"id": new_id(), "interaction_id": interaction, "decision": decision}
    db.execute(sa.insert(Adjudication).values(values | {"created_at": utcnow()} | fields))


def add_aspects(db: Session, feedback: uuid.UUID, **ratings: int) -> None:
    """Ratings by aspect."""
    rows = [{"feedback_id": feedback, "name": name, "rating": r} for name, r in ratings.items()]
    db.execute(sa.insert(FeedbackAspect), rows)


def withdraw_consent(db: Session, pseudonym: str) -> None:
    """This person says no to training."""
    values = {
        "id": new_id(),
        "pseudonym": pseudonym,
        "purpose": "training",
        "state": ConsentState.WITHDRAWN,
        "source": "test",
        "is_demo": False,
        "recorded_at": utcnow(),
    }
    db.execute(sa.insert(Consent).values(values))


def erase(db: Session, pseudonym: str) -> None:
    """This person asked for erasure, which is not done yet."""
    values = {"id": new_id(), "pseudonym": pseudonym, "requested_at": utcnow()}
    db.execute(sa.insert(Erasure).values(values))
