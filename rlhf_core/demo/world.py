"""Sixty days of an assistant for tasks, appointments and clean-energy careers.

Everything follows from a seed. Three versions of the assistant answered, each better than the one
before; the second had one bad day; all of them overlook time zones when an appointment is moved.
"""

import math
import random
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from rlhf_core.demo.gold import gold_score
from rlhf_core.demo.grammar import Answer, Flaw, Request, draw_answer, draw_request
from rlhf_core.demo.reasoning import Step, draw_steps

NUM_DAYS = 60
NUM_INTERACTIONS = 3_000
REGRESSION_DAY = 33
REGRESSION_FACTOR = 1.9
ZONE_FAILURE = 0.85
"""How often each version overlooks a time zone that the person named."""
ASK_AGAIN = 0.2

FLAW_RATES: dict[Flaw, float] = {
    Flaw.WRONG_ACTION: 0.12,
    Flaw.WRONG_DETAIL: 0.10,
    Flaw.BOAST: 0.24,
    Flaw.BALD: 0.32,
    Flaw.NO_STEP: 0.34,
    Flaw.RUDE: 0.14,
    Flaw.TOO_SHORT: 0.03,
    Flaw.TOO_LONG: 0.03,
}


@dataclass(frozen=True)
class Release:
    """A version of the assistant, the days on which it answered, and how faulty it was."""

    name: str
    first_day: int
    last_day: int
    factor: float


RELEASES = (
    Release("assistant-1", 0, 21, 1.35),
    Release("assistant-2", 19, 42, 0.95),
    Release("assistant-3", 40, 59, 0.62),
)


@dataclass(frozen=True)
class Exchange:
    """One request and its answer. `gold` is what the rule says of the answer, 0..1."""

    number: int
    session: int
    turn: int
    user: int
    request: Request
    answer: Answer
    flaws: frozenset[Flaw]
    steps: tuple[Step, ...]
    release: str
    at: datetime
    gold: float

    @property
    def action_data(self) -> dict[str, Any]:
        """What the assistant did, as data."""
        done, said = self.answer.done, self.answer.said
        names = [name for name in ("thing", "visit", "role", "day", "time", "region")
                 if f"{{{name}}}" in done.wish.replace("{a_", "{")]  # fmt: skip
        data: dict[str, Any] = {name: said[name] for name in names}
        return data | {"time_zone": self.request.zone} if self.request.zone else data


@dataclass(frozen=True)
class Happening:
    """Something that a user did: a step of the funnel, in a session."""

    name: str
    session: int
    user: int
    exchange: int | None
    at: datetime
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """All that happened, in the order of time."""

    seed: int
    ends_at: datetime
    exchanges: tuple[Exchange, ...]
    happenings: tuple[Happening, ...]


def build_world(*, seed: int = 0, ends_at: datetime) -> World:
    """The world whose last day is the day before `ends_at`; the same for the same arguments.

    Nothing in it happens after `ends_at`.
    """
    midnight = ends_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return _Builder(seed, midnight - timedelta(days=NUM_DAYS), ends_at).build()


class _Builder:
    """Lets users come and go, day by day."""

    def __init__(self, seed: int, starts_at: datetime, ends_at: datetime) -> None:
        self._rng = random.Random(f"demo:{seed}")
        self._seed = seed
        self._starts_at = starts_at
        self._ends_at = ends_at
        self._exchanges: list[Exchange] = []
        self._happenings: list[Happening] = []
        self._moods: list[float] = []  # by user: how glad the last visit left them
        self._sessions = 0

    def build(self) -> World:
        for day, wanted in enumerate(_share_out(self._starts_at)):
            until = len(self._exchanges) + wanted
            while len(self._exchanges) < until:
                self._visit(day, until - len(self._exchanges))
        exchanges = sorted(self._exchanges, key=lambda one: (one.at, one.number))
        happenings = sorted(self._happenings, key=lambda one: one.at)
        return World(self._seed, self._ends_at, tuple(exchanges), tuple(happenings))

    def _visit(self, day: int, at_most: int) -> None:
        """One session: a few requests, some of them asked again."""
        rng = self._rng
        session, self._sessions = self._sessions, self._sessions + 1
        user = self._pick_user()
        at = self._starts_at + timedelta(days=day, hours=7, minutes=rng.random() * 14 * 60)
        self._happen("visit", session, user, None, at)
        num_turns = min(at_most, rng.choice((1, 1, 1, 2, 2, 3, 4)))
        request: Request | None = None
        gold = 0.5
        for turn in range(num_turns):
            at += timedelta(seconds=rng.uniform(20, 200))
            if request is None or rng.random() >= ASK_AGAIN * 2:
                request = draw_request(rng)
            exchange = self._answer(day, session, turn, user, request, at)
            gold = exchange.gold
            self._use(exchange)
        self._moods[user] = gold

    def _pick_user(self) -> int:
        """A user who was here before, sooner where the last answer was good; or a new one."""
        rng = self._rng
        if self._moods and rng.random() < 0.68:
            for _ in range(8):
                user = rng.randrange(len(self._moods))
                if rng.random() < 0.15 + 0.75 * self._moods[user]:
                    return user
        self._moods.append(0.5)
        return len(self._moods) - 1

    def _answer(
        self, day: int, session: int, turn: int, user: int, request: Request, at: datetime
    ) -> Exchange:
        rng = self._rng
        release = rng.choice([one for one in RELEASES if one.first_day <= day <= one.last_day])
        factor = release.factor * (REGRESSION_FACTOR if day == REGRESSION_DAY else 1.0)
        flaws = draw_flaws(rng, request, factor)
        answer = draw_answer(rng, request, flaws)
        exchange = Exchange(
            number=len(self._exchanges),
            session=session,
            turn=turn,
            user=user,
            request=request,
            answer=answer,
            flaws=flaws,
            steps=draw_steps(rng, request, answer, flaws),
            release=release.name,
            at=at,
            gold=gold_score(request.prompt, answer.text),
        )
        self._exchanges.append(exchange)
        return exchange

    def _use(self, exchange: Exchange) -> None:
        """The funnel: whoever got a good answer goes on sooner."""
        rng = self._rng
        at = exchange.at
        chances = (("ask", 1.0, 1.0), ("read", 0.95, 0.9), ("confirm", 0.8, 0.25),
                   ("complete", 0.75, 0.4))  # fmt: skip
        for name, if_good, if_bad in chances:
            share = exchange.gold * if_good + (1 - exchange.gold) * if_bad
            if rng.random() > share:
                return
            self._happen(name, exchange.session, exchange.user, exchange.number, at,
                         action_type=exchange.request.intent.name)  # fmt: skip
            at += timedelta(seconds=rng.expovariate(1 / 30))

    def _happen(
        self,
        name: str,
        session: int,
        user: int,
        exchange: int | None,
        at: datetime,
        **properties: Any,
    ) -> None:
        self._happenings.append(Happening(name, session, user, exchange, at, properties))


def draw_flaws(rng: random.Random, request: Request, factor: float) -> frozenset[Flaw]:
    """The flaws of an answer by a version that has each `factor` times as often as usual."""
    rates = {flaw: min(0.9, rate * factor) for flaw, rate in FLAW_RATES.items()}
    if request.zone is not None:
        rates[Flaw.WRONG_DETAIL] = ZONE_FAILURE
    drawn: Collection[Flaw] = [flaw for flaw, rate in rates.items() if rng.random() < rate]
    return frozenset(drawn)


def _share_out(starts_at: datetime) -> list[int]:
    """Interactions a day: a little more each week, fewer at weekends; NUM_INTERACTIONS in all."""
    weights = []
    for day in range(NUM_DAYS):
        is_weekend = (starts_at + timedelta(days=day)).weekday() >= 5
        weights.append((1.0 + day / NUM_DAYS) * (0.55 if is_weekend else 1.0))
    total, counts, given = math.fsum(weights), [], 0
    for day in range(NUM_DAYS):
        until = round(NUM_INTERACTIONS * math.fsum(weights[: day + 1]) / total)
        counts.append(until - given)
        given = until
    return counts
