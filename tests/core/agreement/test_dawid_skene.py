"""Raters of known skill: the model finds who they are, and the truth better than votes do."""

import random
from collections import defaultdict
from statistics import mean

import pytest

from rlhf_core.agreement import dawid_skene
from rlhf_core.errors import InvalidInput

Table = tuple[list[int], list[str], list[int]]


def simulate(
    seed: int, skills: dict[str, float], *, num_items: int = 600
) -> tuple[Table, list[int]]:
    """Three raters an item; each right with their skill. Returns the table and the truth."""
    drawn = random.Random(seed)
    truth = [drawn.randint(0, 1) for _ in range(num_items)]
    rows = [
        (item, rater, value if drawn.random() < skills[rater] else 1 - value)
        for item, value in enumerate(truth)
        for rater in drawn.sample(sorted(skills), 3)
    ]
    units, raters, values = (list(column) for column in zip(*rows, strict=True))
    return (units, raters, values), truth


def crew(num_good: int, num_guessing: int) -> dict[str, float]:
    good = {f"good {n}": 0.85 for n in range(num_good)}
    return good | {f"guess {n}": 0.5 for n in range(num_guessing)}


def share_right(table: Table, truth: list[int]) -> tuple[float, float]:
    """Of the model, and of the majority."""
    model = dawid_skene(*table)
    best = [model.values[int(row.argmax())] for row in model.truth]
    votes = defaultdict(list)
    for unit, _, value in zip(*table, strict=True):
        votes[unit].append(value)
    return (
        mean(value == truth[unit] for unit, value in zip(model.units, best, strict=True)),
        mean((mean(said) > 0.5) == truth[unit] for unit, said in votes.items()),
    )


def test_with_guessers_the_model_beats_the_majority() -> None:
    shares = [share_right(*simulate(seed, crew(15, 15))) for seed in range(5)]
    assert mean(model - votes for model, votes in shares) > 0.03


def test_with_equal_raters_nothing_is_lost() -> None:
    shares = [share_right(*simulate(seed, crew(30, 0))) for seed in range(5)]
    assert mean(model - votes for model, votes in shares) == pytest.approx(0, abs=0.01)


def test_accuracies_are_found_and_guessers_weigh_least() -> None:
    skills = crew(15, 5)
    table, _ = simulate(0, skills, num_items=3_000)
    model = dawid_skene(*table)
    missed = [abs(model.accuracy[rater] - skill) for rater, skill in skills.items()]
    assert mean(missed) < 0.03
    assert max(model.weight[f"guess {n}"] for n in range(5)) < min(
        model.weight[f"good {n}"] for n in range(15)
    )
    assert model.truth.sum(axis=1) == pytest.approx(1)


def test_raters_with_few_answers_are_taken_as_one() -> None:
    (units, raters, values), _ = simulate(1, crew(10, 0))
    model = dawid_skene([*units, 0, 1], [*raters, "new", "newer"], [*values, 0, 1])
    assert model.accuracy["new"] == model.accuracy["newer"]
    assert model.accuracy["new"] not in {model.accuracy[rater] for rater in raters}


def test_one_answer_only_is_no_certainty() -> None:
    model = dawid_skene(["a"], ["ann"], ["yes"])
    assert 0.5 < model.accuracy["ann"] < 1
    assert model.weight["ann"] > 0


def test_nothing_gives_nothing_and_unequal_columns_are_refused() -> None:
    assert dawid_skene([], [], []).accuracy == {}
    with pytest.raises(InvalidInput, match="as many of each"):
        dawid_skene([1], ["ann"], [])
