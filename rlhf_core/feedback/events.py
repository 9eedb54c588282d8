"""What end users did, as their applications tell: the material of sessions and funnels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field, model_validator
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import NotFound
from rlhf_core.feedback.drafts import Draft, JsonObject, Label, Moment, Name
from rlhf_core.feedback.raters import outside_pseudonym
from rlhf_core.privacy.consent import FEEDBACK_PURPOSE
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import Consent, Event, Interaction
from rlhf_core.store.upsert import changed_rows, insert_ignoring
from rlhf_core.vocabulary import ConsentState

MAX_EVENTS = 1_000
"""In one batch."""

EVENT = table_of(Event)


def _check_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds a line break or another control character; send one line")
    return value


class EventDraft(Draft):
    """One thing that a user did. `(source, external_id)` identifies it: it is stored once.

    Events of one `session_key` make up sessions; the `chat_id` of interactions is the same kind of
    key, so send one key for both. With an `interaction_id`, the key and the user that are not given
    are those of the interaction. `user` is the id outside, which is stored as a pseudonym only.
    """

    name: Annotated[Label, AfterValidator(_check_line)]
    source: Name = "api"
    external_id: Name
    session_key: Name | None = None
    user: Name | None = None
    interaction_id: UUID | None = None
    properties: JsonObject | None = None
    occurred_at: Moment | None = None

    @model_validator(mode="after")
    def _belongs_to_somebody(self) -> Self:
        if self.session_key is None and self.user is None and self.interaction_id is None:
            raise ValueError("belongs to no session: give session_key, user or interaction_id")
        return self


class EventBatch(Draft):
    """Up to 1,000 events: all of them are stored, or none."""

    events: list[EventDraft] = Field(min_length=1, max_length=MAX_EVENTS)


@dataclass(frozen=True)
class StoredEvents:
    """`num_known` were stored before; `num_left_out` are of users who opted out."""

    num_stored: int
    num_known: int
    num_left_out: int


def submit_events(db: Session, drafts: Sequence[EventDraft], *, actor: Actor) -> StoredEvents:
    """Store the events that are not stored yet. What is stored never changes.

    Raises:
        NotFound: one names an interaction that does not exist.
    """
    require(actor, Permission.WRITE_INTERACTIONS)
    targets = _load_targets(db, drafts)
    pseudonyms = {
        user: outside_pseudonym(db, user)
        for user in {draft.user for draft in drafts}
        if user is not None
    }
    now = utcnow()
    rows: list[dict[str, Any]] = []
    for draft in drafts:
        chat_id, user = targets.get(draft.interaction_id, (None, None))
        rows.append(
            {
                "id": new_id(),
                "source": draft.source,
                "external_id": draft.external_id,
                "name": draft.name,
                "session_key": draft.session_key or chat_id,
                "user_pseudonym": user if draft.user is None else pseudonyms[draft.user],
                "interaction_id": draft.interaction_id,
                "properties": draft.properties,
                "is_demo": False,
                "occurred_at": draft.occurred_at or now,
                "created_at": now,
            }
        )
    silent = _find_opted_out(db, {row["user_pseudonym"] for row in rows})
    kept = [row for row in rows if row["user_pseudonym"] not in silent]
    num_stored = changed_rows(db.execute(insert_ignoring(db, EVENT), kept)) if kept else 0
    if num_stored:
        mark_days_dirty(db, [row["occurred_at"] for row in kept])
    return StoredEvents(num_stored, len(kept) - num_stored, len(rows) - len(kept))


def _load_targets(
    db: Session, drafts: Sequence[EventDraft]
) -> dict[UUID | None, tuple[str | None, str | None]]:
    """Chat and user of the interactions that the drafts name."""
    wanted = {draft.interaction_id for draft in drafts if draft.interaction_id is not None}
    if not wanted:
        return {}
    found: dict[UUID | None, tuple[str | None, str | None]] = {
        row.id: (row.chat_id, row.user_pseudonym)
        for row in db.execute(
            sa.select(Interaction.id, Interaction.chat_id, Interaction.user_pseudonym).where(
                Interaction.id.in_(wanted)
            )
        )
    }
    for number, draft in enumerate(drafts):
        if draft.interaction_id is not None and draft.interaction_id not in found:
            raise NotFound(
                f"events[{number}]: there is no interaction {draft.interaction_id}; store it "
                "first, or leave interaction_id out."
            )
    return found


def _find_opted_out(db: Session, pseudonyms: set[str | None]) -> set[str | None]:
    words = db.execute(
        sa.select(Consent.pseudonym, Consent.state)
        .where(Consent.pseudonym.in_(pseudonyms - {None}), Consent.purpose == FEEDBACK_PURPOSE)
        .order_by(Consent.recorded_at, Consent.id)
    )
    newest = {row.pseudonym: row.state for row in words}
    return {name for name, state in newest.items() if state is ConsentState.WITHDRAWN}
