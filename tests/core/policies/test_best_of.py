"""Several answers, the best of them taken; nothing is trained."""

import math
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.best_of import best_of_n, kl_of_best
from tests.core.policies.tiny_policies import Watcher, count_of, make_prompts, nothing

OPTIONS: dict[str, Any] = {"response_tokens": 8, "precision": "fp32"}


def test_the_best_answer_is_taken(tiny: Path) -> None:
    found = best_of_n(tiny, make_prompts(6), n=8, reward=count_of("d"), **OPTIONS)
    assert [one.prompt for one in found] == [row.prompt for row in make_prompts(6)]
    for one in found:
        assert len(one.candidates) == 8
        assert one.reward == max(one.rewards) == one.completion.split().count("d")
        assert one.completion == one.candidates[one.rewards.index(one.reward)]
    assert sum(one.reward for one in found) > sum(one.mean_reward for one in found)


def test_more_candidates_keep_those_before(tiny: Path) -> None:
    few = best_of_n(tiny, make_prompts(5), n=2, reward=count_of("d"), **OPTIONS)
    many = best_of_n(tiny, make_prompts(5), n=6, reward=count_of("d"), **OPTIONS)
    for one, other in zip(few, many, strict=True):
        assert one.candidates == other.candidates[:2]
        assert one.reward <= other.reward


def test_of_equal_rewards_the_first_counts(tiny: Path) -> None:
    (found,) = best_of_n(tiny, make_prompts(1), n=4, reward=nothing, **OPTIONS)
    assert found.completion == found.candidates[0]


def test_the_distance_of_the_best_is_bounded() -> None:
    assert kl_of_best(1) == 0.0
    assert kl_of_best(8) == pytest.approx(math.log(8) - 7 / 8)


def test_a_request_to_stop_ends_it(tiny: Path) -> None:
    with pytest.raises(TrainingFailed, match="Stopped on request after prompt 1 of 3"):
        best_of_n(tiny, make_prompts(3), n=200, reward=nothing, tracker=Watcher(1), **OPTIONS)


@pytest.mark.parametrize(
    ("prompts", "options", "error", "words"),
    [
        ([], {"n": 2}, NotEnoughData, "prompts"),
        (make_prompts(1), {"n": 0}, InvalidInput, "n 0: choose 1 to 256"),
        (make_prompts(1), {"n": 2, "temperature": 0.0}, InvalidInput, "temperature 0.0"),
        ([PromptOnly("a " * 90, "x")], {"n": 2}, TrainingFailed, "choose more prompt_tokens"),
    ],
)
def test_what_cannot_work_ends_with_a_sentence(
    prompts: list[PromptOnly],
    options: dict[str, Any],
    error: type[Exception],
    words: str,
    tiny: Path,
) -> None:
    with pytest.raises(error, match=words):
        best_of_n(tiny, prompts, reward=nothing, **OPTIONS | options)
