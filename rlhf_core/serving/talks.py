"""A person's own conversations with the assistant, from the dashboard."""

import uuid
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import InteractionDraft, Message
from rlhf_core.feedback.raters import find_rater, outside_pseudonym
from rlhf_core.privacy.pseudonyms import account_user
from rlhf_core.serving.answers import begin_answer
from rlhf_core.store.tables import Feedback, Interaction
from rlhf_core.vocabulary import CHAT_SOURCE

MAX_TURNS = 200
"""So many of a conversation are shown, the newest."""
MAX_CONTEXT_CHARS = 12_000
"""So much of a conversation goes to the model: some 3,000 tokens, to which small models answer
within seconds. Sent whole, a long conversation would be refused from some turn on."""
WRITTEN_WITHIN = timedelta(minutes=2)
"""What has no text after so long has lost who wrote it; as long is waited for a piece."""


@dataclass(frozen=True)
class TalkTurn:
    """What was asked and answered, the `number`-th of the conversation, from 0.

    `thumb` and `correction` are one's own; `version` is what answered.
    """

    interaction_id: uuid.UUID
    number: int
    prompt: str
    completion: str
    version: str | None
    is_partial: bool
    is_being_written: bool
    thumb: int | None
    correction: str | None


def list_turns(db: Session, chat_id: str, *, actor: Actor) -> list[TalkTurn]:
    """The newest turns of one's own conversation, in order; none of somebody else's."""
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
            Interaction.id, Interaction.turn, Interaction.prompt, Interaction.completion,
            Interaction.model_name, Interaction.extra, Interaction.created_at,
            Feedback.thumb, Feedback.correction,
        )
        .outerjoin(Feedback, mine)
        .where(
            Interaction.source == CHAT_SOURCE,
            Interaction.chat_id == chat_id,
            Interaction.user_pseudonym == outside_pseudonym(db, _user_of(actor)),
        )
        .order_by(Interaction.id.desc())
        .limit(MAX_TURNS)
    )  # fmt: skip
    young = utcnow() - WRITTEN_WITHIN
    turns = [
        TalkTurn(
            interaction_id=row.id,
            number=row.turn or 0,
            prompt=row.prompt,
            completion=row.completion,
            version=row.model_name,
            is_partial=(is_partial := bool((row.extra or {}).get("is_partial"))),
            # The text is stored at the end, whichever it is.
            is_being_written=is_partial and not row.completion and row.created_at > young,
            thumb=row.thumb,
            correction=row.correction,
        )
        for row in rows
    ]
    return turns[::-1]


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
        source=CHAT_SOURCE,
        external_id=message_id,
        chat_id=chat_id,
        message_id=message_id,
        turn=before[-1].number + 1 if before else 0,
        user=_user_of(actor),
        context=[Message(role=role, content=text) for role, text in messages_of(before)] or None,
        prompt=prompt,
        completion="",
        model_name=version,
    )
    return begin_answer(db, draft, version_id=version_id)


def messages_of(turns: list[TalkTurn]) -> list[tuple[str, str]]:
    """What the model is told of the conversation so far: (role, content).

    The oldest turns go where there is more than `MAX_CONTEXT_CHARS`.
    """
    answered = [turn for turn in turns if turn.completion]
    room, first = MAX_CONTEXT_CHARS, len(answered)
    while first:
        room -= len(answered[first - 1].prompt) + len(answered[first - 1].completion)
        if room < 0:
            break
        first -= 1
    return [
        message
        for turn in answered[first:]
        for message in (("user", turn.prompt), ("assistant", turn.completion))
    ]


def _user_of(actor: Actor) -> str:
    return account_user(actor.account_id or actor.name)
