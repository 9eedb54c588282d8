"""The native format: JSON Lines, UTF-8, one object a line; unknown fields are refused.

An **interaction** holds `prompt` and `completion`, and if you like `source` and `external_id`
(together its identity; without an `external_id` a hash of the content is one), `chat_id`,
`message_id`, `turn`, `user` (an id outside, stored as a keyed pseudonym), `context` (earlier
messages, each with `role` and `content`), `action_type`, `action_data` (any JSON object),
`model_name`, `language`, `occurred_at` (ISO 8601, UTC where no zone is given), `extra` (any JSON
object), and

- `steps`: each with `content`, `kind`, `external_id`; their order is their position from 0;
- `feedback`: each with `thumb` (1, 0, -1), `rating` (1 to 5), `label` of a step (1, 0, -1), `step`
  (position of the step it is on), `comment`, `correction`, `aspects` (name to 1..5), `spans`
  (`start_at`, `end_at`, `tag`, `note`; characters of the completion), `rater` (an id outside),
  `rater_kind` (sme, end_user, model), `occasion` (0; 1, 2, ... where one rater rates the same thing
  again), `duration_s`, `occurred_at`, `external_id`, `source`, `extra`;
- `comparisons`: as below, without the outer object.

A line `{"comparison": {...}}` holds `left` and `right` (external ids), `choice` (left, right, tie,
both_bad), `strength` (1 to 3), `reason`, `rater`, `rater_kind`, `occasion`, `is_blind`,
`duration_s`, `occurred_at`, `external_id`, `source`, `left_source`, `right_source`, `extra`.
A line `{"interaction": "external id", "source": "...", "feedback": [...]}` adds feedback to an
interaction that stands elsewhere in the file or is stored already.

Feedback without `rater` counts for the interaction's `user` where its kind is end_user, else for
one anonymous rater of its source. A `rater` or `user` of the
form `u_` and 32 hexadecimal digits is a pseudonym already and kept, so that an exported file can be
imported elsewhere. Where one rater rates the same thing again without naming an `occasion`, the
next free one is taken. `tests/data/native_example.jsonl` shows every field.
"""

import re

from pydantic import Field

from rlhf_core.feedback.drafts import (
    ComparisonDraft,
    Draft,
    FeedbackDraft,
    InteractionDraft,
    Name,
)
from rlhf_core.interchange.bundle import Bundle, ComparisonItem, FeedbackItem, Key
from rlhf_core.interchange.decode import decode_object

_LOOSE = re.compile(rb'\s*\{\s*"(comparison|interaction)"\s*:')


class NativeFeedback(FeedbackDraft):
    """Feedback with the source it was recorded under (default: the interaction's)."""

    source: Name | None = None


class NativeComparison(ComparisonDraft):
    """A comparison with its own source and, where they differ, those of its sides."""

    source: Name | None = None
    left_source: Name | None = None
    right_source: Name | None = None


class NativeInteraction(InteractionDraft):
    """An interaction with comparisons inside."""

    feedback: list[NativeFeedback] = Field(  # type: ignore[assignment]  # a narrower list is meant
        default_factory=list, max_length=10_000
    )
    comparisons: list[NativeComparison] = Field(default_factory=list, max_length=1_000)


class LooseComparison(Draft):
    """A line that holds only a comparison."""

    comparison: NativeComparison


class LooseFeedback(Draft):
    """A line that holds only feedback on an interaction given elsewhere."""

    interaction: Name
    source: Name | None = None
    feedback: list[NativeFeedback] = Field(min_length=1, max_length=10_000)


class NativeParser:
    """Lines of the native format.

    `source` stands in where a line names none; with `forced` it replaces those that do.
    """

    def __init__(self, *, source: str, forced: bool) -> None:
        self._source = source
        self._forced = forced

    def __call__(self, line: bytes) -> Bundle:
        """The drafts of one line.

        Raises:
            pydantic.ValidationError: the line is no JSON, or a draft breaks a rule.
        """
        bundle = Bundle()
        kind = _kind(line)
        if kind == "comparison":
            comparison = LooseComparison.model_validate_json(line).comparison
            self._add_comparison(bundle, comparison, self._source)
        elif kind == "interaction":
            loose = LooseFeedback.model_validate_json(line)
            source = self._choose(loose.source, self._source)
            self._add_feedback(bundle, Key(source, loose.interaction), loose.feedback)
        else:
            draft = NativeInteraction.model_validate_json(line)
            named = draft.source if "source" in draft.model_fields_set else None
            key = Key(self._choose(named, self._source), draft.identity())
            bundle.interactions.append((key, draft))
            self._add_feedback(bundle, key, draft.feedback)
            for item in draft.comparisons:
                self._add_comparison(bundle, item, key.source)
        return bundle

    def _choose(self, named: str | None, default: str) -> str:
        return self._source if self._forced else named or default

    def _add_feedback(self, bundle: Bundle, key: Key, feedback: list[NativeFeedback]) -> None:
        for item in feedback:
            source = self._choose(item.source, key.source)
            bundle.feedback.append(FeedbackItem(key, source, item))

    def _add_comparison(self, bundle: Bundle, draft: NativeComparison, default: str) -> None:
        source = self._choose(draft.source, default)
        bundle.comparisons.append(
            ComparisonItem(
                left=Key(self._choose(draft.left_source, source), draft.left),
                right=Key(self._choose(draft.right_source, source), draft.right),
                source=source,
                draft=draft,
            )
        )


def _kind(line: bytes) -> str:
    if match := _LOOSE.match(line):
        return match[1].decode()
    if b'"prompt"' not in line:
        data = decode_object(line)
        return next((kind for kind in ("comparison", "interaction") if kind in data), "")
    return ""
