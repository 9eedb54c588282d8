"""A person's own conversations with the assistant, from the dashboard."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.feedback.comparison_changes import read_content
from rlhf_core.feedback.comparisons import list_own, submit_comparison
from rlhf_core.feedback.drafts import InteractionDraft, Message, PreferenceDraft
from rlhf_core.feedback.raters import find_rater, outside_pseudonym
from rlhf_core.privacy.pseudonyms import account_user
from rlhf_core.serving.answers import begin_answer
from rlhf_core.store.tables import Feedback, Interaction, ReasoningStep
from rlhf_core.vocabulary import CHAT_SOURCE, Choice

MAX_TURNS = 200
"""So many of a conversation are shown, the newest."""
MAX_CONTEXT_CHARS = 12_000
"""So much of a conversation goes to the model: some 3,000 tokens, to which small models answer
within seconds. Sent whole, a long conversation would be refused from some turn on."""
WRITTEN_WITHIN = timedelta(minutes=2)
"""What has no text after so long has lost who wrote it; as long is waited for a piece."""


@dataclass(frozen=True)
class TalkStep:
    """A reasoning step of an answer; `label` is what one said of it: +1, 0 or -1."""

    content: str
    label: int | None


@dataclass(frozen=True)
class TalkTurn:
    """What was asked and answered, the `number`-th of the conversation, from 0.

    `thumb`, `correction` and `choice` are one's own; `version` is what answered. Two answers to one
    question, shown side by side, share number and `pair`; `is_left` is where this one stood. The
    conversation goes on with the turns of which `goes_on` holds.
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
    steps: tuple[TalkStep, ...] = ()
    pair: str | None = None
    is_left: bool = True
    choice: Choice | None = None
    goes_on: bool = True


def list_turns(db: Session, chat_id: str, *, actor: Actor) -> list[TalkTurn]:
    """The newest turns of one's own conversation, in order; none of somebody else's.

    Of a pair the left one comes first.
    """
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
            Interaction.message_id, Feedback.thumb, Feedback.correction,
        )
        .outerjoin(Feedback, mine)
        .where(
            Interaction.source == CHAT_SOURCE,
            Interaction.chat_id == chat_id,
            Interaction.user_pseudonym == outside_pseudonym(db, _user_of(actor)),
        )
        .order_by(Interaction.id.desc())
        .limit(MAX_TURNS)
    ).all()  # fmt: skip
    steps = _read_steps(db, [row.id for row in rows], rater_id)
    young = utcnow() - WRITTEN_WITHIN
    turns = []
    for row in reversed(rows):
        pair, is_left = _side_of(row.message_id)
        is_partial = bool((row.extra or {}).get("is_partial"))
        is_empty = not row.completion and row.id not in steps  # all is stored at the end
        turns.append(
            TalkTurn(
                interaction_id=row.id,
                number=row.turn or 0,
                prompt=row.prompt,
                completion=row.completion,
                version=row.model_name,
                is_partial=is_partial,
                is_being_written=is_partial and is_empty and row.created_at > young,
                thumb=row.thumb,
                correction=row.correction,
                steps=steps.get(row.id, ()),
                pair=pair,
                is_left=is_left,
            )
        )
    return _with_choices(db, turns, rater_id)


def awaits_choice(turns: Sequence[TalkTurn]) -> bool:
    """Whether the conversation ends in two whole answers of which none was chosen yet."""
    last = turns[-2:]
    return len(last) == 2 and _is_open(last)


def begin_turn(
    db: Session,
    chat_id: str,
    prompt: str,
    *,
    actor: Actor,
    before: list[TalkTurn],
    version: str,
    version_id: uuid.UUID,
    message_id: str | None = None,
    system_prompt: str | None = None,
) -> uuid.UUID:
    """Store what was asked, before the answer comes; the interaction's id.

    `message_id` of one of two answers is that of `name_side`; `system_prompt` is what a test of
    them put before. Raises InvalidInput where nothing was asked.
    """
    require(actor, Permission.RATE)
    if not prompt.strip():
        raise InvalidInput("The message is empty: write what you want to ask.", field="prompt")
    message_id = message_id or uuid.uuid4().hex
    told = [("system", system_prompt)] if system_prompt is not None else []
    told += messages_of(before)
    draft = InteractionDraft(
        source=CHAT_SOURCE,
        external_id=message_id,
        chat_id=chat_id,
        message_id=message_id,
        turn=before[-1].number + 1 if before else 0,
        user=_user_of(actor),
        context=[Message(role=role, content=text) for role, text in told] or None,
        prompt=prompt,
        completion="",
        model_name=version,
    )
    return begin_answer(db, draft, version_id=version_id)


def find_user_key(db: Session, *, actor: Actor) -> str:
    """The pseudonym of the person as a user: the same side of a deployment answers them."""
    return outside_pseudonym(db, _user_of(actor))


def name_side(pair: str, *, is_left: bool) -> str:
    """The message id of an answer of a pair, which keeps on which side it is shown."""
    return f"{pair}-{'left' if is_left else 'right'}"


def choose_answer(
    db: Session, turns: Sequence[TalkTurn], choice: Choice, *, actor: Actor
) -> uuid.UUID:
    """Store which of the last two answers is better, blind as they were; the comparison's id.

    Raises Conflict where there is nothing to choose (any more).
    """
    last = list(turns[-2:])
    if not awaits_choice(last):
        raise Conflict("There are no two answers to choose from here; ask again.")
    left, right = last
    draft = PreferenceDraft(choice=choice)
    stored = submit_comparison(
        db, left.interaction_id, right.interaction_id, draft, actor=actor, source=CHAT_SOURCE
    )
    return stored.id


def messages_of(turns: list[TalkTurn]) -> list[tuple[str, str]]:
    """What the model is told of the conversation so far: (role, content).

    The oldest turns go where there is more than `MAX_CONTEXT_CHARS`.
    """
    answered = [turn for turn in turns if turn.completion and turn.goes_on]
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


def _side_of(message_id: str | None) -> tuple[str | None, bool]:
    pair, _, side = (message_id or "").rpartition("-")
    return (pair, side == "left") if pair and side in ("left", "right") else (None, True)


def _read_steps(
    db: Session, ids: list[uuid.UUID], rater_id: uuid.UUID | None
) -> dict[uuid.UUID, tuple[TalkStep, ...]]:
    mine = sa.and_(
        Feedback.step_id == ReasoningStep.id,
        Feedback.rater_id == rater_id,
        Feedback.occasion == 0,
        Feedback.withdrawn_at.is_(None),
    )
    rows = db.execute(
        sa.select(ReasoningStep.interaction_id, ReasoningStep.content, Feedback.label)
        .outerjoin(Feedback, mine)
        .where(ReasoningStep.interaction_id.in_(ids))
        .order_by(ReasoningStep.interaction_id, ReasoningStep.position)
    )
    return {
        owner: tuple(TalkStep(row.content, row.label) for row in of_one)
        for owner, of_one in groupby(rows, key=lambda row: row.interaction_id)
    }


def _with_choices(db: Session, turns: list[TalkTurn], rater_id: uuid.UUID | None) -> list[TalkTurn]:
    """The pairs in order, with what was chosen and which of them the conversation goes on with."""
    ids = [turn.interaction_id for turn in turns if turn.pair]
    said = list_own(db, ids, rater_id=rater_id) if ids and rater_id is not None else []
    chosen = {
        frozenset((row.left_interaction_id, row.right_interaction_id)): read_content(row)
        for row in reversed(said)
    }
    found: list[TalkTurn] = []
    for pair, group in groupby(turns, key=lambda turn: turn.pair):
        members = sorted(group, key=lambda turn: not turn.is_left)
        if pair is None or len(members) < 2:
            found += members
            continue
        content = chosen.get(frozenset(turn.interaction_id for turn in members))
        if content is None:
            kept = None if _is_open(members) else _find_better(members)
            found += [replace(turn, goes_on=turn is kept) for turn in members]
            continue
        # A tie goes on with the left one, which chance put there.
        kept_id = content.preferred_id
        if content.choice is Choice.TIE:
            kept_id = members[0].interaction_id
        choice = content.choice
        if content.preferred_id is not None:
            is_left = content.preferred_id == members[0].interaction_id
            choice = Choice.LEFT if is_left else Choice.RIGHT
        found += [
            replace(turn, choice=choice, goes_on=turn.interaction_id == kept_id) for turn in members
        ]
    return found


def _is_open(members: Sequence[TalkTurn]) -> bool:
    is_pair = members[0].pair is not None and members[0].pair == members[1].pair
    return is_pair and all(not turn.is_partial and turn.choice is None for turn in members)


def _find_better(members: Sequence[TalkTurn]) -> TalkTurn:
    """Of two of which one broke off: the whole one, else what said more."""
    return max(members, key=lambda turn: (not turn.is_partial, len(turn.completion)))
