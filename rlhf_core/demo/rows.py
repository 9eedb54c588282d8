"""The demo world as rows for the database, each with an id that follows from the seed."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rlhf_core.clock import to_moment_text
from rlhf_core.demo.people import RATERS, Voices, user_name
from rlhf_core.demo.world import World
from rlhf_core.feedback.drafts import prompt_hash
from rlhf_core.vocabulary import DEMO_SOURCE, AssignmentState, QueueItemKind, RaterKind

Row = tuple[Any, ...]
Table = tuple[str, tuple[str, ...], list[Row]]
"""A table's name, its columns, and rows of values in their order."""

QUEUE_NAME = "Demo: check your eye"

INTERACTION_COLUMNS = (
    "id", "source", "external_id", "chat_id", "message_id", "turn", "user_pseudonym", "prompt",
    "prompt_hash", "completion", "action_type", "action_data", "model_name", "language", "is_demo",
    "occurred_at", "created_at",
)  # fmt: skip
STEP_COLUMNS = ("id", "interaction_id", "position", "kind", "content")
RATER_COLUMNS = ("id", "pseudonym", "rater_kind", "is_demo", "created_at")
FEEDBACK_COLUMNS = (
    "id", "interaction_id", "step_id", "rater_id", "occasion", "source", "external_id", "thumb",
    "rating", "label", "comment", "correction", "duration_s", "queue_id", "revision",
    "occurred_at", "created_at", "updated_at",
)  # fmt: skip
ASPECT_COLUMNS = ("feedback_id", "name", "rating")
COMPARISON_COLUMNS = (
    "id", "left_interaction_id", "right_interaction_id", "rater_id", "occasion", "source",
    "external_id", "choice", "strength", "is_blind", "occurred_at", "created_at",
)  # fmt: skip
EVENT_COLUMNS = (
    "id", "source", "external_id", "name", "session_key", "user_pseudonym", "interaction_id",
    "properties", "is_demo", "occurred_at", "created_at",
)  # fmt: skip
QUEUE_COLUMNS = (
    "id", "name", "instructions", "order", "overlap", "gold_rate", "repeat_rate", "is_blind",
    "lease_s", "is_demo", "created_at",
)  # fmt: skip
ITEM_COLUMNS = (
    "id", "queue_id", "interaction_id", "kind", "priority", "gold_answer", "created_at",
)  # fmt: skip
ASSIGNMENT_COLUMNS = (
    "id", "queue_item_id", "slot", "rater_id", "state", "leased_at", "lease_expires_at",
    "finished_at", "feedback_id",
)  # fmt: skip


def build_tables(
    world: World, voices: Voices, *, now: datetime, pseudonym_of: Callable[[str], str]
) -> list[Table]:
    """All rows, in an order in which each finds what it refers to."""
    return _Builder(world, voices, now, pseudonym_of).build()


class _Builder:
    def __init__(
        self, world: World, voices: Voices, now: datetime, pseudonym_of: Callable[[str], str]
    ) -> None:
        self._world = world
        self._voices = voices
        self._now = to_moment_text(now)
        self._now_at = now
        self._pseudonyms: dict[str, str] = {}
        self._pseudonym_of = pseudonym_of
        self._raters: dict[str, str] = {}
        self._at = {one.number: one.at for one in world.exchanges}

    def build(self) -> list[Table]:
        return [
            ("raters", RATER_COLUMNS, self._rater_rows()),
            ("interactions", INTERACTION_COLUMNS, self._interactions()),
            ("reasoning_steps", STEP_COLUMNS, self._steps()),
            ("rating_queues", QUEUE_COLUMNS, self._queues()),
            ("rating_queue_items", ITEM_COLUMNS, self._items()),
            *self._feedback(),
            ("rating_assignments", ASSIGNMENT_COLUMNS, self._assignments()),
            ("comparisons", COMPARISON_COLUMNS, self._comparisons()),
            ("events", EVENT_COLUMNS, self._events()),
        ]

    def _id(self, kind: str, number: object, at: datetime) -> str:
        """A version 7 UUID: the moment, then a hash instead of chance."""
        name = f"{self._world.seed}:{kind}:{number}"
        noise = hashlib.blake2b(name.encode(), digest_size=10).hexdigest()
        moment = f"{int(at.timestamp() * 1000):012x}"
        return f"{moment}7{noise[:3]}{'89ab'[int(noise[3], 16) & 3]}{noise[4:19]}"

    def _of(self, exchange: int) -> str:
        return self._id("interaction", exchange, self._at[exchange])

    def _step(self, exchange: int, position: int) -> str:
        return self._id("step", f"{exchange}.{position}", self._at[exchange])

    def _queue(self) -> str:
        return self._id("queue", 0, self._now_at)

    def _pseudonym(self, name: str) -> str:
        if name not in self._pseudonyms:
            self._pseudonyms[name] = self._pseudonym_of(name)
        return self._pseudonyms[name]

    def _rater_rows(self) -> list[Row]:
        kinds = {rater.name: RaterKind.SME for rater in RATERS}
        for opinion in self._voices.opinions:
            kinds.setdefault(opinion.rater, opinion.rater_kind)
        self._raters = {name: self._id("rater", name, self._now_at) for name in kinds}
        return [
            (self._raters[name], self._pseudonym(name), kind.value, 1, self._now)
            for name, kind in kinds.items()
        ]

    def _interactions(self) -> list[Row]:
        return [
            (
                self._of(one.number),
                DEMO_SOURCE,
                f"demo-{self._world.seed}-{one.number}",
                f"demo-session-{one.session}",
                f"{one.session}.{one.turn}",
                one.turn,
                self._pseudonym(user_name(one.user)),
                one.request.prompt,
                prompt_hash(one.request.prompt),
                one.answer.text,
                one.answer.done.name,
                json.dumps(one.action_data),
                one.release,
                "en",
                1,
                to_moment_text(one.at),
                self._now,
            )
            for one in self._world.exchanges
        ]

    def _steps(self) -> list[Row]:
        return [
            (self._step(one.number, position), self._of(one.number), position, step.kind,
             step.content)
            for one in self._world.exchanges
            for position, step in enumerate(one.steps)
        ]  # fmt: skip

    def _queues(self) -> list[Row]:
        about = "Rate each answer from 1 to 5. Of some the right rating is known."
        return [(self._queue(), QUEUE_NAME, about, "oldest_first", 2, 0.2, 0.0, 1, 1800, 1,
                 self._now)]  # fmt: skip

    def _items(self) -> list[Row]:
        rows = []
        for place, item in enumerate(self._voices.queue):
            gold = None if item.gold_rating is None else json.dumps({"rating": item.gold_rating})
            kind = QueueItemKind.NORMAL if gold is None else QueueItemKind.GOLD
            rows.append(
                (self._id("item", place, self._now_at), self._queue(), self._of(item.exchange),
                 kind.value, -float(place), gold, self._now)
            )  # fmt: skip
        return rows

    def _feedback(self) -> list[Table]:
        rows: list[Row] = []
        aspects: list[Row] = []
        for number, said in enumerate(self._voices.opinions):
            own = self._id("feedback", number, said.at)
            at = to_moment_text(said.at)
            step = None if said.step is None else self._step(said.exchange, said.step)
            rows.append(
                (own, self._of(said.exchange), step, self._raters[said.rater], 0, DEMO_SOURCE,
                 f"demo-{self._world.seed}-{number}", said.thumb, said.rating, said.label,
                 said.comment, said.correction, said.duration_s,
                 self._queue() if said.is_gold_item else None, 0, at, at, at)
            )  # fmt: skip
            aspects += ((own, name, rating) for name, rating in said.aspects.items())
        return [("feedback", FEEDBACK_COLUMNS, rows), ("feedback_aspects", ASPECT_COLUMNS, aspects)]

    def _assignments(self) -> list[Row]:
        """That all raters judged the queue's items whose answer is known."""
        place_of = {item.exchange: place for place, item in enumerate(self._voices.queue)}
        slots: Counter[int] = Counter()
        rows: list[Row] = []
        for number, said in enumerate(self._voices.opinions):
            if not said.is_gold_item:
                continue
            place, at = place_of[said.exchange], to_moment_text(said.at)
            rows.append(
                (self._id("assignment", number, said.at), self._id("item", place, self._now_at),
                 slots[place], self._raters[said.rater], AssignmentState.DONE.value, at, at, at,
                 self._id("feedback", number, said.at))
            )  # fmt: skip
            slots[place] += 1
        return rows

    def _comparisons(self) -> list[Row]:
        return [
            (self._id("comparison", number, one.at), self._of(one.left), self._of(one.right),
             self._raters[one.rater], 0, DEMO_SOURCE, f"demo-{self._world.seed}-{number}",
             one.choice.value, one.strength, 1, to_moment_text(one.at), to_moment_text(one.at))
            for number, one in enumerate(self._voices.comparisons)
        ]  # fmt: skip

    def _events(self) -> list[Row]:
        return [
            (self._id("event", number, one.at), DEMO_SOURCE, f"demo-{self._world.seed}-{number}",
             one.name, f"demo-session-{one.session}", self._pseudonym(user_name(one.user)),
             None if one.exchange is None else self._of(one.exchange),
             json.dumps(one.properties) if one.properties else None, 1, to_moment_text(one.at),
             self._now)
            for number, one in enumerate(self._world.happenings)
        ]  # fmt: skip
