"""A person's own conversations with the assistant, from the dashboard."""

import uuid
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import InteractionDraft, Message
from rlhf_core.feedback.raters import find_rater, outside_pseudonym
from rlhf_core.serving.answers import SOURCE, begin_answer
from rlhf_core.store.tables import Feedback, Interaction

MAX_TURNS = 200


@dataclass(frozen=True)
class TalkTurn:
    """What was asked and answered. `thumb` is one's own; `version` what answered."""

    interaction_id: uuid.UUID
    prompt: str
    completion: str
    version: str | None
    is_partial: bool
    thumb: int | None
    has_correction: bool


def list_turns(db: Session, chat_id: str, *, actor: Actor) -> list[TalkTurn]:
    """The turns of one's own conversation, the oldest first; none of somebody else's."""
    require(actor, Permission.RATE)
    rater_id = find_rater(db, actor=actor)
    mine = sa.and_(
        Feedback.interaction_id == Interaction.id,
        Feedback.rater_id == rater_id,
        Feedback.step_id.is_(None),
        Feedback.occasion == 0,
        Feedback.withdrawn_at.is_(None),
    )
    rows = db.execute(
        sa.select(
            Interaction.id, Interaction.prompt, Interaction.completion, Interaction.model_name,
            Interaction.extra, Feedback.thumb, Feedback.correction,
        )
        .outerjoin(Feedback, mine)
        .where(
            Interaction.source == SOURCE,
            Interaction.chat_id == chat_id,
            Interaction.user_pseudonym == outside_pseudonym(db, _user_of(actor)),
        )
        .order_by(Interaction.id)
        .limit(MAX_TURNS)
    )  # fmt: skip
    return [
        TalkTurn(
            interaction_id=row.id,
            prompt=row.prompt,
            completion=row.completion,
            version=row.model_name,
            is_partial=bool((row.extra or {}).get("is_partial")),
            thumb=row.thumb,
            has_correction=row.correction is not None,
        )
        for row in rows
    ]


def begin_turn(
    db: Session,
    chat_id: str,
    prompt: str,
    *,
    actor: Actor,
    before: list[TalkTurn],
    version: str,
    version_id: uuid.UUID,
) -> uuid.UUID:
    """Store what was asked, before the answer comes; the interaction's id.

    Raises InvalidInput where nothing was asked.
    """
    require(actor, Permission.RATE)
    if not prompt.strip():
        raise InvalidInput("The message is empty: write what you want to ask.", field="prompt")
    message_id = uuid.uuid4().hex
    draft = InteractionDraft(
        source=SOURCE,
        external_id=message_id,
        chat_id=chat_id,
        message_id=message_id,
        turn=len(before),
        user=_user_of(actor),
        context=[Message(role=role, content=text) for role, text in messages_of(before)] or None,
        prompt=prompt,
        completion="",
        model_name=version,
    )
    return begin_answer(db, draft, version_id=version_id)


def messages_of(turns: list[TalkTurn]) -> list[tuple[str, str]]:
    """What the model is told of the conversation so far: (role, content)."""
    return [
        message
        for turn in turns
        if turn.completion
        for message in (("user", turn.prompt), ("assistant", turn.completion))
    ]


def _user_of(actor: Actor) -> str:
    return f"account {actor.account_id or actor.name}"
