"""What the API takes and answers, beyond the drafts. Pydantic stays at this edge."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlhf_core.feedback.drafts import (
    Draft,
    FeedbackDraft,
    FilledText,
    Name,
    PreferenceDraft,
    Rating,
)
from rlhf_core.vocabulary import RaterKind


class FeedbackIn(FeedbackDraft):
    """Feedback on an interaction, or on its step: `step` (position) or `step_id`."""

    interaction_id: uuid.UUID
    step_id: uuid.UUID | None = None

    @model_validator(mode="after")
    def _label_has_step(self) -> Self:
        if self.label is not None and self.step is None and self.step_id is None:
            raise ValueError("label is for a step: give `step` or `step_id`, or use `thumb`")
        return self


class ComparisonIn(PreferenceDraft):
    """Which of two interactions' completions is better; left and right as they were shown."""

    left_id: uuid.UUID
    right_id: uuid.UUID


class OptOutIn(Draft):
    """A user of yours, by the id that interactions and feedback are sent with.

    `is_opted_out` false takes an opt-out back.
    """

    user: Name
    is_opted_out: bool = True


class FeedbackType(StrEnum):
    """A thumb, in the words of chat front ends."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    NEUTRAL = "neutral"
    UP = "up"
    DOWN = "down"

    @property
    def sign(self) -> int:
        """+1, 0 or -1."""
        match self:
            case FeedbackType.POSITIVE | FeedbackType.UP:
                return 1
            case FeedbackType.NEGATIVE | FeedbackType.DOWN:
                return -1
            case FeedbackType.NEUTRAL:
                return 0


class AssistantFeedbackIn(Draft):
    """What an end user says of a chat message (the chat's latest without `message_id`), or of one
    of its steps (`step_id`: the id here, or the one it was sent with).
    """  # noqa: D205

    chat_id: Name
    message_id: Name | None = None
    step_id: Name | None = None
    feedback_type: FeedbackType | None = None
    feedback_score: Rating | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.feedback_type is None and self.feedback_score is None:
            raise ValueError("says nothing: give feedback_type or feedback_score")
        return self


class Candidate(Draft):
    """A completion to rank, with an id of the caller's own."""

    text: FilledText
    id: Name | None = None


Candidates = Annotated[list[FilledText | Candidate], Field(min_length=1, max_length=1_000)]


class RerankIn(Draft):
    """Candidates for one query: texts, or objects with `text` (and `id`)."""

    query: FilledText
    candidates: Candidates
    top_k: int | None = Field(default=None, ge=1)


class ScoreItem(Draft):
    """A prompt and a completion."""

    prompt: FilledText
    completion: FilledText


class ScoreIn(Draft):
    """Completions to score, each with its prompt."""

    items: list[ScoreItem] = Field(min_length=1, max_length=1_000)


class Out(BaseModel):
    """Base of the answers."""

    model_config = ConfigDict(frozen=True)


class ErrorDetail(Out):
    """What is wrong, and which field where one is to blame."""

    type: str
    message: str
    field: str | None = None


class ErrorOut(Out):
    """Every refusal."""

    error: ErrorDetail


class InteractionOut(Out):
    """Where it is stored; `step_ids` in the order of the steps."""

    id: uuid.UUID
    step_ids: list[uuid.UUID]
    was_created: bool


class FeedbackOut(Out):
    """Where it is stored; `revision` counts the changes of the row."""

    id: uuid.UUID
    interaction_id: uuid.UUID
    revision: int
    was_created: bool


class ComparisonOut(Out):
    """Where it is stored; `revision` counts the changes of the row."""

    id: uuid.UUID
    left_id: uuid.UUID
    right_id: uuid.UUID
    revision: int
    was_created: bool


class OptOutOut(Out):
    """What holds for the user now, and whether this request changed it."""

    is_opted_out: bool
    was_changed: bool


class RecentFeedback(Out):
    """One current feedback row."""

    id: uuid.UUID
    interaction_id: uuid.UUID
    chat_id: str | None
    message_id: str | None
    action_type: str | None
    step_id: uuid.UUID | None
    rater_id: uuid.UUID
    rater_kind: RaterKind
    thumb: int | None
    rating: int | None
    label: int | None
    comment: str | None
    source: str
    occurred_at: datetime
    updated_at: datetime


class RecentOut(Out):
    """The latest feedback first."""

    feedback: list[RecentFeedback]


class ActionTypeOut(Out):
    """One kind of action. `approval_rate` is in percent; null where there are no thumbs."""

    action_type: str | None
    total_feedback: int
    thumbs_up: int
    thumbs_down: int
    approval_rate: float | None


class SummaryOut(Out):
    """Approval by kind of action."""

    summary: list[ActionTypeOut]


class RankedOut(Out):
    """A candidate in its place. `index` is its place in the request; `score` is 0..1 or null."""

    index: int
    text: str
    id: str | None = None
    score: float | None


class RerankOut(Out):
    """The best first. With `is_fallback` the order is the request's, and `reason` says why."""

    ranking: list[RankedOut]
    is_fallback: bool
    reason: str | None
    model_version: str | None
    model_version_id: uuid.UUID | None


class ScoreOut(Out):
    """Scores 0..1 in the order of the items; null with `is_fallback`, and `reason` says why."""

    scores: list[float | None]
    is_fallback: bool
    reason: str | None
    model_version: str | None
    model_version_id: uuid.UUID | None


class HealthOut(Out):
    """That the server answers."""

    status: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorOut, "description": "No valid token and no session"},
    403: {"model": ErrorOut, "description": "The role or the token's scopes do not allow it"},
    404: {"model": ErrorOut, "description": "Something named in the request does not exist"},
    409: {"model": ErrorOut, "description": "It was changed by another request"},
    413: {"model": ErrorOut, "description": "A text or the body is too large"},
    422: {"model": ErrorOut, "description": "A value breaks a rule"},
    503: {"model": ErrorOut, "description": "The database does not answer now"},
}
