from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_core.errors import InvalidInput, TooLarge
from rlhf_core.feedback.drafts import (
    MAX_STEPS,
    MAX_TEXT_BYTES,
    ComparisonDraft,
    FeedbackDraft,
    InteractionDraft,
    explain,
    prompt_hash,
)


def reason(kind: type[Any], **fields: Any) -> InvalidInput:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    return explain(caught.value)


@pytest.mark.parametrize("rating", [0, 6, float("nan"), "five", "5", 4.5, True, [5]])
def test_a_rating_is_a_whole_number_from_1_to_5(rating: Any) -> None:
    error = reason(FeedbackDraft, rating=rating)
    assert error.field == "rating"
    assert "rating" in str(error)


@pytest.mark.parametrize("thumb", [2, -2, "up", True, 0.5])
def test_a_thumb_is_minus_one_zero_or_one(thumb: Any) -> None:
    assert reason(FeedbackDraft, thumb=thumb).field == "thumb"


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("a\0b", "NUL"),
        ("a\ud800b", "surrogate"),
        ("x" * (MAX_TEXT_BYTES + 1), "too large"),
        ("é" * (MAX_TEXT_BYTES // 2 + 1), "too large"),
        (None, "string"),
        (7, "string"),
    ],
)
def test_a_bad_prompt_is_refused_with_the_reason(prompt: Any, says: str) -> None:
    assert says in str(reason(InteractionDraft, prompt=prompt, completion="ok"))


def test_the_longest_allowed_text_passes() -> None:
    InteractionDraft(prompt="é" * (MAX_TEXT_BYTES // 2), completion="")


def test_a_too_large_text_is_its_own_error_and_names_the_limit() -> None:
    error = reason(InteractionDraft, prompt="x" * 10_000_000, completion="ok")
    assert isinstance(error, TooLarge)
    assert "1,000,000" in str(error)
    assert len(str(error)) < 200


@pytest.mark.parametrize(
    "data", [{"a": float("inf")}, {"a": [float("nan")]}, {"a": {"b": "\0"}}, {"\ud800": 1}]
)
def test_json_that_a_database_cannot_hold_is_refused(data: dict[str, Any]) -> None:
    assert reason(InteractionDraft, prompt="p", completion="c", action_data=data)


def test_json_nested_without_end_is_refused() -> None:
    nested: dict[str, Any] = {}
    for _ in range(100):
        nested = {"a": nested}
    assert "nested" in str(reason(InteractionDraft, prompt="p", completion="c", extra=nested))


def test_feedback_that_says_nothing_is_refused() -> None:
    assert "says nothing" in str(reason(FeedbackDraft, rater="r"))


def test_a_label_needs_its_step() -> None:
    assert "step" in str(reason(FeedbackDraft, label=1))


def test_feedback_on_a_step_that_is_not_there_is_refused() -> None:
    error = reason(
        InteractionDraft,
        prompt="p",
        completion="c",
        steps=[{"content": "one"}],
        feedback=[{"label": 1, "step": 1}],
    )
    assert "step 1" in str(error)


def test_a_span_beyond_the_completion_is_refused() -> None:
    feedback = [{"spans": [{"start_at": 0, "end_at": 9, "tag": "wrong"}]}]
    assert "span ends at 9" in str(
        reason(InteractionDraft, prompt="p", completion="short", feedback=feedback)
    )


def test_an_unknown_field_is_refused_not_dropped() -> None:
    assert reason(InteractionDraft, prompt="p", completion="c", complettion="typo").field


def test_a_moment_without_a_zone_is_read_as_utc() -> None:
    draft = FeedbackDraft.model_validate({"thumb": 1, "occurred_at": "2023-05-19T13:11:45"})
    assert draft.occurred_at == datetime(2023, 5, 19, 13, 11, 45, tzinfo=UTC)


def test_equal_content_has_one_identity_and_other_content_another() -> None:
    first = InteractionDraft(prompt="p", completion="c")
    assert first.identity() == InteractionDraft(prompt="p", completion="c").identity()
    assert first.identity() != InteractionDraft(prompt="pc", completion="").identity()
    assert InteractionDraft(prompt="p", completion="c", external_id="7").identity() == "7"


def test_prompts_that_differ_in_case_and_white_space_form_one_group() -> None:
    assert prompt_hash("Book  a\nslot ") == prompt_hash("book a slot")
    assert prompt_hash("book a slot") != prompt_hash("book two slots")


def test_a_comparison_knows_four_outcomes() -> None:
    for choice in ("left", "right", "tie", "both_bad"):
        ComparisonDraft.model_validate({"left": "a", "right": "b", "choice": choice})
    assert reason(ComparisonDraft, left="a", right="b", choice="a").field == "choice"


@pytest.mark.parametrize("step", [MAX_STEPS, 2**31, 10**20])
def test_a_step_beyond_the_most_an_interaction_can_have_is_refused(step: int) -> None:
    assert reason(FeedbackDraft, label=1, step=step).field == "step"
    FeedbackDraft(label=1, step=MAX_STEPS - 1)


@pytest.mark.parametrize("end", [MAX_TEXT_BYTES + 1, 2**31, 10**20])
def test_a_span_beyond_the_longest_text_is_refused(end: int) -> None:
    for start in (0, end - 1):
        spans = [{"start_at": start, "end_at": end, "tag": "wrong"}]
        assert "spans" in (reason(FeedbackDraft, spans=spans).field or "")
