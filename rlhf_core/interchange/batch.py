"""What a batch of lines adds to the database: decided line by line, each wholly or not at all.

Nothing is written here. `Known` holds what is stored already and what earlier lines of the batch
add; a line's own additions go over into it when the whole line is good.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.interchange.lookup import Slot, Target
from rlhf_core.interchange.prepare import (
    COMPARISON_VALUES,
    FEEDBACK_VALUES,
    INTERACTION_COLUMNS,
    KeyPair,
    PreparedComparison,
    PreparedFeedback,
    PreparedInteraction,
    PreparedLine,
)

MAX_OCCASION = 1000
FEEDBACK_COLUMNS = (
    "id", "interaction_id", "step_id", "rater_id", "occasion", "source", "external_id",
    *FEEDBACK_VALUES, "revision", "created_at", "updated_at",
)  # fmt: skip
COMPARISON_COLUMNS = (
    "id", "left_interaction_id", "right_interaction_id", "rater_id", "occasion", "source",
    "external_id", *COMPARISON_VALUES, "created_at",
)  # fmt: skip
ASPECT_COLUMNS = ("feedback_id", "name", "rating")
SPAN_COLUMNS = ("id", "feedback_id", "start_at", "end_at", "tag", "note")
_PROMPT_HASH = INTERACTION_COLUMNS.index("prompt_hash")
_COMPLETION = INTERACTION_COLUMNS.index("completion")
_OCCURRED = INTERACTION_COLUMNS.index("occurred_at")
_FEEDBACK_OCCURRED = FEEDBACK_COLUMNS.index("occurred_at")
DAY = 10  # characters of `YYYY-MM-DD`


class Items:
    """All that some lines hold, one list a kind."""

    def __init__(self, lines: Iterable[PreparedLine]) -> None:
        self.interactions: list[PreparedInteraction] = []
        self.feedback: list[PreparedFeedback] = []
        self.comparisons: list[PreparedComparison] = []
        for _number, _reason, interactions, feedback, comparisons in lines:
            self.interactions += interactions
            self.feedback += feedback
            self.comparisons += comparisons

    def keys(self) -> set[KeyPair]:
        """All interactions that the lines hold or refer to."""
        keys = {item.key for item in self.interactions}
        keys.update([item.target for item in self.feedback])
        keys.update([item.left for item in self.comparisons])
        keys.update([item.right for item in self.comparisons])
        return keys


@dataclass(slots=True)
class Known:
    """What the lines of a batch may refer to or repeat; `opted_out` holds pseudonyms."""

    targets: dict[KeyPair, Target]
    feedback: dict[KeyPair, str]
    comparisons: dict[KeyPair, str]
    raters: dict[str, str]
    feedback_occasions: dict[Slot, set[int]] = field(default_factory=dict)
    comparison_occasions: dict[Slot, set[int]] = field(default_factory=dict)
    opted_out: frozenset[str] = frozenset()


@dataclass(slots=True)
class Additions:
    """Rows to insert, by table; for each feedback row also the day of its interaction."""

    interactions: list[tuple[Any, ...]] = field(default_factory=list)
    steps: list[tuple[Any, ...]] = field(default_factory=list)
    feedback: list[tuple[Any, ...]] = field(default_factory=list)
    target_days: list[str] = field(default_factory=list)
    aspects: list[tuple[Any, ...]] = field(default_factory=list)
    spans: list[tuple[Any, ...]] = field(default_factory=list)
    comparisons: list[tuple[Any, ...]] = field(default_factory=list)

    def lists(self) -> tuple[list[Any], ...]:
        """All the lists."""
        return (
            self.interactions, self.steps, self.feedback, self.target_days, self.aspects,
            self.spans, self.comparisons,
        )  # fmt: skip

    def days(self) -> set[str]:
        """The days whose counts change."""
        days = {row[_OCCURRED][:DAY] for row in self.interactions}
        days.update(row[_FEEDBACK_OCCURRED][:DAY] for row in self.feedback)
        days.update(self.target_days)
        return days


class BatchPlan:
    """What the lines of a batch add, line after line; a refused line leaves nothing behind.

    `now` is the moment of the import as text.
    """

    def __init__(self, known: Known, now: str) -> None:
        self._known = known
        self._now = now
        self.added = Additions()
        self._lists = self.added.lists()
        self._named: list[tuple[dict[KeyPair, Any], KeyPair]] = []
        self._taken: list[tuple[set[int], int]] = []

    def add(self, line: PreparedLine) -> bool:
        """Add the whole line; return whether anything in it is new.

        Raises:
            NotFound: it is on an interaction that is not there (yet).
            InvalidInput: it contradicts what is stored.
        """
        self._named.clear()
        self._taken.clear()
        before = list(map(len, self._lists))
        try:
            for interaction in line.interactions:
                self._add_interaction(interaction)
            for feedback in line.feedback:
                self._add_feedback(feedback)
            for comparison in line.comparisons:
                self._add_comparison(comparison)
        except (InvalidInput, NotFound):
            self._take_back(before)
            raise
        return bool(self._named)

    def _take_back(self, before: list[int]) -> None:
        for rows, length in zip(self._lists, before, strict=True):
            del rows[length:]
        for names, key in self._named:
            del names[key]
        for occasions, occasion in self._taken:
            occasions.discard(occasion)

    def _add_interaction(self, item: PreparedInteraction) -> None:
        targets, row = self._known.targets, item.row
        target = targets.get(item.key)
        if target is None:
            steps = [step[0] for step in item.steps]
            targets[item.key] = Target(
                row[0], row[_PROMPT_HASH], row[_COMPLETION], row[_OCCURRED][:DAY], steps
            )
            self.added.interactions.append(row)
            self.added.steps += item.steps
            self._named.append((targets, item.key))
            return
        if target.prompt_hash != row[_PROMPT_HASH] or target.completion != row[_COMPLETION]:
            raise InvalidInput(
                f"external_id: {_name(item.key)} is an interaction with another text already; "
                "give each its own id, or another --source",
                field="external_id",
            )
        if item.steps and len(item.steps) != len(target.step_ids):
            raise InvalidInput(
                f"steps: {_name(item.key)} is stored with {len(target.step_ids)} steps, "
                f"here it has {len(item.steps)}",
                field="steps",
            )

    def _add_feedback(self, item: PreparedFeedback) -> None:
        target, known = self._need(item.target), self._known.feedback
        owner = known.get(item.key)
        if owner is not None:
            if owner != target.id:
                raise InvalidInput(
                    f"feedback: the id {_name(item.key)} is that of feedback on another "
                    "interaction; give each its own",
                    field="feedback.external_id",
                )
            return
        self._refuse_opted_out(item.rater[0])
        step_id = None
        if item.step is not None:
            if item.step >= len(target.step_ids):
                raise InvalidInput(
                    f"feedback names step {item.step}, the interaction "
                    f"{_name(item.target)} has {len(target.step_ids)} steps",
                    field="feedback.step",
                )
            step_id = target.step_ids[item.step]
        if item.reach > len(target.completion):
            raise InvalidInput(
                f"span ends at {item.reach}, "
                f"the completion has {len(target.completion)} characters",
                field="feedback.spans",
            )
        rater_id = self._known.raters[item.rater[0]]
        slot = (target.id, step_id, rater_id)
        occasion = self._take_occasion(True, slot, item.occasion, "completion")
        own = item.id
        added = self.added
        added.feedback.append(
            (own, *slot, occasion, *item.key, *item.values, 0, self._now, self._now)
        )
        if item.aspects:
            added.aspects += [(own, *aspect) for aspect in item.aspects]
        added.spans += item.spans
        added.target_days.append(target.day)
        known[item.key] = target.id
        self._named.append((known, item.key))

    def _add_comparison(self, item: PreparedComparison) -> None:
        left, right = self._need(item.left), self._need(item.right)
        if left.id == right.id:
            raise InvalidInput(
                f"comparison: left and right are the same interaction, {_name(item.left)}",
                field="comparison",
            )
        if left.prompt_hash != right.prompt_hash:
            raise InvalidInput(
                f"comparison: {_name(item.left)} and {_name(item.right)} answer different prompts",
                field="comparison",
            )
        owner = self._known.comparisons.get(item.key)
        if owner is not None:
            if owner != left.id:
                raise InvalidInput(
                    f"comparison: the id {_name(item.key)} is that of another comparison; "
                    "give each its own",
                    field="comparison.external_id",
                )
            return
        self._refuse_opted_out(item.rater[0])
        slot = (left.id, right.id, self._known.raters[item.rater[0]])
        occasion = self._take_occasion(False, slot, item.occasion, "comparison")
        own = item.id
        self.added.comparisons.append((own, *slot, occasion, *item.key, *item.values, self._now))
        self._known.comparisons[item.key] = left.id
        self._named.append((self._known.comparisons, item.key))

    def _take_occasion(self, is_feedback: bool, slot: Slot, wanted: int | None, what: str) -> int:
        slots = self._known.feedback_occasions if is_feedback else self._known.comparison_occasions
        taken = slots.get(slot)
        if taken is None:
            taken = slots[slot] = set()
        if wanted in taken:
            raise InvalidInput(
                f"occasion: this rater has rated this {what} at occasion {wanted} already; "
                "leave the occasion out to take the next free one",
                field="occasion",
            )
        occasion = wanted
        if occasion is None:
            occasion = max(taken) + 1 if taken else 0
        if occasion > MAX_OCCASION:
            raise InvalidInput(
                f"occasion: this rater has rated this {what} {MAX_OCCASION + 1} times already; "
                "give the raters names",
                field="occasion",
            )
        taken.add(occasion)
        self._taken.append((taken, occasion))
        return occasion

    def _refuse_opted_out(self, pseudonym: str) -> None:
        if pseudonym in self._known.opted_out:
            raise InvalidInput(
                "feedback: this user opted out of giving feedback; leave theirs out",
                field="feedback.rater",
            )

    def _need(self, key: KeyPair) -> Target:
        target = self._known.targets.get(key)
        if target is None:
            raise NotFound(f"there is no interaction {_name(key)}, neither here nor stored")
        return target


def _name(key: KeyPair) -> str:
    source, external_id = key
    return f"{external_id!r} (source {source!r})"
