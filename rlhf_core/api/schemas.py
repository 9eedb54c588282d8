"""What the API takes and answers, beyond the drafts. Pydantic stays at this edge."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from rlhf_core.feedback.drafts import (
    Draft,
    FeedbackDraft,
    FilledText,
    InteractionDraft,
    Name,
    PreferenceDraft,
    Rating,
)
from rlhf_core.serving.answers import CHAT_ID_PREFIX
from rlhf_core.vocabulary import QueueItemKind, RaterKind


class FeedbackIn(FeedbackDraft):
    """Feedback on an interaction, or on its step: `step` (position) or `step_id`.

    `queue_id` is the rating queue that gave the item out; it takes one's own feedback only.
    """

    interaction_id: uuid.UUID
    step_id: uuid.UUID | None = None
    queue_id: uuid.UUID | None = None

    @model_validator(mode="after")
    def _label_has_step(self) -> Self:
        if self.label is not None and self.step is None and self.step_id is None:
            raise ValueError("label is for a step: give `step` or `step_id`, or use `thumb`")
        return self

    @model_validator(mode="after")
    def _queue_is_own(self) -> Self:
        _require_own(self)
        return self


class ComparisonIn(PreferenceDraft):
    """Which of two interactions' completions is better; left and right as they were shown."""

    left_id: uuid.UUID
    right_id: uuid.UUID
    queue_id: uuid.UUID | None = None

    @model_validator(mode="after")
    def _queue_is_own(self) -> Self:
        _require_own(self)
        return self


class NextIn(Draft):
    """`after`: the item (or its interaction) that is given back unjudged."""

    after: uuid.UUID | None = None


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


def _read_served_id(value: object) -> object:
    """The id of an answer, also as /v1/chat/completions writes it: `chatcmpl-<32 digits>`."""
    return value.removeprefix(CHAT_ID_PREFIX) if isinstance(value, str) else value


ServedId = Annotated[uuid.UUID, BeforeValidator(_read_served_id)]


class InteractionIn(InteractionDraft):
    """`served_id`: the `id` of the answer of /v1/rerank or /v1/chat/completions that led to it.

    Feedback on the interaction is then credited to the version that gave the answer.
    """

    served_id: ServedId | None = None


class Candidate(Draft):
    """A completion to rank, with an id of the caller's own."""

    text: FilledText
    id: Name | None = None


Candidates = Annotated[list[FilledText | Candidate], Field(min_length=1, max_length=1_000)]


class RerankIn(Draft):
    """Candidates for one query: texts, or objects with `text` (and `id`).

    `user` is the id of your user, kept as a pseudonym only: while a version is tried out, each user
    keeps to one of the two.
    """

    query: FilledText
    candidates: Candidates
    top_k: int | None = Field(default=None, ge=1)
    user: Name | None = None


class ChoiceIn(Draft):
    """Which candidate was used: its `index` in the request that was reranked, from 0."""

    index: int = Field(ge=0, strict=True)


class ScoreItem(Draft):
    """A prompt and a completion."""

    prompt: FilledText
    completion: FilledText


class ScoreIn(Draft):
    """Completions to score, each with its prompt."""

    items: list[ScoreItem] = Field(min_length=1, max_length=1_000)


def _require_own(said: FeedbackIn | ComparisonIn) -> None:
    is_for_other = said.rater is not None or said.rater_kind is RaterKind.END_USER
    if said.queue_id is not None and is_for_other:
        raise ValueError("queue_id is for your own feedback: leave out `rater`, or the queue")


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
    """Where it is stored; `revision` counts the changes of the row.

    `is_done` says, where a queue was named, whether it counts the item as judged by you.
    """

    id: uuid.UUID
    interaction_id: uuid.UUID
    revision: int
    was_created: bool
    is_done: bool | None = None


class EventsOut(Out):
    """`num_known` were stored before; `num_left_out` are of users who opted out."""

    num_stored: int
    num_known: int
    num_left_out: int


class ComparisonOut(Out):
    """Where it is stored; `revision` counts the changes of the row."""

    id: uuid.UUID
    left_id: uuid.UUID
    right_id: uuid.UUID
    revision: int
    was_created: bool
    is_done: bool | None = None


class QueueStepOut(Out):
    """A reasoning step; `my_label` is what you said of it."""

    id: uuid.UUID
    position: int
    kind: str | None
    content: str
    my_label: int | None


class QueueItemOut(Out):
    """What is to be judged, yours until `expires_at`; what is sent later is kept, too.

    The other two of a pair are set in a queue of comparisons. `occasion` is to be sent along: 1
    where the item is shown a second time on purpose.
    """

    item_id: uuid.UUID
    interaction_id: uuid.UUID
    other_interaction_id: uuid.UUID | None
    kind: QueueItemKind
    occasion: int
    expires_at: datetime
    prompt: str
    completion: str
    other_completion: str | None
    context: list[dict[str, str]]
    action_type: str | None
    action_data: dict[str, Any] | None
    steps: list[QueueStepOut]


class NextOut(Out):
    """The item that is yours now; null where nothing is left for you."""

    item: QueueItemOut | None


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
    """One kind of action, "" where none was given.

    `approval_rate`: thumbs up in percent of thumbs up and down. Ratings do not count in it: it is
    null where there are only those.
    """

    action_type: str
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
    """The best first. With `is_fallback` the order is the request's, and `reason` says why.

    By `id` say which candidate was used (/v1/rerank/{id}/choice), and what was made of it
    (`served_id` of /v1/interactions).
    """

    id: uuid.UUID
    ranking: list[RankedOut]
    is_fallback: bool
    reason: str | None
    model_version: str | None
    model_version_id: uuid.UUID | None


class ChoiceOut(Out):
    """What was noted."""

    id: uuid.UUID
    index: int


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
