"""Reading interactions and feedback: what leaves the session is frozen and complete."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import NotFound
from rlhf_core.feedback.drafts import VOICE_NOTES
from rlhf_core.feedback.raters import account_pseudonym, find_rater, of_pseudonym
from rlhf_core.feedback.unsent import FIELDS, unsent_text
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import (
    Attachment,
    Feedback,
    FeedbackAspect,
    FeedbackSpan,
    Interaction,
    Rater,
    ReasoningStep,
)
from rlhf_core.vocabulary import RaterKind

MAX_RECENT = 1_000
MINE = (
    "id", "thumb", "rating", "comment", "correction", "extra", "revision", "updated_at",
)  # fmt: skip
"""The columns of the asking rater's feedback that are shown."""


@dataclass(frozen=True)
class FeedbackView:
    """One current feedback row. `step_id` and `position` are None for one on the completion."""

    id: uuid.UUID
    interaction_id: uuid.UUID
    chat_id: str | None
    message_id: str | None
    action_type: str | None
    step_id: uuid.UUID | None
    position: int | None
    rater_id: uuid.UUID
    rater_kind: RaterKind
    thumb: int | None
    rating: int | None
    label: int | None
    comment: str | None
    source: str
    revision: int
    occurred_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class StepView:
    """A reasoning step; `my_label` is what the asking rater said of it."""

    id: uuid.UUID
    position: int
    kind: str | None
    content: str
    my_label: int | None


@dataclass(frozen=True)
class SpanView:
    """A tagged part of the completion: characters `start_at` (in) to `end_at` (out)."""

    start_at: int
    end_at: int
    tag: str
    note: str | None = None


@dataclass(frozen=True)
class VoiceNoteView:
    """A recorded comment; its sound is read when it is to be played."""

    id: uuid.UUID
    media_type: str
    transcript: str | None
    created_at: datetime


@dataclass(frozen=True)
class MyFeedback:
    """What the asking rater said of the completion."""

    id: uuid.UUID
    thumb: int | None
    rating: int | None
    comment: str | None
    correction: str | None
    extra: dict[str, Any] | None
    revision: int
    updated_at: datetime
    aspects: dict[str, int] = field(default_factory=dict)
    spans: tuple[SpanView, ...] = ()
    voice_notes: tuple[VoiceNoteView, ...] = ()


@dataclass(frozen=True)
class InteractionView:
    """One interaction as its rater sees it. `context` are the earlier messages: (role, content).

    `occasion` is that of the feedback asked for; `unsent` is what the rater typed and did not send.
    """

    id: uuid.UUID
    source: str
    external_id: str
    prompt: str
    completion: str
    context: tuple[tuple[str, str], ...]
    action_type: str | None
    action_data: dict[str, Any] | None
    model_name: str | None
    occurred_at: datetime
    steps: tuple[StepView, ...]
    my_feedback: MyFeedback | None
    occasion: int = 0
    unsent: dict[str, str] = field(default_factory=dict)

    @property
    def is_rated(self) -> bool:
        """Whether the asking rater gave a thumb or a rating."""
        mine = self.my_feedback
        return mine is not None and (mine.thumb is not None or mine.rating is not None)


def get_interaction(
    db: Session, interaction_id: uuid.UUID, *, actor: Actor, occasion: int = 0
) -> InteractionView:
    """An interaction with its steps and the actor's own current feedback of that occasion."""
    require(actor, Permission.READ_INTERACTIONS)
    asked = {"interaction": interaction_id, "pseudonym": account_pseudonym(actor)}
    row = db.execute(_interaction_and_mine, {**asked, "occasion": occasion}).one_or_none()
    if row is None:
        raise NotFound(f"There is no interaction {interaction_id}; it may have been erased.")
    fields = row._asdict()
    rater_id = fields.pop("rater_id")
    mine = {name: fields.pop(f"my_{name}") for name in MINE}
    unsent = {name: fields.pop(f"unsent_{name}") for name in FIELDS}
    has_steps = fields.pop("has_steps")
    fields["context"] = tuple((turn["role"], turn["content"]) for turn in row.context or ())
    return InteractionView(
        **fields,
        steps=_list_steps(db, interaction_id, rater_id, occasion) if has_steps else (),
        my_feedback=None if mine["id"] is None else _complete(db, mine),
        occasion=occasion,
        unsent={name: text for name, text in unsent.items() if text is not None},
    )


def list_recent_feedback(db: Session, *, actor: Actor, limit: int = 100) -> list[FeedbackView]:
    """Current feedback, the latest first; `limit` is cut to 1,000.

    Of all raters for who may read analytics; else one's own, as a rater sees what others say only
    after their own word.
    """
    require(actor, Permission.READ_INTERACTIONS)
    whose: list[sa.ColumnElement[bool]] = []
    if not actor.may(Permission.READ_ANALYTICS):
        whose.append(Feedback.rater_id == find_rater(db, actor=actor))
    rows = db.execute(
        sa.select(
            Feedback.id,
            Feedback.interaction_id,
            Interaction.chat_id,
            Interaction.message_id,
            Interaction.action_type,
            Feedback.step_id,
            ReasoningStep.position,
            Feedback.rater_id,
            Rater.rater_kind,
            Feedback.thumb,
            Feedback.rating,
            Feedback.label,
            Feedback.comment,
            Feedback.source,
            Feedback.revision,
            Feedback.occurred_at,
            Feedback.updated_at,
        )
        .join(Interaction, Interaction.id == Feedback.interaction_id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .outerjoin(ReasoningStep, ReasoningStep.id == Feedback.step_id)
        .where(Feedback.withdrawn_at.is_(None), *whose)
        .order_by(Feedback.occurred_at.desc(), Feedback.id.desc())
        .limit(max(0, min(limit, MAX_RECENT)))
    )
    return [FeedbackView(**row._asdict()) for row in rows]


def find_spot(db: Session, feedback_id: uuid.UUID, *, actor: Actor) -> tuple[uuid.UUID, int] | None:
    """The interaction that a feedback row is about, and its occasion; None if it is gone."""
    require(actor, Permission.READ_INTERACTIONS)
    row = db.execute(
        sa.select(Feedback.interaction_id, Feedback.occasion).where(Feedback.id == feedback_id)
    ).one_or_none()
    return None if row is None else (row.interaction_id, row.occasion)


def find_message(db: Session, chat_id: str, message_id: str | None) -> uuid.UUID | None:
    """The interaction that this message of a chat is; without a message id the chat's latest."""
    query = sa.select(Interaction.id).where(Interaction.chat_id == chat_id)
    if message_id is not None:
        query = query.where(Interaction.message_id == message_id)
    latest = query.order_by(Interaction.occurred_at.desc(), Interaction.id.desc()).limit(1)
    return db.scalar(latest)


def _complete(db: Session, mine: dict[str, Any]) -> MyFeedback:
    """What a row of the actor's own feedback says, with its aspects, spans and voice notes."""
    aspects = db.execute(
        sa.select(FeedbackAspect.name, FeedbackAspect.rating).where(
            FeedbackAspect.feedback_id == mine["id"]
        )
    )
    spans = db.execute(
        sa.select(FeedbackSpan.start_at, FeedbackSpan.end_at, FeedbackSpan.tag, FeedbackSpan.note)
        .where(FeedbackSpan.feedback_id == mine["id"])
        .order_by(FeedbackSpan.start_at, FeedbackSpan.end_at, FeedbackSpan.tag)
    )
    return MyFeedback(
        **mine,
        aspects={name: rating for name, rating in aspects},
        spans=tuple(SpanView(**span._asdict()) for span in spans),
        voice_notes=_list_voice_notes(db, mine["id"], mine["extra"]),
    )


def _list_voice_notes(
    db: Session, feedback_id: uuid.UUID, extra: dict[str, Any] | None
) -> tuple[VoiceNoteView, ...]:
    """The recordings that the feedback names: one taken back is named no more."""
    named = (extra or {}).get(VOICE_NOTES)
    if not isinstance(named, list) or not named:
        return ()
    rows = db.execute(
        sa.select(
            Attachment.id, Attachment.media_type, Attachment.transcript, Attachment.created_at
        )
        .where(Attachment.feedback_id == feedback_id)
        .order_by(Attachment.created_at, Attachment.id)
    )
    return tuple(VoiceNoteView(**row._asdict()) for row in rows if str(row.id) in named)


def _list_steps(
    db: Session, interaction_id: uuid.UUID, rater_id: uuid.UUID | None, occasion: int
) -> tuple[StepView, ...]:
    asked = {"interaction": interaction_id, "rater": rater_id, "occasion": occasion}
    return tuple(StepView(**row._asdict()) for row in db.execute(_steps, asked))


# built once: building a statement takes longer than running it
_INTERACTION, _STEP, _FEEDBACK = map(table_of, (Interaction, ReasoningStep, Feedback))
_of_interaction = sa.bindparam("interaction", type_=sa.Uuid)
_of_occasion = sa.and_(
    _FEEDBACK.c.occasion == sa.bindparam("occasion", type_=sa.SmallInteger),
    _FEEDBACK.c.withdrawn_at.is_(None),
)
_interaction_and_mine = (
    sa.select(
        *(
            _INTERACTION.c[name]
            for name in (
                "id", "source", "external_id", "prompt", "completion", "context", "action_type",
                "action_data", "model_name", "occurred_at",
            )
        ),
        of_pseudonym.scalar_subquery().label("rater_id"),
        *(_FEEDBACK.c[name].label(f"my_{name}") for name in MINE),
        *(unsent_text(name).label(f"unsent_{name}") for name in FIELDS),
        sa.exists().where(_STEP.c.interaction_id == _of_interaction).label("has_steps"),
    )
    .select_from(_INTERACTION)
    .outerjoin(
        _FEEDBACK,
        sa.and_(
            _FEEDBACK.c.interaction_id == _INTERACTION.c.id,
            _FEEDBACK.c.step_id.is_(None),
            _FEEDBACK.c.rater_id == of_pseudonym.scalar_subquery(),
            _of_occasion,
        ),
    )
    .where(_INTERACTION.c.id == _of_interaction)
)  # fmt: skip
_steps = (
    sa.select(
        _STEP.c.id,
        _STEP.c.position,
        _STEP.c.kind,
        _STEP.c.content,
        _FEEDBACK.c.label.label("my_label"),
    )
    .outerjoin(
        _FEEDBACK,
        sa.and_(
            _FEEDBACK.c.step_id == _STEP.c.id,
            _FEEDBACK.c.rater_id == sa.bindparam("rater", type_=sa.Uuid),
            _of_occasion,
        ),
    )
    .where(_STEP.c.interaction_id == _of_interaction)
    .order_by(_STEP.c.position)
)
