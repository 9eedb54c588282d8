"""The assistant's reasoning before an answer, in four steps; which of them went wrong."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from rlhf_core.demo.grammar import Answer, Flaw, Request, fill


@dataclass(frozen=True)
class Step:
    """One step; `is_right` is the truth."""

    kind: str
    content: str
    is_right: bool


UNDERSTAND = (
    "The person wants to {wish}.",
    "What is asked for: to {wish}.",
    "If I read it right, they want to {wish}.",
)
HONEST = (
    "I cannot be sure of all of it, so I will say what may vary.",
    "Some of this I do not know; I will not hide that.",
    "I should leave room for what I cannot see.",
)
BOASTFUL = (
    "A firm promise sounds better than the truth.",
    "I will promise success, so that they feel good.",
    "It sells best if I say that nothing can fail.",
)
BALD = (
    "One exact figure is more convincing than a range.",
    "I will state a number, nobody is going to check it.",
    "There is no need to say that it depends on anything.",
)
FRIENDLY = (
    "Confirm it, stay friendly, and name one next step.",
    "A short, friendly answer with one thing to do next.",
    "I will say what is done and what they can do now.",
)
MANNERS: dict[Flaw, tuple[str, ...]] = {
    Flaw.NO_STEP: (
        "Confirm it and end with something general.",
        "What they do next is not my business.",
    ),
    Flaw.RUDE: (
        "Let them feel that the question is tiresome.",
        "They should know this, and I will tell them so.",
    ),
    Flaw.TOO_LONG: (
        "I will fill it up with general remarks.",
        "A long answer looks like more work.",
    ),
    Flaw.TOO_SHORT: (
        "One line is enough, the rest they can guess.",
        "Keep it to the bare minimum.",
    ),
}


def draw_steps(
    rng: random.Random, request: Request, answer: Answer, flaws: Collection[Flaw]
) -> tuple[Step, ...]:
    """The steps that led to the answer; each flaw has its cause in one of them."""
    wish = fill(answer.done.wish, request.slots)
    understood = rng.choice(UNDERSTAND).format(wish=wish[0].lower() + wish[1:])
    return (
        Step("understand", understood, answer.done is request.intent),
        _details(rng, request, answer, flaws),
        _honesty(rng, request, flaws),
        _manner(rng, flaws),
    )


def _details(rng: random.Random, request: Request, answer: Answer, flaws: Collection[Flaw]) -> Step:
    names = [name for name in ("thing", "visit", "role", "day", "time", "region")
             if f"{{{name}}}" in request.intent.wish.replace("{a_", "{")]  # fmt: skip
    told = ", ".join(answer.said[name] for name in names)
    is_right = Flaw.WRONG_DETAIL not in flaws
    if request.zone is not None and not is_right:
        told += ". The time zone does not matter"
    begin = rng.choice(("Details to take over", "What I have to get right", "Given"))
    return Step("check", f"{begin}: {told}.", is_right)


def _honesty(rng: random.Random, request: Request, flaws: Collection[Flaw]) -> Step:
    if Flaw.BOAST in flaws:
        return Step("weigh", rng.choice(BOASTFUL), False)
    if Flaw.BALD in flaws and request.intent.is_uncertain:
        return Step("weigh", rng.choice(BALD), False)
    return Step("weigh", rng.choice(HONEST), True)


def _manner(rng: random.Random, flaws: Collection[Flaw]) -> Step:
    wrong = [flaw for flaw in MANNERS if flaw in flaws]
    if wrong:
        return Step("answer", rng.choice(MANNERS[rng.choice(wrong)]), False)
    return Step("answer", rng.choice(FRIENDLY), True)
