"""Requests and answers of the demo world, put together from phrases by a seeded generator."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from rlhf_core.demo import manners
from rlhf_core.demo.appointments import APPOINTMENTS, VISITS
from rlhf_core.demo.careers import BACKGROUNDS, CAREERS, REGIONS, ROLES
from rlhf_core.demo.intents import Intent
from rlhf_core.demo.tasks import TASKS, THINGS

INTENTS: tuple[Intent, ...] = (*TASKS, *APPOINTMENTS, *CAREERS)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
TIMES = ("8 am", "9 am", "10 am", "11 am", "1 pm", "2 pm", "3 pm", "4 pm")
ZONES = ("Eastern", "Central", "Mountain", "Pacific")
ZONED_INTENT = "reschedule_appointment"
POLITE_SHARE = 0.8

SLOT_VALUES: dict[str, tuple[str, ...]] = {
    "thing": THINGS,
    "other": THINGS,
    "visit": VISITS,
    "day": DAYS,
    "old_day": DAYS,
    "time": TIMES,
    "role": ROLES,
    "background": BACKGROUNDS,
    "region": REGIONS,
    "zone": ZONES,
}
MAIN_SLOT = {"tasks": "thing", "appointments": "visit", "careers": "role"}


class Flaw(StrEnum):
    """What can be wrong with an answer of this world."""

    WRONG_ACTION = "wrong_action"
    WRONG_DETAIL = "wrong_detail"
    BOAST = "boast"
    BALD = "bald"
    NO_STEP = "no_step"
    RUDE = "rude"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"


@dataclass(frozen=True)
class Request:
    """What a person asks for. `zone` is None where no time zone was named."""

    intent: Intent
    slots: Mapping[str, str]
    zone: str | None
    prompt: str

    @property
    def main(self) -> str:
        """The thing, visit or role that it is about."""
        return self.slots[MAIN_SLOT[self.intent.family]]


@dataclass(frozen=True)
class Answer:
    """What was answered: `done` is the intent that it acts on, `said` the details it took."""

    text: str
    done: Intent
    said: Mapping[str, str]


def with_article(noun: str) -> str:
    """The noun with `a` or `an`."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def fill(template: str, slots: Mapping[str, str]) -> str:
    """The template with its slots, its first letter a capital."""
    more = {f"a_{name}": with_article(slots[name]) for name in ("role", "background")}
    text = template.format(**slots, **more)
    for noun in slots["visit"], slots["role"], slots["background"]:  # a {visit} -> an eye exam
        if noun[0] in "aeiou":
            text = text.replace(f" a {noun}", f" an {noun}").replace(f"A {noun}", f"An {noun}")
    return text[0].upper() + text[1:]


def draw_request(rng: random.Random, *, zoned_share: float = 0.25) -> Request:
    """A request; of those to move an appointment, `zoned_share` name a time zone."""
    intent = rng.choice(INTENTS)
    slots = {name: rng.choice(values) for name, values in SLOT_VALUES.items()}
    while slots["other"] == slots["thing"]:
        slots["other"] = rng.choice(THINGS)
    while slots["old_day"] == slots["day"]:
        slots["old_day"] = rng.choice(DAYS)
    prompt = fill(rng.choice(intent.prompts), slots)
    zone = None
    if intent.name == ZONED_INTENT and rng.random() < zoned_share:
        zone = slots["zone"]
        prompt += rng.choice(manners.ZONED).format(zone=zone)
    else:
        prompt += rng.choice(manners.TAILS)
    return Request(intent, slots, zone, rng.choice(manners.LEADS) + prompt)


def draw_answer(rng: random.Random, request: Request, flaws: Collection[Flaw]) -> Answer:
    """An answer to the request that has just these flaws."""
    said = dict(request.slots)
    if request.zone is not None and Flaw.WRONG_DETAIL not in flaws:
        said["time"] = f"{said['time']} {request.zone} time"
    if Flaw.WRONG_DETAIL in flaws and request.zone is None:
        _mistake(rng, request, said)
    done = intent = request.intent
    if Flaw.WRONG_ACTION in flaws:
        others = [one for one in INTENTS if one.family == intent.family and one is not intent]
        done = rng.choice(others)
    parts = [fill(rng.choice(done.actions), said)]
    if Flaw.TOO_SHORT not in flaws:
        parts.append(rng.choice(_middle(intent, flaws)))
        if Flaw.TOO_LONG in flaws:
            parts += rng.sample(manners.FILLER, 2)
        step = manners.VAGUE if Flaw.NO_STEP in flaws else intent.steps
        parts.append(fill(rng.choice(step), said))
        if Flaw.RUDE in flaws:
            parts.insert(rng.choice((0, 0, 1, 2)), rng.choice(manners.RUDE))
        elif rng.random() < POLITE_SHARE:
            parts.insert(0, rng.choice(manners.POLITE))
    return Answer(" ".join(parts), done, said)


def _middle(intent: Intent, flaws: Collection[Flaw]) -> tuple[str, ...]:
    if Flaw.BOAST in flaws:
        return intent.boasts
    return intent.bald if Flaw.BALD in flaws and intent.is_uncertain else intent.facts


def _mistake(rng: random.Random, request: Request, said: dict[str, str]) -> None:
    """Change the main thing, or the day where the request names one."""
    main = MAIN_SLOT[request.intent.family]
    names_day = "{day}" in request.intent.wish
    name = "day" if names_day and rng.random() < 0.5 else main
    taken = {said[name], said["other"], said["old_day"]}
    said[name] = rng.choice([value for value in SLOT_VALUES[name] if value not in taken])
