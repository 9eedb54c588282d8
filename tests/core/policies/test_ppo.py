"""PPO: what must hold before the first step, without a reward, and in the end."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlhf_core.policies.base import load_policy
from tests.core.policies.tiny_policies import (
    Watcher,
    count_of,
    make_policy,
    nothing,
    train,
)


@pytest.mark.parametrize("options", [{}, {"lora_rank": 2}, {"critic": "separate"}])
def test_before_the_first_step_the_ratio_is_1_and_the_kl_is_0(
    options: dict[str, object], tiny: Path, tmp_path: Path
) -> None:
    report = train(tiny, tmp_path, count_of("d"), updates=1, ppo_epochs=1, **options)
    figures = report.details["history"][0]
    assert figures["first_ratio"] == pytest.approx(1.0, abs=1e-5)
    assert figures["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert figures["clipfrac"] == 0.0
    assert figures["kl"] == pytest.approx(0.0, abs=1e-4)


def test_in_bfloat16_sampling_and_learning_agree_within_its_rounding(
    tiny: Path, tmp_path: Path
) -> None:
    report = train(tiny, tmp_path, count_of("d"), updates=2, precision="bf16")
    for figures in report.details["history"]:
        assert figures["first_ratio"] == pytest.approx(1.0, abs=0.02)
    assert report.details["history"][0]["kl"] == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize("options", [{}, {"lora_rank": 2}])
def test_a_reward_that_says_nothing_moves_nothing(
    options: dict[str, object], tiny: Path, tmp_path: Path
) -> None:
    report = train(tiny, tmp_path, nothing, updates=8, missing_eos_penalty=None, **options)
    assert abs(report.details["history"][-1]["kl"]) < 1e-3
    before, after = (
        load_file(folder / "model.safetensors") for folder in (tiny, tmp_path / "model")
    )
    for name, value in before.items():
        assert torch.allclose(value, after[name], atol=1e-4), name


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_arm_of_a_bandit_is_found(seed: int, tiny: Path, tmp_path: Path) -> None:
    """One token an answer: `d` pays 1, `e` 0.5, all others nothing."""

    def pays(prompts: list[str], completions: list[str]) -> list[float]:
        return [{"d": 1.0, "e": 0.5}.get(text.strip(), 0.0) for text in completions]

    report = train(
        tiny, tmp_path, pays, updates=60, batch_size=32, micro_batch_size=32, response_tokens=1,
        kl_coef=0.0, missing_eos_penalty=None, seed=seed, lr=5e-3, sample_every=0,
    )  # fmt: skip
    assert report.details["history"][0]["reward"] < 0.2
    assert report.details["history"][-1]["reward"] > 0.95


def test_with_a_price_on_kl_the_policy_stays_nearer(tiny: Path, tmp_path: Path) -> None:
    cheap, dear = (
        train(tiny, tmp_path / str(price), count_of("d"), updates=15, kl_coef=price, sample_every=0)
        for price in (0.0, 1.0)
    )
    assert dear.metrics["kl"] < 0.5 * cheap.metrics["kl"]


def test_an_adaptive_price_rises_while_the_kl_is_above_its_target(
    tiny: Path, tmp_path: Path
) -> None:
    report = train(
        tiny, tmp_path, count_of("d"), updates=12, kl_target=0.05, kl_horizon=8, kl_coef=0.01
    )
    assert report.metrics["kl_coef"] > 0.011


@pytest.mark.slow
def test_lora_learns_and_is_merged_into_a_plain_model(tiny: Path, tmp_path: Path) -> None:
    report = train(
        tiny, tmp_path, count_of("d"), updates=30, lora_rank=4, lr=3e-2, batch_size=16, kl_coef=0.0
    )
    assert report.metrics["reward"] > 4 * report.metrics["first_reward"]
    names = load_file(tmp_path / "model" / "model.safetensors")
    assert not any("lora" in name for name in names)
    model, tokenizer = load_policy(tmp_path / "model")
    assert model(
        **tokenizer("a b c", return_tensors="pt", return_token_type_ids=False)
    ).logits.shape


def test_gradient_checkpointing_changes_memory_and_not_the_result(
    tiny: Path, tmp_path: Path
) -> None:
    """Up to rounding."""
    plain, saved = (
        train(tiny, tmp_path / str(is_on), count_of("d"), gradient_checkpointing=is_on)
        for is_on in (False, True)
    )
    for one, other in zip(plain.details["history"], saved.details["history"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_smaller_parts_of_a_batch_give_the_same_result(tiny: Path, tmp_path: Path) -> None:
    """Up to rounding."""
    few, many = (
        train(tiny, tmp_path / str(size), count_of("d"), micro_batch_size=size) for size in (8, 2)
    )
    for one, other in zip(few.details["history"], many.details["history"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_a_tied_output_layer_learns_too(tmp_path: Path) -> None:
    base = make_policy(tmp_path / "base", tie_word_embeddings=True)
    report = train(base, tmp_path, count_of("d"), updates=15, batch_size=16, kl_coef=0.0)
    assert report.metrics["reward"] > report.metrics["first_reward"]


def test_the_report_has_the_figures_of_each_update_and_samples_beside_the_references(
    tiny: Path, tmp_path: Path
) -> None:
    tracker = Watcher()
    report = train(tiny, tmp_path, count_of("d"), held_out=count_of("e"), tracker=tracker)
    assert {
        "reward", "held_out_reward", "kl", "kl_coef", "entropy", "length", "eos_share",
        "explained_variance", "policy_loss", "value_loss", "ratio", "approx_kl", "clipfrac",
        "distinct_2", "opening_share", "gradient_norm", "tokens_per_s", "generation_share",
        "memory_mb",
    } <= set(tracker.told[1])  # fmt: skip
    assert list(tracker.told) == [1, 2, 3, 4]
    assert [entry["update"] for entry in report.details["samples"]] == [0, 2, 4]
    assert all(len(entry["answers"]) == 4 for entry in report.details["samples"])
    assert report.metrics["num_episodes"] == 32
    assert not list((tmp_path / "work").glob("step-*"))


def test_rewards_are_centred_on_the_untrained_policy(tiny: Path, tmp_path: Path) -> None:
    """A constant added to all rewards changes nothing then."""
    plain = train(tiny, tmp_path / "plain", count_of("d"))
    lifted = train(
        tiny, tmp_path / "lifted", lambda p, c: [7.0 + one for one in count_of("d")(p, c)]
    )
    for one, other in zip(plain.details["history"], lifted.details["history"], strict=True):
        assert one["kl"] == pytest.approx(other["kl"], abs=1e-3)
        assert one["reward"] + 7.0 == pytest.approx(other["reward"], abs=1e-3)


def test_uncentred_values_start_at_the_mean_reward(tiny: Path, tmp_path: Path) -> None:
    report = train(
        tiny, tmp_path, lambda p, c: [7.0] * len(c), updates=1, center_rewards=False,
        missing_eos_penalty=None, kl_coef=0.0,
    )  # fmt: skip
    assert report.details["history"][0]["value_loss"] < 0.1
