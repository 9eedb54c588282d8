"""What a person or a program may send: validated once, here, for page, API and import alike.

One rule for text on both databases: no NUL, no lone surrogate, at most `MAX_TEXT_BYTES` of UTF-8.
"""

import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from rlhf_core.errors import InvalidInput, TooLarge
from rlhf_core.vocabulary import Choice, RaterKind

MAX_TEXT_BYTES = 1_000_000
MAX_COMMENT_CHARS = 20_000
MAX_STEPS = 1_000
MAX_JSON_DEPTH = 32
VOICE_NOTES = "voice_notes"
"""Key in `extra` of feedback: the ids of its recordings, as text."""


def _check_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("contains a NUL character; remove it")
    try:
        num_bytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("contains a lone surrogate; send valid UTF-8") from None
    if num_bytes > MAX_TEXT_BYTES:
        raise ValueError(f"is too large: {num_bytes:,} bytes, the limit is {MAX_TEXT_BYTES:,}")
    return value


def _check_filled(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _check_json(value: Any, depth: int = 0) -> Any:
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"is nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {value}, which JSON cannot; leave it out")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check_json(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth + 1)
    return value


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is true or false; send a whole number")
    return value


def _default_zone(value: Any) -> Any:
    """Read a moment without a zone as UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value  # Pydantic knows more formats, and says what is wrong
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _check_moment(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("lies beyond the years 1 to 9999 in UTC") from None


Text = Annotated[str, AfterValidator(_check_text)]
FilledText = Annotated[Text, AfterValidator(_check_filled)]
Name = Annotated[FilledText, Field(max_length=200)]
Label = Annotated[FilledText, Field(max_length=100)]
Comment = Annotated[str, Field(max_length=MAX_COMMENT_CHARS), AfterValidator(_check_text)]
JsonObject = Annotated[dict[str, Any], AfterValidator(_check_json)]
Moment = Annotated[AwareDatetime, BeforeValidator(_default_zone), AfterValidator(_check_moment)]
Rating = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=1, le=5, strict=True)]
Sign = Annotated[int, BeforeValidator(_refuse_bool), Field(ge=-1, le=1, strict=True)]
Seconds = Annotated[float, Field(ge=0, le=7 * 86_400, allow_inf_nan=False)]


class Draft(BaseModel):
    """Base of all drafts: unknown fields are refused, so that a typing error is not lost data."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Message(Draft):
    """One earlier message of the conversation."""

    role: Label
    content: Text


class SpanDraft(Draft):
    """A tagged part of the completion: characters start_at (in) to end_at (out)."""

    start_at: int = Field(ge=0, le=MAX_TEXT_BYTES)
    end_at: int = Field(gt=0, le=MAX_TEXT_BYTES)
    tag: Label
    note: Comment | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end_at <= self.start_at:
            raise ValueError("span ends before it starts")
        return self


class FeedbackDraft(Draft):
    """What one rater says of a completion, or (with `step`) of its step at that position.

    `rater` is the id outside: it is stored as a keyed pseudonym only. Without it, the person
    signed in is the rater.
    """

    thumb: Sign | None = None
    rating: Rating | None = None
    label: Sign | None = None
    comment: Comment | None = None
    correction: Text | None = None
    aspects: dict[Label, Rating] = Field(default_factory=dict, max_length=50)
    spans: list[SpanDraft] = Field(default_factory=list, max_length=200)
    step: int | None = Field(default=None, ge=0, le=MAX_STEPS - 1)
    rater: Name | None = None
    rater_kind: RaterKind = RaterKind.SME
    occasion: int = Field(default=0, ge=0, le=1000)
    duration_s: Seconds | None = None
    external_id: Name | None = None
    occurred_at: Moment | None = None
    extra: JsonObject | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        said = (self.thumb, self.rating, self.label, self.comment, self.correction)
        has_parts = bool(self.aspects or self.spans or (self.extra or {}).get(VOICE_NOTES))
        if all(value is None for value in said) and not has_parts:
            raise ValueError(
                "says nothing: give thumb, rating, label, comment, correction, aspects or spans"
            )
        return self

    @model_validator(mode="after")
    def _label_has_step(self) -> Self:
        if self.label is not None and self.step is None:
            raise ValueError("label is for a step: give `step`, or use `thumb`")
        return self


class StepDraft(Draft):
    """One reasoning step. Its `position` is its place in the list."""

    content: Text
    kind: Label | None = None
    external_id: Name | None = None


class InteractionDraft(Draft):
    """One prompt, the completion that answered it, and what is known of it.

    `(source, external_id)` identifies it; without an `external_id`, a hash of the content does.
    """

    prompt: FilledText
    completion: Text
    source: Name = "api"
    external_id: Name | None = None
    chat_id: Name | None = None
    message_id: Name | None = None
    turn: int | None = Field(default=None, ge=0, le=2**31 - 1)
    user: Name | None = None
    context: list[Message] | None = Field(default=None, max_length=1_000)
    action_type: Label | None = None
    action_data: JsonObject | None = None
    model_name: Name | None = None
    language: Annotated[FilledText, Field(max_length=16)] | None = None
    occurred_at: Moment | None = None
    extra: JsonObject | None = None
    steps: list[StepDraft] = Field(default_factory=list, max_length=MAX_STEPS)
    feedback: list[FeedbackDraft] = Field(default_factory=list, max_length=10_000)

    @model_validator(mode="after")
    def _feedback_fits(self) -> Self:
        for item in self.feedback:
            if item.step is not None and item.step >= len(self.steps):
                raise ValueError(
                    f"feedback names step {item.step}, the interaction has {len(self.steps)} steps"
                )
            for span in item.spans:
                if span.end_at > len(self.completion):
                    raise ValueError(
                        f"span ends at {span.end_at}, the completion has "
                        f"{len(self.completion)} characters"
                    )
        return self

    def identity(self) -> str:
        """The external id, or a hash of what the interaction says."""
        if self.external_id is not None:
            return self.external_id
        digest = hashlib.blake2b(digest_size=16)
        parts = (
            self.prompt,
            self.completion,
            self.chat_id,
            self.message_id,
            self.model_name,
            None if self.occurred_at is None else self.occurred_at.isoformat(),
            None if self.context is None else str(self.context),
        )
        for part in parts:
            digest.update(b"\0" if part is None else b"\1" + part.encode())
        return f"content:{digest.hexdigest()}"


class PreferenceDraft(Draft):
    """Which of two completions a rater prefers, by how much (3: much), and why.

    `rater` is the id outside, as in `FeedbackDraft`.
    """

    choice: Choice
    strength: int | None = Field(default=None, ge=1, le=3)
    reason: Comment | None = None
    rater: Name | None = None
    rater_kind: RaterKind = RaterKind.SME
    occasion: int = Field(default=0, ge=0, le=1000)
    is_blind: bool = True
    duration_s: Seconds | None = None
    external_id: Name | None = None
    occurred_at: Moment | None = None
    extra: JsonObject | None = None


class ComparisonDraft(PreferenceDraft):
    """Which of two completions of one prompt a rater prefers; sides as they were shown.

    `left` and `right` are the `external_id`s of two interactions of the same source.
    """

    left: Name
    right: Name


def prompt_hash(prompt: str) -> str:
    """Hash of the normalised prompt (case and white space ignored): 32 hexadecimal digits."""
    normal = " ".join(prompt.casefold().split())
    return hashlib.blake2b(normal.encode(), digest_size=16).hexdigest()


def explain(error: ValidationError) -> InvalidInput:
    """The first broken rule as one sentence: field, what is wrong, and the value (shortened)."""
    return explain_first(error.errors(include_url=False)[0])


def explain_first(first: Mapping[str, Any]) -> InvalidInput:
    """`explain` of one item of Pydantic's `errors()`."""
    field = ".".join(str(part) for part in first["loc"])
    text = str(first["msg"]).removeprefix("Value error, ")
    shown = repr(first.get("input"))
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    scalar = not isinstance(first.get("input"), dict | list)
    sentence = f"{field or 'row'}: {text}" + (f" (got {shown})" if scalar else "")
    kind = TooLarge if "is too large" in text else InvalidInput
    return kind(sentence, field=field or None)
