"""What learners through TRL learn, what they tell, and what they refuse with a sentence."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import PreferencePair, PromptOnly
from rlhf_core.policies.base import load_policy
from rlhf_core.policies.dpo import DpoParams
from rlhf_core.policies.grpo import GrpoParams
from rlhf_core.policies.kto import KtoParams
from rlhf_core.policies.rloo import RlooParams
from tests.core.policies.relatives import (
    PAIRS,
    RELATIVES,
    THUMBS,
    Learn,
    distil,
    dpo,
    grpo,
    kto,
    rloo,
    run,
)
from tests.core.policies.tiny_policies import (
    Watcher,
    count_of,
    make_adapter,
    make_policy,
    make_prompts,
    nothing,
)

ROOT = Path(__file__).resolve().parents[3]
REWARDED = [rloo, grpo]


def logprob(folder: Path, prompt: str, completion: str) -> float:
    import torch

    model, tokenizer = load_policy(folder)
    shown = tokenizer(prompt)["input_ids"]
    ids = [*shown, *tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
    with torch.inference_mode():
        scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    places = range(len(shown) - 1, len(ids) - 1)
    return float(sum(scores[place, ids[place + 1]] for place in places))


def lead(folder: Path) -> float:
    """By how much the good answer is likelier than the bad one."""
    good, bad = (logprob(folder, "b c d", text) for text in ("good yes d", "bad no e"))
    return good - bad


@pytest.mark.parametrize("options", [{}, pytest.param({"lora_rank": 4}, marks=pytest.mark.slow)])
@pytest.mark.parametrize("relative", [dpo, kto])
def test_good_answers_become_likelier_than_bad_ones(
    relative: Callable[..., Learn], options: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    tracker = Watcher()
    report = run(relative(tiny, epochs=4, **options), tmp_path, tracker)
    assert lead(tmp_path / "model") > lead(tiny) + 1.0
    assert report.metrics["margin"] > 0.05 > abs(report.metrics["first_margin"])
    judged = [entry["eval_loss"] for entry in report.details["history"] if "eval_loss" in entry]
    assert len(judged) == 4
    assert judged[-1] < judged[0]
    steps = int(report.metrics["num_steps"])
    assert set(tracker.told) == set(range(1, steps + 1))
    assert {"loss", "margin", "entropy", "lr"} <= set(tracker.told[1])
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("relative", [pytest.param(rloo, marks=pytest.mark.slow), grpo])
def test_a_reward_rises_and_the_held_out_one_teaches_nothing(
    relative: Callable[..., Learn], tiny: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "updates": 20, "batch_size": 32, "micro_batch_size": 32, "lr": 1e-2, "keep_best": False,
    }  # fmt: skip
    tracker = Watcher()
    report = run(relative(tiny, held=count_of("e"), **options), tmp_path / "a", tracker)
    assert report.metrics["reward"] > report.metrics["first_reward"] + 0.5
    assert report.metrics["first_kl"] == pytest.approx(0.0, abs=1e-4)
    assert {
        "reward", "held_out_reward", "kl", "entropy", "length", "eos_share", "clipfrac",
        "policy_loss", "distinct_2", "opening_share", "tokens_per_s", "generation_share",
        "memory_mb",
    } <= set(tracker.told[1])  # fmt: skip
    alone = run(relative(tiny, held=nothing, **options), tmp_path / "b")
    for one, other in zip(report.details["history"], alone.details["history"], strict=True):
        assert one["reward"] == other["reward"]


def test_answers_that_do_not_end_are_penalised(tiny: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"updates": 20, "batch_size": 32, "micro_batch_size": 32, "lr": 1e-2}
    report = run(rloo(tiny, reward=nothing, missing_eos_penalty=3.0, **options), tmp_path)
    assert report.metrics["eos_share"] > report.metrics["first_eos_share"] + 0.3
    assert report.metrics["reward"] == 0.0


@pytest.mark.slow
def test_a_student_comes_near_its_teacher(tiny: Path, tmp_path: Path) -> None:
    teacher = run(dpo(tiny, epochs=8), tmp_path / "teacher").artifact_dir
    report = run(
        distil(tiny, teacher=teacher, updates=15, batch_size=32, micro_batch_size=32),
        tmp_path / "student",
    )
    assert report.metrics["loss"] < report.metrics["first_loss"] / 2
    assert lead(tmp_path / "student" / "model") > lead(tiny)


def test_a_teacher_with_other_tokens_is_refused(tiny: Path, tmp_path: Path) -> None:
    other = make_policy(tmp_path / "other", vocab_size=40)
    with pytest.raises(TrainingFailed, match="has other tokens than the student"):
        run(distil(tiny, teacher=other), tmp_path)


@pytest.mark.parametrize("relative", [dpo, rloo])
def test_an_adapter_of_sft_is_trained_on_and_its_copy_is_the_reference(
    relative: Callable[..., Learn], tiny: Path, tmp_path: Path
) -> None:
    adapter = make_adapter(tiny, tmp_path / "adapter")
    report = run(relative(adapter, merge_adapter=False), tmp_path / "run")
    first = report.details["history"][0]
    assert first.get("margin", first.get("kl")) == pytest.approx(0.0, abs=1e-4)
    names = {path.name for path in (tmp_path / "run" / "model").iterdir()}
    assert "adapter_model.safetensors" in names
    assert "ref" not in names
    load_policy(tmp_path / "run" / "model")
    with pytest.raises(TrainingFailed, match="has rank 2; choose 0 or 2"):
        run(relative(adapter, lora_rank=3), tmp_path / "other")


@pytest.mark.slow
def test_a_greater_margin_asks_for_a_greater_lead(tiny: Path, tmp_path: Path) -> None:
    clear = [replace(pair, margin=4.0) for pair in PAIRS]
    found = {
        weight: run(dpo(tiny, clear, epochs=4, margin_weight=weight), tmp_path / str(weight))
        for weight in (0.0, 1.0)
    }
    assert abs(found[1.0].metrics["first_margin"]) < 1e-3  # of the base: told without the offset
    assert found[1.0].metrics["margin"] > found[0.0].metrics["margin"]


def test_good_and_bad_answers_count_alike(tiny: Path, tmp_path: Path) -> None:
    report = run(kto(tiny, THUMBS, held_out_percent=0.0), tmp_path)
    num_good = sum(row.label for row in THUMBS)
    assert report.metrics["good_weight"] == (len(THUMBS) - num_good) / num_good
    with pytest.raises(NotEnoughData, match="thumb down"):
        run(kto(tiny, [row for row in THUMBS if row.label]), tmp_path)


def test_the_policy_is_shown_prompts_by_its_chat_template(tmp_path: Path) -> None:
    base = make_policy(tmp_path / "base")
    (base / "chat_template.jinja").write_text(
        "{% for one in messages %}yes {{ one.content }} no {% endfor %}"
    )
    seen: list[str] = []

    def reward(prompts: list[str], completions: list[str]) -> list[float]:
        seen.extend(prompts)
        return count_of("d")(prompts, completions)

    prompts = make_prompts(4)
    report = run(rloo(base, prompts, reward=reward, prompt_tokens=6), tmp_path)
    assert set(seen) == {one.prompt for one in prompts if len(one.prompt.split()) + 2 <= 6}
    assert report.metrics["num_prompts_too_long"] == len(prompts) - len(set(seen))
    answers = report.details["samples"][0]["answers"]
    assert {one["prompt"] for one in answers} == set(seen)


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        (lambda prompts, completions: [1 / 0], r"The reward function failed \(ZeroDivisionError"),
        (lambda prompts, completions: [math.nan] * len(completions), "gave nan for a completion"),
        (lambda prompts, completions: [1.0], "gave 1 numbers for 8 completions"),
    ],
)
@pytest.mark.parametrize("relative", REWARDED)
def test_a_bad_reward_ends_the_run_with_a_sentence(
    relative: Callable[..., Learn], reward: Any, words: str, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match=words):
        run(relative(tiny, reward=reward), tmp_path)


def test_a_bad_held_out_reward_is_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="The held-out reward function gave nan"):
        run(rloo(tiny, held=lambda prompts, answers: [math.nan] * len(answers)), tmp_path)


@pytest.mark.slow
def test_a_policy_that_goes_far_off_is_stopped(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"went far from the base .*; the last checkpoint"):
        run(
            rloo(tiny, lr=0.03, updates=30, max_kl=0.5, checkpoint_every=1),
            tmp_path,
        )
    assert list((tmp_path / "work").glob("step-*"))


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    base = make_policy(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight.fill_(math.nan)
    model.save_pretrained(base)
    with pytest.raises(TrainingFailed, match="The loss was no number any more in step 1: choose"):
        run(dpo(base), tmp_path)


@pytest.mark.parametrize("relative", RELATIVES)
def test_without_rows_there_is_nothing_to_learn_from(
    relative: Callable[..., Learn], tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(NotEnoughData, match="1 more needed"):
        run(relative(tiny, []), tmp_path)


@pytest.mark.parametrize(
    ("relative", "rows"),
    [
        (dpo, [PreferencePair("a " * 60, "b", "c", 1.0, "0")]),
        (kto, [replace(row, prompt="a " * 60) for row in THUMBS]),
        (rloo, [PromptOnly("a " * 60, "0")]),
    ],
)
def test_prompts_longer_than_the_context_are_refused(
    relative: Callable[..., Learn], rows: Any, tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="are longer than the 58 tokens"):
        run(relative(tiny, rows), tmp_path)


@pytest.mark.parametrize("relative", [dpo, rloo])
def test_a_base_with_code_of_its_own_is_refused(
    relative: Callable[..., Learn], tmp_path: Path
) -> None:
    base = make_policy(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingFailed, match="code of its own, which is never run"):
        run(relative(base), tmp_path)


@pytest.mark.parametrize(
    ("params", "field", "value"),
    [
        (DpoParams, "beta", 0.0), (DpoParams, "epochs", 1.5), (DpoParams, "lr", math.nan),
        (DpoParams, "precision", "int8"), (DpoParams, "base", " "), (DpoParams, "seed", True),
        (KtoParams, "micro_batch_size", 1), (KtoParams, "good_weight", 0.0),
        (RlooParams, "num_generations", 5), (RlooParams, "schedule", "cosine"),
        (GrpoParams, "scale_rewards", "all"), (GrpoParams, "kl_coef", -1.0),
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_refused_by_name(
    params: Callable[..., object], field: str, value: object
) -> None:
    with pytest.raises(InvalidInput) as caught:
        params(**{"base": "folder", field: value})
    assert caught.value.field == field


TOGETHER = """
import json, sys
from pathlib import Path
import torch
from tests.core.policies import relatives
torch.set_num_threads(1)
base, folder = Path(sys.argv[1]), Path(sys.argv[2])
name = sys.argv[3]
whole = {"sft": relatives.SHOWN[:16], "dpo": relatives.PAIRS[:16],
         "kto": relatives.THUMBS[:16]}.get(name)
own = {"held_out_percent": 0.0} if name in ("dpo", "kto", "sft") else {}
report = relatives.run(getattr(relatives, name)(base, whole, **own), folder)
(folder / "history.json").write_text(json.dumps(report.details["history"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "dpo", "kto", "rloo", "grpo"])
def test_two_processes_learn_what_one_does(name: str, tiny: Path, tmp_path: Path) -> None:
    """Up to rounding, at an equal global batch.

    Rows that do not go up in whole batches are filled with others where processes share them. KTO
    holds answers against others of the same rows at once, of all processes: these are more of two.
    """
    near = 0.02 if name == "kto" else 1e-3
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    told = {}
    for count in (1, 2):
        launch = [sys.executable, str(script)]
        if count == 2:
            launch = [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node", "2", str(script),
            ]  # fmt: skip
        folder = tmp_path / str(count)
        done = subprocess.run(
            [*launch, str(tiny), str(folder), name],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told[count] = json.loads((folder / "history.json").read_text())
    for one, two in zip(told[1], told[2], strict=True):
        for figure in {"loss", "gradient_norm", "reward", "margin"} & set(one):
            assert one[figure] == pytest.approx(two[figure], rel=near, abs=1e-4)
