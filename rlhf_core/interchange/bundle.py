"""What one line of a file says, whatever its format: validated drafts and where they belong."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rlhf_core.feedback.drafts import ComparisonDraft, FeedbackDraft, InteractionDraft


class Key(NamedTuple):
    """Identity of an interaction, of feedback or of a comparison."""

    source: str
    external_id: str


@dataclass(slots=True)
class FeedbackItem:
    """Feedback, the interaction it is on, and the source it was recorded under."""

    target: Key
    source: str
    draft: FeedbackDraft


@dataclass(slots=True)
class ComparisonItem:
    """A comparison, its two interactions, and the source it was recorded under."""

    left: Key
    right: Key
    source: str
    draft: ComparisonDraft


@dataclass(slots=True)
class Bundle:
    """All that one line says. Stored wholly or not at all."""

    interactions: list[tuple[Key, InteractionDraft]] = field(default_factory=list)
    feedback: list[FeedbackItem] = field(default_factory=list)
    comparisons: list[ComparisonItem] = field(default_factory=list)

    def add_interaction(self, source: str, draft: InteractionDraft) -> Key:
        """Add an interaction with the feedback inside it; return its identity."""
        key = Key(source, draft.identity())
        self.interactions.append((key, draft))
        self.feedback += [FeedbackItem(key, source, item) for item in draft.feedback]
        return key

    def add_comparison(self, source: str, draft: ComparisonDraft) -> None:
        """Add a comparison of two interactions of `source`."""
        left, right = Key(source, draft.left), Key(source, draft.right)
        self.comparisons.append(ComparisonItem(left, right, source, draft))


RawRow = Any
"""One line as the reader gives it: bytes of JSON, the cells of a CSV row, or a dict."""

ParseRow = Callable[[RawRow], Bundle]
"""Turns a row into a bundle; raises `RlhfError` or Pydantic's ValidationError on a broken rule."""
