"""What callers say of an answer that was served: which candidate was used, what came of it.

So feedback is credited to the version, and to the side of a deployment, that gave the answer. The
rows of orders are written a moment after the answer: `wait_for_served` waits for them.
"""

import time
import uuid
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.serving import answers
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, ServedLogEntry
from rlhf_core.store.upsert import changed_rows

RERANK = "rerank"
WAIT_S = 3.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class ChosenCandidate:
    """Which candidate of an order was used: its place in the request, from 0."""

    served_id: uuid.UUID
    index: int


def wait_for_served(store: Store, served_id: uuid.UUID) -> None:
    """Return once the row is there, or the id is older than `WAIT_S`: then there is none."""
    while True:
        with store.reading() as db:
            if _find(db, served_id) is not None:
                return
        if not abs(time.time() - (served_id.int >> 80) / 1000) < WAIT_S:  # see `clock.new_id`
            return
        time.sleep(LOOK_EVERY_S)


def credit_interaction(
    db: Session, served_id: uuid.UUID, interaction_id: uuid.UUID, *, actor: Actor
) -> None:
    """Credit an interaction, and so all feedback on it, to what was served under this id.

    Of a conversation's answer the interaction gets the version, too. Twice is once; an interaction
    that was made of several answers stays with the first.

    Raises:
        NotFound: nothing was served under it.
        Conflict: it is credited to another interaction already.
    """
    require(actor, Permission.WRITE_INTERACTIONS)
    served = _get(db, served_id)
    others = sa.select(ServedLogEntry.id).where(
        ServedLogEntry.interaction_id == interaction_id, ServedLogEntry.id != served_id
    )
    if db.scalar(others.limit(1)) is not None:
        return
    written = db.execute(
        sa.update(ServedLogEntry)
        .where(
            ServedLogEntry.id == served_id,
            sa.or_(
                ServedLogEntry.interaction_id.is_(None),
                ServedLogEntry.interaction_id == interaction_id,
            ),
        )
        .values(interaction_id=interaction_id)
    )
    if changed_rows(written) != 1:
        raise Conflict(
            f"The answer {served_id} is stored as interaction {served.interaction_id} already: "
            "send feedback on that one."
        )
    if served.endpoint == answers.ENDPOINT and served.model_version_id is not None:
        db.execute(
            sa.update(Interaction)
            .where(Interaction.id == interaction_id, Interaction.model_version_id.is_(None))
            .values(model_version_id=served.model_version_id)
        )


def choose_candidate(
    db: Session, served_id: uuid.UUID, index: int, *, actor: Actor
) -> ChosenCandidate:
    """Note which candidate of an order was used; said again, the last word counts.

    Raises:
        NotFound: no order was served under this id.
        InvalidInput: it had fewer candidates, or that one was not shown.
    """
    require(actor, Permission.SCORE)
    served = _get(db, served_id)
    if served.endpoint != RERANK:
        raise NotFound(f"{served_id} is no order of candidates: only those have a choice.")
    if not 0 <= index < (served.num_candidates or 0):
        raise InvalidInput(
            f"index is {index}, but {served.num_candidates} candidates were sent: the first is 0.",
            field="index",
        )
    shown = (served.details or {}).get("order")
    if shown is not None and index not in shown:
        raise InvalidInput(
            f"index is {index}, but only the candidates {shown} were in the order's top "
            f"{len(shown)}: choose one of them.",
            field="index",
        )
    db.execute(
        sa.update(ServedLogEntry)
        .where(ServedLogEntry.id == served_id)
        .values(chosen_index=index, chosen_at=utcnow())
    )
    return ChosenCandidate(served_id, index)


def _get(db: Session, served_id: uuid.UUID) -> Any:
    served = _find(db, served_id)
    if served is None:
        raise NotFound(
            f"Nothing was served under the id {served_id}: give the `id` of an answer of "
            "/v1/rerank or /v1/chat/completions."
        )
    return served


def _find(db: Session, served_id: uuid.UUID) -> Any:
    return db.execute(
        sa.select(
            ServedLogEntry.id,
            ServedLogEntry.endpoint,
            ServedLogEntry.model_version_id,
            ServedLogEntry.interaction_id,
            ServedLogEntry.num_candidates,
            ServedLogEntry.details,
        ).where(ServedLogEntry.id == served_id)
    ).one_or_none()
