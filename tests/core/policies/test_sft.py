"""A policy imitates answers; what it is shown is only read."""

from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_core.errors import NotEnoughData, TrainingFailed
from rlhf_core.examples import SftExample
from rlhf_core.policies.base import load_policy
from rlhf_core.policies.sft import SftParams, train_sft
from rlhf_core.training import NoOpTracker, TrainReport
from tests.core.policies.tiny_policies import Watcher, make_adapter, make_prompts

GOOD = "good yes d"
ROWS = [
    SftExample(row.prompt, GOOD, row.group, is_correction=not place % 5)
    for place, row in enumerate(make_prompts(20))
]
OPTIONS: dict[str, Any] = {
    "epochs": 2, "batch_size": 8, "micro_batch_size": 4, "response_tokens": 6, "lr": 1e-2,
    "precision": "fp32", "checkpoint_every": 2, "sample_every": 2,
}  # fmt: skip


def imitate(
    base: Path,
    folder: Path,
    rows: list[SftExample] | None = None,
    tracker: NoOpTracker | None = None,
    **options: Any,
) -> TrainReport:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    return train_sft(
        ROWS if rows is None else rows,
        params=SftParams(base=str(base), **OPTIONS | options),
        out_dir=folder / "model",
        work_dir=folder / "work",
        tracker=tracker or NoOpTracker(),
    )


def loss_of(folder: Path, prompt: str, completion: str) -> tuple[float, float]:
    """Nats a token of the completion with its end, and of the prompt."""
    model, tokenizer = load_policy(folder)
    shown = tokenizer(prompt)["input_ids"]
    ids = [*shown, *tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
    with torch.inference_mode():
        scores = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    told = [-float(scores[place, ids[place + 1]]) for place in range(len(ids) - 1)]
    answer = told[len(shown) - 1 :]
    return sum(answer) / len(answer), sum(told[: len(shown) - 1]) / (len(shown) - 1)


@pytest.mark.parametrize("options", [{}, {"lora_rank": 4}])
def test_answers_are_imitated_and_their_end_learned(
    options: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    tracker = Watcher()
    report = imitate(tiny, tmp_path, tracker=tracker, epochs=8, **options)
    before, after = (loss_of(folder, "b c d", GOOD) for folder in (tiny, tmp_path / "model"))
    assert after[0] < before[0] - 0.5
    assert report.metrics["eval_loss"] < report.metrics["first_loss"] - 0.5
    assert report.metrics["num_corrections"] == 4
    assert {"loss", "lr"} <= set(tracker.told[1])
    assert any("eval_loss" in one for one in tracker.told.values())


def test_the_loss_is_that_of_the_completion_alone(tiny: Path, tmp_path: Path) -> None:
    rows = [ROWS[2]] * 4
    report = imitate(tiny, tmp_path, rows, epochs=1, batch_size=4, held_out_percent=0.0)
    expected, _ = loss_of(tiny, rows[0].prompt, GOOD)
    assert report.metrics["first_loss"] == pytest.approx(expected, rel=1e-3)


def test_a_stopped_run_resumes_with_the_same_result(tiny: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    whole = imitate(tiny, once)
    with pytest.raises(TrainingFailed, match="Stopped on request after step 3 of 6"):
        imitate(tiny, twice, tracker=Watcher(3))
    tracker = Watcher()
    report = imitate(tiny, twice, tracker=tracker)
    assert "Resumed from the checkpoint of step 3." in tracker.lines
    weights = [(one / "model" / "model.safetensors").read_bytes() for one in (once, twice)]
    assert weights[0] == weights[1]
    assert report.metrics["eval_loss"] == pytest.approx(whole.metrics["eval_loss"])


def test_an_adapter_is_gone_on_with(tiny: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny, tmp_path / "adapter")
    imitate(adapter, tmp_path, epochs=8, merge_adapter=False)
    assert (tmp_path / "model" / "adapter_config.json").is_file()
    assert loss_of(tmp_path / "model", "b c d", GOOD) < loss_of(adapter, "b c d", GOOD)


@pytest.mark.parametrize(
    ("rows", "options", "error", "words"),
    [
        ([], {}, NotEnoughData, "prompts with a completion"),
        ([SftExample("a " * 99, "b", "x")], {}, TrainingFailed, "choose more prompt_tokens"),
        (None, {"precision": "fp16"}, TrainingFailed, "fp16 needs a GPU"),
        (None, {"base": "/no/such/folder"}, TrainingFailed, "no base model"),
    ],
)
def test_what_cannot_work_ends_with_a_sentence(
    rows: list[SftExample] | None,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
    tiny: Path,
    tmp_path: Path,
) -> None:
    base = options.pop("base", tiny)
    with pytest.raises(error, match=words):
        imitate(base, tmp_path, rows, **options)
