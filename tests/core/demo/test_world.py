import random
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from rlhf_core.demo import manners
from rlhf_core.demo.gold import APPROVED, find_flaws, gold_score, is_approved, read_prompt
from rlhf_core.demo.grammar import INTENTS, Flaw, Request, draw_answer, draw_request, fill
from rlhf_core.demo.people import CARELESS, RATERS, let_people_speak
from rlhf_core.demo.world import (
    NUM_DAYS,
    NUM_INTERACTIONS,
    REGRESSION_DAY,
    RELEASES,
    Exchange,
    World,
    build_world,
)

END = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)
ALONE = [flaw for flaw in Flaw if flaw is not Flaw.BALD]


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(seed=0, ends_at=END)


def requests(number: int) -> Iterable[Request]:
    rng = random.Random(3)
    return (draw_request(rng) for _ in range(number))


def approval(exchanges: Iterable[Exchange]) -> float:
    found = [one.gold >= APPROVED for one in exchanges]
    return sum(found) / len(found)


def test_judge_reads_every_request_of_the_world() -> None:
    for request in requests(3_000):
        asked = read_prompt(request.prompt)
        assert asked is not None, request.prompt
        assert (asked.intent, asked.zone) == (request.intent, request.zone), request.prompt
        for name, value in asked.slots.items():
            assert value.lower() == request.slots[name].lower()


def test_judge_finds_nothing_wrong_with_a_flawless_answer() -> None:
    rng = random.Random(4)
    for request in requests(2_000):
        text = draw_answer(rng, request, ()).text
        assert gold_score(request.prompt, text) == 1.0, (request.prompt, text)


@pytest.mark.parametrize("flaw", ALONE)
def test_judge_finds_each_flaw_and_no_other(flaw: Flaw) -> None:
    rng = random.Random(5)
    for request in requests(500):
        text = draw_answer(rng, request, {flaw}).text
        found = set(find_flaws(request.prompt, text))
        if flaw is Flaw.WRONG_ACTION:  # what it did instead may need other details
            found.discard(Flaw.WRONG_DETAIL)
        assert found == {flaw}, (request.prompt, text)


def test_a_bald_figure_is_a_flaw_where_things_vary() -> None:
    rng = random.Random(6)
    for request in requests(600):
        found = find_flaws(request.prompt, draw_answer(rng, request, {Flaw.BALD}).text)
        assert found == ([Flaw.BALD] if request.intent.is_uncertain else [])


def test_garbled_text_is_never_approved() -> None:
    prompt = next(iter(requests(1))).prompt
    said = draw_answer(random.Random(7), next(iter(requests(1))), ()).text
    assert is_approved(prompt, said)
    words = said.split()
    repeated = f"{said} {re.split('(?<=[.]) ', said)[-1]}"
    for broken in ("", " ".join(w[::-1] for w in words), repeated, said.rstrip(".")):
        assert not is_approved(prompt, broken), broken


def test_a_text_that_no_rule_knows_is_judged_by_manners_alone() -> None:
    said = draw_answer(random.Random(8), next(iter(requests(1))), ()).text
    assert read_prompt("What is the capital of France?") is None
    assert is_approved("What is the capital of France?", said)
    assert not is_approved("What is the capital of France?", f"{manners.RUDE[0]} {said}")


def test_phrases_are_many_and_fill_every_slot() -> None:
    slots = next(iter(requests(1))).slots
    phrases = set()
    for intent in INTENTS:
        for group in (intent.prompts, intent.actions, intent.facts, intent.boasts, intent.bald,
                      intent.steps):  # fmt: skip
            phrases |= set(group)
    assert len(phrases) > 280
    for phrase in phrases:
        text = fill(phrase, slots)
        assert "{" not in text
        assert text.endswith((".", "?", "!")), text
        assert not re.search(r"\ba [aeio]|\ban [^aeioh]", text), text


def test_the_same_seed_makes_the_same_world_and_another_a_different_one(world: World) -> None:
    assert build_world(seed=0, ends_at=END) == world
    assert let_people_speak(world) == let_people_speak(world)
    prompts = {one.request.prompt for one in build_world(seed=1, ends_at=END).exchanges}
    assert prompts != {one.request.prompt for one in world.exchanges}


def test_the_world_is_sixty_days_of_three_thousand_interactions(world: World) -> None:
    assert len(world.exchanges) == NUM_INTERACTIONS
    days = {one.at.date() for one in world.exchanges}
    assert len(days) == NUM_DAYS
    assert max(days) < END.date()
    words = [len(one.request.prompt.split()) for one in world.exchanges]
    assert 6 <= min(words) <= max(words) <= 34
    users = defaultdict(set)
    for one in world.exchanges:
        users[one.user].add(one.session)
    assert sum(len(sessions) > 1 for sessions in users.values()) > 100  # they come back
    assert {one.name for one in world.happenings} == {"visit", "ask", "read", "confirm", "complete"}


def test_each_version_is_better_than_the_one_before(world: World) -> None:
    rates = [
        approval(one for one in world.exchanges if one.release == release.name)
        for release in RELEASES
    ]
    assert rates == sorted(rates)
    assert rates == pytest.approx([0.35, 0.5, 0.62], abs=0.06)


def test_one_day_is_bad_and_time_zones_are_overlooked(world: World) -> None:
    first = world.exchanges[0].at.date()
    bad_day = [one for one in world.exchanges if (one.at.date() - first).days == REGRESSION_DAY]
    assert approval(bad_day) < approval(world.exchanges) - 0.2
    zoned = [one for one in world.exchanges if one.request.zone]
    moves = [one for one in world.exchanges if "reschedule" in one.request.intent.name]
    moved = [one for one in moves if not one.request.zone]
    assert len(zoned) > 40
    assert approval(zoned) < approval(moved) - 0.25


def test_one_of_eight_raters_is_careless(world: World) -> None:
    voices = let_people_speak(world)
    gold = {one.number: one.gold >= APPROVED for one in world.exchanges}
    right = defaultdict(list)
    for said in voices.opinions:
        if said.rating is not None:
            right[said.rater].append((said.rating >= 4) == gold[said.exchange])
    shares = {name: sum(found) / len(found) for name, found in right.items()}
    assert set(shares) == {rater.name for rater in RATERS}
    assert min(shares, key=shares.__getitem__) == CARELESS
    assert shares.pop(CARELESS) < 0.75
    assert min(shares.values()) > 0.85


def test_nothing_is_said_after_the_end_and_corrections_are_good(world: World) -> None:
    voices = let_people_speak(world)
    assert max(said.at for said in voices.opinions) <= END
    assert max(one.at for one in voices.comparisons) <= END
    by_number = {one.number: one for one in world.exchanges}
    corrected = [said for said in voices.opinions if said.correction]
    assert len(corrected) > 100
    for said in corrected:
        assert said.correction is not None
        assert is_approved(by_number[said.exchange].request.prompt, said.correction)


def test_steps_are_wrong_where_the_answer_is(world: World) -> None:
    for one in world.exchanges:
        counted = one.flaws - ({Flaw.BALD} if not one.request.intent.is_uncertain else set())
        assert all(step.is_right for step in one.steps) == (not counted), one.flaws
