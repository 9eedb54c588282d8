"""What people said of the demo world's answers: eight raters of different care, and its users.

They know the gold rule as people know what is good: more or less. What they say is what training
sees; the rule itself never is.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rlhf_core.demo.gold import APPROVED
from rlhf_core.demo.grammar import Flaw, draw_answer
from rlhf_core.demo.world import Exchange, World
from rlhf_core.vocabulary import Choice, RaterKind

RATED_SHARE = 0.66
THUMB_SHARE = 0.3
STEPPED_SHARE = 0.16
NUM_GOLD_ITEMS = 15
NUM_QUEUE_ITEMS = 60
MAX_CORRECTIONS = 160
USER_NOISE = 0.10
TIE_GAP = 0.12
MISSED = 1.6
"""The best rating of an answer by which somebody comes at the wrong hour."""
COMMENTS: dict[str, tuple[str, ...]] = {
    Flaw.WRONG_ACTION: ("That is not what was asked for.", "It did something else."),
    Flaw.WRONG_DETAIL: ("The details are wrong.", "Check the day and the time again."),
    Flaw.BOAST: ("Nobody can promise that.", "Too good to be true."),
    Flaw.BALD: ("States a guess as a fact.", "This varies, and it should say so."),
    Flaw.NO_STEP: ("And what should I do now?", "No next step."),
    Flaw.RUDE: ("Rude.", "We do not talk to people like that."),
    Flaw.TOO_SHORT: ("Too short to be of help.",),
    Flaw.TOO_LONG: ("Rambles.", "Half of it says nothing."),
}
PRAISE = ("Clear, and it says what to do next.", "Good.", "Friendly and honest.")


@dataclass(frozen=True)
class RaterProfile:
    """How a rater rates: `noise` in rating points, `bias` up or down, `guesses` without reading."""

    name: str
    noise: float
    bias: float = 0.0
    guesses: float = 0.0
    share: float = 1.0


RATERS = (
    RaterProfile("demo-rater-1", 0.30),
    RaterProfile("demo-rater-2", 0.35, bias=-0.15),
    RaterProfile("demo-rater-3", 0.40, bias=0.1),
    RaterProfile("demo-rater-4", 0.45),
    RaterProfile("demo-rater-5", 0.55, bias=0.2, share=0.8),
    RaterProfile("demo-rater-6", 0.65, bias=-0.2, share=0.8),
    RaterProfile("demo-rater-7", 0.80, share=0.6),
    RaterProfile("demo-rater-8", 1.00, bias=0.5, guesses=0.6, share=0.7),
)
CARELESS = RATERS[-1].name


@dataclass(frozen=True)
class Opinion:
    """What one person said of an answer, or of its step. Users rate under their own name."""

    exchange: int
    rater: str
    rater_kind: RaterKind
    at: datetime
    step: int | None = None
    thumb: int | None = None
    rating: int | None = None
    label: int | None = None
    aspects: dict[str, int] = field(default_factory=dict)
    comment: str | None = None
    correction: str | None = None
    duration_s: float | None = None
    is_gold_item: bool = False


@dataclass(frozen=True)
class Compared:
    """Which of two answers to one request a rater preferred."""

    left: int
    right: int
    rater: str
    choice: Choice
    strength: int | None
    at: datetime


@dataclass(frozen=True)
class QueueItem:
    """An exchange in the demo's rating queue; `gold_rating` where the right answer is known."""

    exchange: int
    gold_rating: int | None = None


@dataclass(frozen=True)
class Voices:
    """All that people said."""

    opinions: tuple[Opinion, ...]
    comparisons: tuple[Compared, ...]
    queue: tuple[QueueItem, ...]


def user_name(user: int) -> str:
    """The id of a user outside."""
    return f"demo-user-{user}"


def true_rating(gold: float) -> float:
    """The rating 1..5 of somebody who sees everything: what is approved has 4 or more."""
    if gold >= APPROVED:
        return 4.1 + 0.9 * (gold - APPROVED) / (1 - APPROVED)
    return 1.0 + 1.9 * gold / APPROVED


def _felt(exchange: Exchange) -> float:
    """Its true rating; in the wrong time zone an appointment is missed, however well it is put."""
    is_missed = exchange.request.zone is not None and Flaw.WRONG_DETAIL in exchange.flaws
    return min(true_rating(exchange.gold), MISSED if is_missed else 5.0)


def let_people_speak(world: World) -> Voices:
    """What people said of the world; the same for the same world."""
    rng = random.Random(f"demo-voices:{world.seed}")
    corrections = [0]
    opinions: list[Opinion] = []
    rated: dict[int, RaterProfile] = {}
    again = _by_request(world)
    for exchange in world.exchanges:
        opinions += _of_user(rng, exchange)
        first = rated.get(again.get(exchange.number, -1))  # one rater sees answers to one prompt
        if first is not None or rng.random() < RATED_SHARE:
            rater = first or _pick_rater(rng, ())
            rated[exchange.number] = rater
            opinions.append(_rate(rng, exchange, rater, corrections))
            if rng.random() < 0.28:
                other = _pick_rater(rng, (rater,))
                opinions.append(_rate(rng, exchange, other, corrections))
        if rng.random() < STEPPED_SHARE:
            opinions += _label_steps(rng, exchange, _pick_rater(rng, ()))
    queue = _fill_queue(rng, world, set(rated))
    by_number = {one.number: one for one in world.exchanges}
    for item in queue:
        if item.gold_rating is not None:
            opinions += (
                _rate(rng, by_number[item.exchange], rater, [MAX_CORRECTIONS], is_gold_item=True)
                for rater in RATERS
            )
    told = (replace(one, at=min(one.at, world.ends_at)) for one in opinions)
    return Voices(tuple(told), tuple(_compare_all(rng, world)), tuple(queue))


def _by_request(world: World) -> dict[int, int]:
    """By exchange: the one before that answered the same request in the same session."""
    last: dict[tuple[int, str], int] = {}
    before: dict[int, int] = {}
    for exchange in world.exchanges:
        key = (exchange.session, exchange.request.prompt)
        if key in last:
            before[exchange.number] = last[key]
        last[key] = exchange.number
    return before


def _pick_rater(rng: random.Random, taken: Sequence[RaterProfile]) -> RaterProfile:
    free = [rater for rater in RATERS if rater not in taken]
    return rng.choices(free, [rater.share for rater in free])[0]


def _rate(
    rng: random.Random,
    exchange: Exchange,
    rater: RaterProfile,
    corrections: list[int],
    *,
    is_gold_item: bool = False,
) -> Opinion:
    guessed = rng.random() < rater.guesses
    truth = _felt(exchange)
    rating = rng.choice((3, 4, 4, 5, 2)) if guessed else _noisy(rng, truth, rater)
    aspects: dict[str, int] = {}
    if rng.random() < 0.5:
        aspects = {
            name: rating if guessed else _noisy(rng, _aspect(exchange, flaws), rater)
            for name, flaws in ASPECTS.items()
        }
    correction = None
    if rating <= 2 and not guessed and corrections[0] < MAX_CORRECTIONS and rng.random() < 0.35:
        correction = draw_answer(rng, exchange.request, ()).text
        corrections[0] += 1
    return Opinion(
        exchange=exchange.number,
        rater=rater.name,
        rater_kind=RaterKind.SME,
        at=exchange.at + timedelta(hours=rng.uniform(0.5, 30)),
        rating=rating,
        thumb=(1 if rating >= 4 else -1 if rating <= 2 else 0) if rng.random() < 0.3 else None,
        aspects=aspects,
        comment=None if guessed else _comment(rng, exchange, rating),
        correction=correction,
        duration_s=round(rng.uniform(2, 6) if guessed else rng.uniform(12, 70), 1),
        is_gold_item=is_gold_item,
    )


ASPECTS: dict[str, tuple[Flaw, ...]] = {
    "accuracy": (Flaw.WRONG_ACTION, Flaw.WRONG_DETAIL, Flaw.BOAST, Flaw.BALD),
    "helpfulness": (Flaw.WRONG_ACTION, Flaw.NO_STEP, Flaw.TOO_SHORT, Flaw.TOO_LONG),
    "tone": (Flaw.RUDE, Flaw.BOAST),
}


def _aspect(exchange: Exchange, flaws: tuple[Flaw, ...]) -> float:
    """The rating of one aspect: 5 without any of its flaws, two points less a flaw."""
    return max(1.0, 4.8 - 2.0 * sum(flaw in exchange.flaws for flaw in flaws))


def _noisy(rng: random.Random, truth: float, rater: RaterProfile) -> int:
    return min(5, max(1, round(truth + rater.bias + rng.gauss(0.0, rater.noise))))


def _comment(rng: random.Random, exchange: Exchange, rating: int) -> str | None:
    if rng.random() > 0.25:
        return None
    wrong = [flaw for flaw in COMMENTS if flaw in exchange.flaws]
    if rating <= 3 and wrong:
        return rng.choice(COMMENTS[rng.choice(wrong)])
    return rng.choice(PRAISE) if rating >= 4 else None


def _of_user(rng: random.Random, exchange: Exchange) -> list[Opinion]:
    """A thumb of the person who asked; now and then the wrong one."""
    if rng.random() >= THUMB_SHARE:
        return []
    is_up = (exchange.gold >= APPROVED) != (rng.random() < USER_NOISE)
    return [
        Opinion(
            exchange=exchange.number,
            rater=user_name(exchange.user),
            rater_kind=RaterKind.END_USER,
            at=exchange.at + timedelta(seconds=rng.uniform(5, 90)),
            thumb=1 if is_up else -1,
        )
    ]


def _label_steps(rng: random.Random, exchange: Exchange, rater: RaterProfile) -> list[Opinion]:
    at = exchange.at + timedelta(hours=rng.uniform(0.5, 30))
    wrong_share = 0.03 + 0.1 * rater.noise + 0.35 * rater.guesses
    return [
        Opinion(
            exchange=exchange.number,
            rater=rater.name,
            rater_kind=RaterKind.SME,
            at=at,
            step=position,
            label=1 if step.is_right != (rng.random() < wrong_share) else -1,
        )
        for position, step in enumerate(exchange.steps)
    ]


def _fill_queue(rng: random.Random, world: World, rated: set[int]) -> list[QueueItem]:
    """Items that nobody rated, among them some whose right rating is known."""
    free = [one for one in world.exchanges if one.number not in rated]
    drawn = rng.sample(free, NUM_QUEUE_ITEMS)
    return [
        QueueItem(one.number, round(_felt(one)) if place < NUM_GOLD_ITEMS else None)
        for place, one in enumerate(drawn)
    ]


def _compare_all(rng: random.Random, world: World) -> list[Compared]:
    """Comparisons of the answers that one request got, by one to three raters."""
    by_number = {one.number: one for one in world.exchanges}
    found = []
    for later, earlier in _by_request(world).items():
        first, second = by_number[earlier], by_number[later]
        if first.answer.text == second.answer.text or rng.random() > 0.75:
            continue
        taken: list[RaterProfile] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            rater = _pick_rater(rng, taken)
            taken.append(rater)
            sides = (first, second) if rng.random() < 0.5 else (second, first)
            one = _compare(rng, *sides, rater)
            found.append(replace(one, at=min(one.at, world.ends_at)))
    return found


def _compare(rng: random.Random, left: Exchange, right: Exchange, rater: RaterProfile) -> Compared:
    gap = left.gold - right.gold + rng.gauss(0.0, 0.25 * rater.noise)
    if rng.random() < rater.guesses:
        gap = rng.uniform(-1, 1)
    choice = Choice.LEFT if gap > 0 else Choice.RIGHT
    if abs(gap) < TIE_GAP and rng.random() < 0.6:
        choice = Choice.TIE
        if max(left.gold, right.gold) < 0.4:
            choice = Choice.BOTH_BAD
    is_clear = choice in (Choice.LEFT, Choice.RIGHT)
    return Compared(
        left=left.number,
        right=right.number,
        rater=rater.name,
        choice=choice,
        strength=min(3, 1 + int(abs(gap) / 0.3)) if is_clear else None,
        at=max(left.at, right.at) + timedelta(hours=rng.uniform(0.5, 30)),
    )
