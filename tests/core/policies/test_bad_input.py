"""What cannot work ends with one sentence, and the last good checkpoint stays."""

import json
import math
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_core.errors import InvalidInput, NotEnoughData, RlhfError, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import open_base
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.rewards_glue import RewardFunction, mix_rewards
from tests.core.policies.tiny_policies import Watcher, count_of, make_policy, nothing, train


def later(then: RewardFunction, calls: int) -> RewardFunction:
    """Fine for so many calls, then `then`."""
    left = [calls]

    def reward(prompts: list[str], completions: list[str]) -> list[float]:
        left[0] -= 1
        return list((nothing if left[0] >= 0 else then)(prompts, completions))

    return reward


def raises(prompts: list[str], completions: list[str]) -> list[float]:
    raise ZeroDivisionError("no such thing")


def gives_nan(prompts: list[str], completions: list[str]) -> list[float]:
    return [math.nan] * len(completions)


def gives_too_few(prompts: list[str], completions: list[str]) -> list[float]:
    return [1.0]


def gives_words(prompts: list[str], completions: list[str]) -> list[float]:
    return ["good"] * len(completions)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (raises, "The reward function failed (ZeroDivisionError: no such thing)"),
        (gives_nan, "The reward function gave nan for a completion of the prompt"),
        (gives_too_few, "The reward function gave 1 numbers for 4 completions"),
        (gives_words, "The reward function failed (ValueError"),
    ],
)
def test_a_bad_reward_ends_the_run_and_its_checkpoint_goes_on(
    reward: RewardFunction, words: str, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed) as caught:
        train(tiny, tmp_path, later(reward, 3))
    assert words in str(caught.value)
    tracker = Watcher()
    report = train(tiny, tmp_path, nothing, tracker=tracker)
    assert "Resumed from the checkpoint of update 2." in tracker.lines
    assert len(report.details["history"]) == 4


def test_a_bad_held_out_reward_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="The held-out reward function gave nan"):
        train(tiny, tmp_path, nothing, held_out=gives_nan)


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_later(
    tiny: Path, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    whole = train(tiny, tmp_path / "whole", count_of("d"))
    try:
        with pytest.raises(TrainingFailed, match="make room"):
            train(tiny, tmp_path, count_of("d"), tracker=Watcher(3, fill_the_disk))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "work").glob("step-*")] == ["step-000000002"]
    tracker = Watcher()
    report = train(tiny, tmp_path, count_of("d"), tracker=tracker)
    assert "Resumed from the checkpoint of update 2." in tracker.lines
    assert report.details["history"] == whole.details["history"]


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def name_own_code(base: Path) -> None:
    (base / "modeling_own.py").write_text("raise SystemExit('this must never run')")
    edit(base / "config.json", auto_map={"AutoModelForCausalLM": "modeling_own.Own"})


def pickle_weights(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def damage_weights(base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"\0" * 64)


def lose_tokenizer(base: Path) -> None:
    for file in base.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (name_own_code, "code of its own, which is never run"),
        (pickle_weights, "no weights as safetensors"),
        (damage_weights, "cannot be opened as a causal language model"),
        (lose_tokenizer, "holds no tokenizer"),
    ],
)
def test_a_base_that_cannot_be_trusted_or_opened_is_refused(
    damage: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    base = make_policy(tmp_path / "base")
    damage(base)
    with pytest.raises(TrainingFailed, match=words):
        train(base, tmp_path, nothing)


def test_an_adapter_whose_base_names_code_of_its_own_is_refused(tmp_path: Path) -> None:
    base, adapter = make_policy(tmp_path / "base"), tmp_path / "adapter"
    name_own_code(base)
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(InvalidInput, match="code of its own"):
        open_base(str(adapter))


def test_an_adapter_of_another_kind_is_refused(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    settings = {"peft_type": "PROMPT_TUNING", "base_model_name_or_path": str(tiny)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(InvalidInput, match="no LoRA adapter"):
        open_base(str(tmp_path))


def test_a_tokenizer_without_end_is_refused(tmp_path: Path) -> None:
    base = make_policy(tmp_path / "base", has_end=False)
    with pytest.raises(TrainingFailed, match="has no end token, so no answer could end"):
        train(base, tmp_path, nothing)


def test_a_tokenizer_without_padding_is_no_hindrance(tiny: Path, tmp_path: Path) -> None:
    assert "pad_token" not in json.loads((tiny / "tokenizer_config.json").read_text())
    assert train(tiny, tmp_path, nothing, updates=1).metrics["num_updates"] == 1


@pytest.mark.parametrize("prompts", [[], [PromptOnly("  ", "0")]])
def test_without_prompts_there_is_nothing_to_train_on(
    prompts: list[PromptOnly], tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotEnoughData, match="0 prompts, 1 more needed"):
        train(tiny, tmp_path, nothing, prompts=prompts)


def test_prompts_longer_than_the_context_are_left_out_and_counted(
    tiny: Path, tmp_path: Path
) -> None:
    prompts = [PromptOnly("a b c", "0"), PromptOnly("a " * 60, "1"), PromptOnly("d", "2")]
    report = train(tiny, tmp_path, nothing, prompts=prompts, updates=1)
    assert report.metrics["num_prompts_too_long"] == 1
    with pytest.raises(TrainingFailed, match="All 1 prompts are longer than the 58 tokens"):
        train(tiny, tmp_path / "b", nothing, prompts=prompts[1:2])


def test_answers_longer_than_the_context_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="reads 64 tokens, prompt included"):
        train(tiny, tmp_path, nothing, response_tokens=64)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0}, {"temperature": 0.0}, {"batch_size": 1}, {"updates": 2.5}, {"critic": "none"},
        {"precision": "int8"}, {"num_mini_batches": 64}, {"kl_target": 0.0}, {"gamma": 1.1},
        {"base": " "}, {"missing_eos_penalty": -1.0}, {"seed": True}, {"lr": math.nan},
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        PpoParams(**{"base": "folder", **options})  # type: ignore[arg-type]
    assert caught.value.field == next(iter(options))


def test_several_rewards_are_summed_by_weight() -> None:
    mixed = mix_rewards([(count_of("a"), 2.0), (count_of("b"), -0.5)])
    assert mixed(["p", "p"], ["a a b", "b b"]) == [3.5, -1.0]
    with pytest.raises(InvalidInput, match="at least one"):
        mix_rewards([])
    with pytest.raises(RlhfError, match=r"2\. reward function gave nan"):
        mix_rewards([(nothing, 1.0), (gives_nan, 1.0)])(["p"], ["c"])
