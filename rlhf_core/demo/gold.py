"""The rule that made the truth of the demo world: what is a good answer there.

Nothing trains on it. It measures whether training on what people said of the world has helped.
It reads any text, also what a policy made up: a request is known by the phrases of the world, an
answer by marks in its sentences.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from rlhf_core.demo import grammar, manners
from rlhf_core.demo.grammar import DAYS, INTENTS, MAIN_SLOT, SLOT_VALUES, Flaw, with_article
from rlhf_core.demo.intents import Intent

APPROVED = 0.7
MIN_WORDS, MAX_WORDS = 19, 54
MAX_UNKNOWN = 0.08
"""The share of words that no answer of the world has: more of them are no English."""

COSTS: dict[str, float] = {
    Flaw.WRONG_ACTION: 0.6,
    Flaw.WRONG_DETAIL: 0.35,
    Flaw.BOAST: 0.4,
    Flaw.BALD: 0.2,
    Flaw.NO_STEP: 0.25,
    Flaw.RUDE: 0.5,
    Flaw.TOO_SHORT: 0.35,
    Flaw.TOO_LONG: 0.35,
    "garbled": 0.4,
}
"""What each flaw takes off the score 1. One that costs over 0.3, or two of any, are too much."""

_SLOT = re.compile(r"\\\{(\w+)\\\}")
_WORDS = re.compile(r"[a-z]+(?:'[a-z]+)?|\d[\d,]*")
_SENTENCES = re.compile(r"(?<=[.!?])\s+")
_RUDE = re.compile(manners.RUDE_MARK, re.IGNORECASE)
_BOAST = re.compile(manners.BOAST_MARK, re.IGNORECASE)
_HEDGE = re.compile(manners.HEDGE_MARK, re.IGNORECASE)
_STEP = re.compile(rf"(?:^|[.!?]\s+)(?:{'|'.join(manners.STEP_VERBS)})\b", re.IGNORECASE)
_CLOCK = re.compile(r"\b\d{1,2} [ap]m\b")
_DAY = re.compile(rf"\b(?:{'|'.join(DAYS)})\b")


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for, as far as it is of this world. `slots` are those it names."""

    intent: Intent
    slots: dict[str, str]
    zone: str | None


def gold_score(prompt: str, completion: str) -> float:
    """How good the answer is, 0..1."""
    cost = sum(COSTS[flaw] for flaw in find_flaws(prompt, completion))
    return max(0.0, round(1.0 - cost, 6))


def is_approved(prompt: str, completion: str) -> bool:
    """Whether a careful person would approve of the answer."""
    return gold_score(prompt, completion) >= APPROVED


def find_flaws(prompt: str, completion: str) -> list[str]:
    """What is wrong with the answer: names of `Flaw`, and `garbled` for what is no English."""
    asked = read_prompt(prompt)
    num_words = len(completion.split())
    is_short = num_words < MIN_WORDS
    boasts = bool(_BOAST.search(completion))
    flaws: list[str] = []
    if asked is not None and not _does(asked.intent, completion):
        flaws.append(Flaw.WRONG_ACTION)
    if asked is not None and not _fits(asked, completion):
        flaws.append(Flaw.WRONG_DETAIL)
    if boasts:
        flaws.append(Flaw.BOAST)
    if is_short:
        flaws.append(Flaw.TOO_SHORT)
    elif not boasts and _is_bald(asked, completion):
        flaws.append(Flaw.BALD)
    if not is_short and not _STEP.search(completion):
        flaws.append(Flaw.NO_STEP)
    if _RUDE.search(completion):
        flaws.append(Flaw.RUDE)
    if num_words > MAX_WORDS:
        flaws.append(Flaw.TOO_LONG)
    if _is_garbled(completion):
        flaws.append("garbled")
    return flaws


@lru_cache(maxsize=20_000)
def read_prompt(prompt: str) -> Asked | None:
    """What the prompt asks for; None where it is none of this world's."""
    for intent, pattern in _patterns():
        found = pattern.search(prompt)
        if found:
            zone = re.search(rf"\b({'|'.join(grammar.ZONES)}) time\b", prompt)
            return Asked(intent, found.groupdict(), zone[1] if zone else None)
    return None


def _is_bald(asked: Asked | None, completion: str) -> bool:
    """Whether it states as certain what is not."""
    return asked is not None and asked.intent.is_uncertain and not _HEDGE.search(completion)


def _does(intent: Intent, completion: str) -> bool:
    """Whether it confirms what was asked for, and nothing else of the same kind."""
    done = [
        one
        for one in INTENTS
        if one.family == intent.family and re.search(one.mark, completion, re.IGNORECASE)
    ]
    return done == [intent]


def _fits(asked: Asked, completion: str) -> bool:
    """Whether the thing, the day, the time and the zone are those of the request."""
    slots = asked.slots
    main = slots[MAIN_SLOT[asked.intent.family]].split()[0]
    if not re.search(rf"\b{re.escape(main)}\b", completion, re.IGNORECASE):
        return False
    if asked.intent.family == "careers":
        return True
    days = set(_DAY.findall(completion))
    if days - {slots.get("day"), slots.get("old_day")}:
        return False
    if "{day}" in asked.intent.wish and slots.get("day") not in days:
        return False
    times = set(_CLOCK.findall(completion))
    if times - {slots.get("time")}:
        return False
    return asked.zone is None or f"{asked.zone} time" in completion


def _is_garbled(completion: str) -> bool:
    sentences = [one.strip().lower() for one in _SENTENCES.split(completion.strip())]
    if len(set(sentences)) < len(sentences) or not completion.rstrip().endswith((".", "!", "?")):
        return True
    words = _WORDS.findall(completion.lower())
    unknown = sum(word not in _known_words() for word in words)
    return unknown > MAX_UNKNOWN * max(1, len(words))


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[Intent, re.Pattern[str]]]:
    """Each prompt's template as a regular expression with its slots as named groups."""
    return [
        (intent, re.compile(_to_pattern(template), re.IGNORECASE))
        for intent in INTENTS
        for template in intent.prompts
    ]


def _to_pattern(template: str) -> str:
    seen: set[str] = set()

    def group(found: re.Match[str]) -> str:
        name = found[1].removeprefix("a_")
        article = "an? " if found[1].startswith("a_") else ""
        values = "|".join(map(re.escape, SLOT_VALUES[name]))
        if name in seen:
            return f"{article}(?:{values})"
        seen.add(name)
        return f"{article}(?P<{name}>{values})"

    escaped = re.sub(r"([.?*+^$|()\[\]{}\\])", r"\\\1", template)
    return _SLOT.sub(group, re.sub(r"\ba (?=\\\{)", "an? ", escaped))


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    """All words that answers of this world are made of."""
    texts = [*manners.POLITE, *manners.RUDE, *manners.VAGUE, *manners.FILLER]
    for intent in INTENTS:
        for phrases in intent.actions, intent.facts, intent.boasts, intent.bald, intent.steps:
            texts += (re.sub(r"\{\w+\}", " ", phrase) for phrase in phrases)
    for values in SLOT_VALUES.values():
        texts += (f"{value} {with_article(value)} time" for value in values)
    return frozenset(word for text in texts for word in _WORDS.findall(text.lower()))
