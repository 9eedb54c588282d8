"""Policies side by side: who wins, by how much, and what is length alone."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import load_policy
from rlhf_core.policies.estimates import PromptBootstrap
from rlhf_core.policies.evaluate import (
    EvaluatePolicyParams,
    PolicyExamination,
    distinct_share,
    evaluate_policy,
    is_refusal,
)
from rlhf_core.policies.rewards_glue import RewardFunction
from rlhf_core.policies.starter_tokenizer import train_tokenizer
from rlhf_core.training import NoOpTracker
from tests.core.policies.tiny_policies import Watcher, count_of, make_policy, make_prompts, nothing


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("other"), seed=7, initializer_range=0.3)


def evaluate(
    policies: dict[str, Path],
    *,
    judge: RewardFunction = nothing,
    prompts: list[PromptOnly] | None = None,
    tracker: NoOpTracker | None = None,
    **options: Any,
) -> PolicyExamination:
    settings: dict[str, Any] = {"response_tokens": 8, "precision": "fp32", "latency_prompts": 2}
    return evaluate_policy(
        policies,
        make_prompts(24) if prompts is None else prompts,
        judge=judge,
        baseline="base",
        params=EvaluatePolicyParams(**settings | options),
        tracker=tracker or NoOpTracker(),
    )


def test_a_policy_neither_beats_nor_leaves_itself(tiny: Path) -> None:
    found = evaluate({"base": tiny, "policy": tiny}, judge=count_of("d")).policies["policy"]
    assert found["win_rate"].to_json() == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["win_rate_length_controlled"].value == pytest.approx(0.5)
    assert found["kl"].value == pytest.approx(0.0, abs=1e-4)
    assert found["reward_gain"].value == 0.0


def test_wins_are_those_of_the_judge(tiny: Path, other: Path) -> None:
    def likes_other(prompts: list[str], completions: list[str]) -> list[float]:
        return [float("yes" in text) - len(text) / 100 for text in completions]

    found = evaluate({"base": tiny, "policy": other, "production": tiny}, judge=likes_other)
    own = found.policies["policy"]
    assert own["win_rate"].value == own["win_rate_production"].value
    assert found.policies["production"]["win_rate"].value == 0.5
    assert found.policies["base"]["win_rate_production"].value == 0.5
    gain = own["reward"].value - found.policies["base"]["reward"].value
    assert own["reward_gain"].value == pytest.approx(gain)
    low, high = own["reward"].low, own["reward"].high
    assert low is not None
    assert high is not None
    assert low < own["reward"].value < high


def test_kl_is_that_of_the_whole_models_on_the_answers(tiny: Path, other: Path) -> None:
    """The estimate of one answer a prompt lies near the exact one of the first token."""
    prompts = [PromptOnly("a b", str(number)) for number in range(400)]
    found = evaluate(
        {"base": tiny, "policy": other}, prompts=prompts, response_tokens=1, temperature=1.5
    )
    told = []
    for folder in (other, tiny):
        model, tokenizer = load_policy(folder)
        ids = torch.tensor([tokenizer("a b")["input_ids"]])
        with torch.no_grad():
            told.append(torch.log_softmax(model(ids).logits[0, -1].float() / 1.5, dim=-1))
    exact = float((told[0].exp() * (told[0] - told[1])).sum())
    kl = found.policies["policy"]["kl"]
    assert exact > 0.2
    assert kl.value == pytest.approx(exact, rel=0.25)


def test_the_same_seed_gives_the_same_figures(tiny: Path, other: Path) -> None:
    first = evaluate({"base": tiny, "policy": other}, judge=count_of("d"), latency_prompts=0)
    again = evaluate({"base": tiny, "policy": other}, judge=count_of("d"), latency_prompts=0)
    assert first.samples == again.samples
    for name in ("reward", "win_rate", "kl", "length", "distinct_2", "eos_share"):
        assert first.policies["policy"][name] == again.policies["policy"][name]


def test_the_examination_is_json_with_samples_of_all_policies(tiny: Path, other: Path) -> None:
    found = evaluate({"base": tiny, "policy": other}, judge=count_of("d"), num_samples=3, answers=2)
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["num_prompts"] == 24
    assert plain["baseline"] == "base"
    figures = plain["policies"]["policy"]
    assert set(figures["win_rate"]) == {"value", "low", "high"}
    assert {"latency_s", "refusal_share", "opening_share", "tokens_per_s"} <= set(figures)
    assert [one["prompt"] for one in plain["samples"]] == [row.prompt for row in make_prompts(3)]
    assert set(plain["samples"][0]["answers"]) == {"base", "policy"}


def test_without_a_common_tokenizer_there_is_no_kl(tiny: Path, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["a b c yes no"] * 5, vocab_size=300, positions=64)
    folder = make_policy(tmp_path / "own", vocab_size=len(tokenizer), eos_token_id=1)
    tokenizer.save_pretrained(folder)
    found = evaluate({"base": tiny, "policy": folder})
    assert "kl" not in found.policies["policy"]
    assert any("other tokenizers" in note for note in found.notes)


def test_prompts_that_do_not_fit_are_left_out_for_all(tiny: Path, other: Path) -> None:
    prompts = [*make_prompts(6), PromptOnly("a " * 80, "long"), PromptOnly(" ", "empty")]
    found = evaluate({"base": tiny, "policy": other}, prompts=prompts)
    assert (found.num_prompts, found.num_left_out) == (6, 2)
    assert any("too long" in note for note in found.notes)


def test_a_request_to_stop_ends_it(tiny: Path) -> None:
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        evaluate({"base": tiny}, tracker=Watcher(1))


@pytest.mark.parametrize(
    ("prompts", "judge", "error", "words"),
    [
        ([], nothing, NotEnoughData, "prompts"),
        ([PromptOnly("a " * 80, "x")], nothing, TrainingFailed, "choose more prompt_tokens"),
        (None, lambda prompts, texts: [math.nan] * len(texts), TrainingFailed,
         "The judge function gave nan"),
    ],
)  # fmt: skip
def test_what_cannot_work_ends_with_a_sentence(
    prompts: list[PromptOnly] | None,
    judge: RewardFunction,
    error: type[Exception],
    words: str,
    tiny: Path,
) -> None:
    with pytest.raises(error, match=words):
        evaluate({"base": tiny}, prompts=prompts, judge=judge)


def test_the_baseline_must_be_among_the_policies(tiny: Path) -> None:
    with pytest.raises(InvalidInput, match="baseline 'base': choose one of policy"):
        evaluate({"policy": tiny})


def test_wins_by_length_alone_are_none_at_even_length() -> None:
    rng = np.random.default_rng(0)
    own, others = rng.normal(60, 20, 400), rng.normal(40, 20, 400)
    bootstrap = PromptBootstrap([str(number) for number in range(400)], seed=0)
    longer = (own > others).astype(float)
    assert bootstrap.mean(longer.tolist()).value > 0.7
    at_even = bootstrap.win_rate_at_even_length(longer, own, others)
    assert at_even.low is not None
    assert at_even.high is not None
    assert at_even.low < 0.5 < at_even.high
    better = (rng.random(400) < 0.8).astype(float)
    assert bootstrap.win_rate_at_even_length(better, own, others).value == pytest.approx(
        0.8, abs=0.06
    )


def test_the_interval_draws_prompts_not_rows() -> None:
    values = np.random.default_rng(1).normal(size=40)
    alone = PromptBootstrap([str(number) for number in range(40)], seed=0).mean(values.tolist())
    often = PromptBootstrap([str(number) for number in range(40) for _ in range(9)], seed=0).mean(
        np.repeat(values, 9).tolist()
    )
    assert alone.low is not None
    assert often.low is not None
    assert often.low == pytest.approx(alone.low, abs=1e-9)
    single = PromptBootstrap(["one"] * 9, seed=0).mean([1.0] * 9)
    assert single.to_json() == {"value": 1.0}


def test_all_wins_and_even_lengths_stay_finite() -> None:
    bootstrap = PromptBootstrap([str(number) for number in range(30)], seed=0)
    found = bootstrap.win_rate_at_even_length([1.0] * 30, [5.0] * 30, [5.0] * 30)
    assert 0.97 < found.value < 1.0


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I'm sorry, but I cannot help with that.", True),
        ("I can\u2019t assist you with this request.", True),
        ("As an AI, I have no opinion.", True),
        ("I am unable to do so.", True),
        ("Sorry for the wait: your visit is booked.", False),
        ("I have booked it. I cannot promise the doctor is on time.", False),
    ],
)
def test_refusals_are_known_by_their_words(text: str, refuses: bool) -> None:
    assert is_refusal(text) is refuses


def test_distinct_shares_count_sequences_of_words() -> None:
    assert distinct_share(["a b a b", "A b"], 1) == pytest.approx(2 / 6)
    assert distinct_share(["a b a b", "A b"], 2) == pytest.approx(2 / 4)
    assert distinct_share(["a"], 2) == 1.0
