"""The step model, on tiny real models made on the spot."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_core.artifacts import open_artifact, write_artifact
from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards.base import RewardModel
from rlhf_core.rewards.base_model import load_base
from rlhf_core.rewards.loading import load_model
from rlhf_core.rewards.steps import (
    StepParams,
    StepRewardModel,
    examine_steps,
    load_step_model,
    train_steps,
)
from rlhf_core.rewards.steps_network import Reading, find_reading
from rlhf_core.training import NoOpTracker, TrainReport
from rlhf_core.vocabulary import ModelKind
from tests.learning.stepped import WRONG_WORD, make_solutions
from tests.learning.tiny_models import make_bert, make_llama

OPTIONS: dict[str, Any] = {
    "epochs": 6, "lr": 5e-3, "head_lr": 1e-2, "max_tokens": 64, "batch_size": 8,
    "precision": "fp32", "patience": 0,
}  # fmt: skip
Train = Callable[..., TrainReport]


class Notebook(NoOpTracker):
    """Keeps the log; asks to stop, or dies, at a step."""

    def __init__(self, *, stop_after: int = 10**9, die_after: int = 10**9) -> None:
        self.lines: list[str] = []
        self.fractions: list[float] = []
        self.num_asked = 0
        self.stop_after, self.die_after = stop_after, die_after

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def should_stop(self) -> bool:
        self.num_asked += 1
        if self.num_asked >= self.die_after:
            raise KeyboardInterrupt
        return self.num_asked >= self.stop_after


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def train(bert: Path, tmp_path: Path) -> Train:
    def run(rows: Sequence[SteppedCompletion], **options: Any) -> TrainReport:
        tracker = options.pop("tracker", NoOpTracker())
        out_dir = options.pop("out_dir", tmp_path / "model")
        work_dir = options.pop("work_dir", tmp_path / "work")
        out_dir.mkdir(exist_ok=True)
        params = StepParams(**({"base": str(bert)} | OPTIONS | options))
        return train_steps(rows, params=params, out_dir=out_dir, work_dir=work_dir, tracker=tracker)

    return run


@pytest.fixture(scope="module")
def trained(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainReport, Notebook]:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "model").mkdir()
    tracker = Notebook()
    report = train_steps(
        make_solutions(160),
        params=StepParams(**{**OPTIONS, "base": str(bert), "epochs": 8, "lr": 3e-3}),
        out_dir=folder / "model",
        work_dir=folder / "work",
        tracker=tracker,
    )
    return report, tracker


@pytest.fixture(scope="module")
def model(trained: tuple[TrainReport, Notebook]) -> StepRewardModel:
    return load_step_model(trained[0].artifact_dir)


def test_it_learns_which_steps_are_wrong(
    trained: tuple[TrainReport, Notebook], model: StepRewardModel
) -> None:
    report, tracker = trained
    assert report.metrics["auc"] > 0.95
    assert report.metrics["first_error_f1"] > 0.8
    good, bad = "patience tools plan work", f"patience {WRONG_WORD} plan work"
    scores = model.score_steps(["tell me about chess"], [[good, bad, good]])[0]
    assert scores.shape == (3,)
    assert scores[1] < 0.5 < scores[0]
    found = model.find_first_error(
        ["tell me about chess"] * 3, [[good, bad, bad], [good, good, bad], [good, good, good]]
    )
    assert found == [1, 2, None]
    assert tracker.fractions == sorted(tracker.fractions)
    assert tracker.fractions[-1] == 1.0
    assert not list((report.artifact_dir.parent / "work").glob("step-*"))


def test_a_language_model_that_adds_nothing_is_not_kept(train: Train) -> None:
    drawn = random.Random(0)
    rows = [
        replace(row, labels=tuple(drawn.random() < 0.7 for _ in row.labels))
        for row in make_solutions(60)
    ]
    tracker = Notebook()
    report = train(rows, epochs=3, lr=0.02, tracker=tracker)
    assert report.details["best_epoch"] == 0
    assert report.metrics["log_loss"] == pytest.approx(report.metrics["line_log_loss"], abs=1e-5)
    assert any("Without the language model" in line for line in tracker.lines)


def test_scores_of_completions_are_aggregates_of_their_steps(model: StepRewardModel) -> None:
    assert isinstance(model, RewardModel)
    assert (model.is_probability, model.aspects) == (True, ())
    steps = ["patience tools plan", f"ask {WRONG_WORD} better", "work talk ask"]
    of_steps = model.score_steps(["tell me"], [steps])[0]
    for aggregate, expected in {
        "min": of_steps.min(), "product": of_steps.prod(), "last": of_steps[-1],
    }.items():  # fmt: skip
        found = model.score(["tell me"], ["\n".join(steps)], aggregate=aggregate)  # type: ignore[arg-type]
        assert found == pytest.approx([expected])
    assert model.score(["tell me"], ["\n".join(steps)]) == pytest.approx([of_steps.min()])
    assert model.score([], []).shape == (0,)
    with pytest.raises(InvalidInput, match="aggregate 'mean'"):
        model.score(["a"], ["b"], aggregate="mean")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="no head for 'tone'"):
        model.score(["a"], ["b"], weights={"tone": 1.0})
    with pytest.raises(InvalidInput, match="2 prompts"):
        model.score(["a", "b"], ["b"])


def test_scores_do_not_depend_on_what_else_is_scored(model: StepRewardModel) -> None:
    rows = make_solutions(12, seed=9)
    prompts, steps = [row.prompt for row in rows], [row.completions for row in rows]
    together = model.score_steps(prompts, steps)
    for prompt, one, expected in zip(prompts, steps, together, strict=True):
        assert model.score_steps([prompt], [one])[0] == pytest.approx(expected, abs=1e-2)


def test_a_step_is_judged_by_what_stands_before_it(model: StepRewardModel) -> None:
    first, second = ["work plan talk", "ask better work"], ["work plan talk", "ask worse plan"]
    one, other = model.score_steps(["tell me"] * 2, [first, second])
    assert one[0] == pytest.approx(other[0], abs=1e-6)
    assert one[1] != pytest.approx(other[1], abs=1e-6)


def test_solutions_of_any_length_are_scored(model: StepRewardModel) -> None:
    many = ["work plan talk"] * 300
    texts = ["work " * 20_000, "x" * 100_000, "", "\n\n", "\ud800"]
    assert [len(found) for found in model.score_steps(["a", "b"], [many, []])] == [300, 0]
    scores = model.score(["tell me " * 20_000] * len(texts), texts)
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_model_is_loaded_as_it_was_written(
    trained: tuple[TrainReport, Notebook], model: StepRewardModel, tmp_path: Path
) -> None:
    def fill(folder: Path) -> None:
        for file in trained[0].artifact_dir.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())

    info = write_artifact(tmp_path / "artifact", fill)
    folder = open_artifact(info.path, info.manifest_sha256)
    loaded = load_model(ModelKind.REWARD_STEPS, folder)
    rows = make_solutions(5, seed=3)
    texts = [row.prompt for row in rows], ["\n".join(row.completions) for row in rows]
    assert (loaded.score(*texts) == model.score(*texts)).all()
    assert not [file for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pkl")]


def test_files_of_another_kind_are_refused(
    trained: tuple[TrainReport, Notebook], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="holds no step model"):
        load_step_model(tmp_path)
    for file in trained[0].artifact_dir.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spec = json.loads((tmp_path / "step_model.json").read_text())
    (tmp_path / "step_model.json").write_text(json.dumps(spec | {"facts": ["another"]}))
    with pytest.raises(InvalidInput, match="another format"):
        load_step_model(tmp_path)
    (tmp_path / "step_model.json").write_text(json.dumps(spec))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InvalidInput, match="cannot be opened"):
        load_step_model(tmp_path)


def weights_of(report: TrainReport) -> bytes:
    return (report.artifact_dir / "model.safetensors").read_bytes()


@pytest.mark.parametrize("die_after", [pytest.param(1, marks=pytest.mark.slow), 17])
def test_a_killed_run_goes_on_to_the_same_result(
    train: Train, tmp_path: Path, die_after: int
) -> None:
    rows, options = make_solutions(60), {"epochs": 3, "checkpoint_every": 4}
    whole = train(rows, out_dir=tmp_path / "whole", work_dir=tmp_path / "other", **options)
    with pytest.raises(KeyboardInterrupt):
        train(rows, tracker=Notebook(die_after=die_after), **options)
    tracker = Notebook()
    resumed = train(rows, tracker=tracker, **options)
    assert weights_of(resumed) == weights_of(whole)
    assert resumed.metrics == whole.metrics
    assert any("Resumed" in line for line in tracker.lines) == (die_after > 4)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(
    train: Train, tmp_path: Path
) -> None:
    rows, options = make_solutions(60), {"epochs": 3, "checkpoint_every": 4}
    whole = train(rows, out_dir=tmp_path / "whole", work_dir=tmp_path / "other", **options)
    with pytest.raises(KeyboardInterrupt):
        train(rows, tracker=Notebook(die_after=14), **options)
    file = tmp_path / "work" / "step-000000012" / "state.safetensors"
    damaged = bytearray(file.read_bytes())
    damaged[-100] ^= 1
    file.write_bytes(damaged)
    tracker = Notebook()
    resumed = train(rows, tracker=tracker, **options)
    assert weights_of(resumed) == weights_of(whole)
    assert any("step 12 is refused" in line for line in tracker.lines)
    assert any("Resumed from the checkpoint of step 8" in line for line in tracker.lines)


def test_a_run_that_is_asked_to_stop_keeps_its_checkpoint(train: Train) -> None:
    rows = make_solutions(60)
    with pytest.raises(TrainingFailed, match="Stopped on request after step 3"):
        train(rows, tracker=Notebook(stop_after=3))
    tracker = Notebook()
    train(rows, tracker=tracker, epochs=OPTIONS["epochs"])
    assert any("Resumed from the checkpoint of step 3" in line for line in tracker.lines)


def test_other_rows_do_not_go_on_from_a_checkpoint(train: Train) -> None:
    with pytest.raises(TrainingFailed, match="Stopped"):
        train(make_solutions(60), tracker=Notebook(stop_after=3))
    tracker = Notebook()
    train(make_solutions(60, seed=1), tracker=tracker, epochs=1)
    assert any("training starts anew" in line for line in tracker.lines)


@pytest.mark.slow
def test_a_causal_model_learns_too(train: Train, tmp_path: Path) -> None:
    llama = make_llama(tmp_path / "llama")
    report = train(make_solutions(100), base=str(llama))
    assert report.details["reading"] == "causal"
    assert report.metrics["auc"] > 0.9


def test_a_model_that_takes_no_mask_reads_solutions_whole(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_core.rewards.steps.find_reading", lambda model: Reading.WHOLE)
    report = train(make_solutions(60), epochs=2)
    assert report.details["reading"] == "whole"
    scored = load_step_model(report.artifact_dir).score_steps(["a"], [["work", "plan"]])
    assert np.isfinite(scored[0]).all()


def test_lora_leaves_a_plain_model(train: Train) -> None:
    report = train(make_solutions(60), lora_rank=4, epochs=2)
    assert np.isfinite(load_step_model(report.artifact_dir).score(["a"], ["work"])).all()
    assert not list(report.artifact_dir.glob("adapter*"))


def test_how_a_model_reads_is_found_by_trying(bert: Path, tmp_path: Path) -> None:
    model = load_base(bert, head="token")
    assert find_reading(model) is Reading.BLOCKS
    model.set_attn_implementation("eager")  # which would take the mask for numbers
    assert find_reading(model) is Reading.WHOLE
    llama = make_llama(tmp_path)
    assert find_reading(load_base(llama, head="token")) is Reading.CAUSAL


def test_labels_after_the_first_mistake_are_learned_from(train: Train) -> None:
    rows = make_solutions(80, until_first=False)
    report = train(rows, epochs=1)
    found = report.details["rows"]
    assert found["num_right"] + found["num_wrong"] == sum(len(row.labels) for row in rows)


def test_cuts_and_left_out_rows_are_counted_and_said(train: Train) -> None:
    rows = make_solutions(80)
    rows[0] = replace(rows[0], prompt="tell me " * 50)
    rows[1] = replace(rows[1], completions=("work " * 50_000,), labels=(True,))
    rows[2] = replace(rows[2], completions=("work plan",) * 40, labels=(True,) * 40)
    rows[3] = replace(rows[3], completions=("work", " "), labels=(True, False))
    rows[4] = replace(rows[4], labels=(None,) * len(rows[4].labels))
    tracker = Notebook()
    report = train(rows, tracker=tracker, epochs=1)
    assert report.num_rows == 79
    found = report.details["rows"]
    assert (found["num_unjudged"], found["num_empty_steps"]) == (1, 1)
    assert found["cuts"] == {"num_prompts": 1, "num_steps": 1, "num_windowed": 1}
    assert any("1 solutions are read in several windows" in line for line in tracker.lines)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], NotEnoughData, "0 solutions with a judged step, 50 more"),
        (make_solutions(49), NotEnoughData, "49 solutions"),
        (
            [replace(row, labels=(None,) * len(row.labels)) for row in make_solutions(60)],
            NotEnoughData,
            "0 solutions",
        ),
        (make_solutions(60, share_wrong=0.0), TrainingFailed, "are right: there is nothing"),
        (make_solutions(60, share_wrong=1.0), TrainingFailed, "are wrong: there is nothing"),
        (
            [replace(row, completions=(" ",) * len(row.labels)) for row in make_solutions(60)],
            NotEnoughData,
            "0 solutions",
        ),
        ([replace(make_solutions(1)[0], completions=(), labels=())], InvalidInput, "0 steps"),
        ([replace(make_solutions(1)[0], labels=(True,))], InvalidInput, "and 1 labels"),
        (
            [replace(row, group="one") for row in make_solutions(60)],
            TrainingFailed,
            "answer one prompt",
        ),
    ],
)
def test_rows_that_cannot_train_are_refused_with_a_sentence(
    train: Train, rows: list[SteppedCompletion], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(rows)


def test_a_base_that_does_not_exist_is_a_sentence(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="no base model"):
        train(make_solutions(60), base=str(tmp_path / "nowhere"))
    with pytest.raises(TrainingFailed, match="reads at most 128 tokens"):
        train(make_solutions(60), max_tokens=512)


def test_parameters_out_of_range_are_refused() -> None:
    for name, value in {
        "epochs": 0, "lr": 0.0, "max_tokens": 8, "held_out_percent": 0.0, "aggregate": "mean",
        "base": " ", "precision": "int8", "seed": -1,
    }.items():  # fmt: skip
        with pytest.raises(InvalidInput, match=name):
            StepParams(**{name: value})


def test_an_examination_stands_beside_its_baselines(model: StepRewardModel) -> None:
    rows = make_solutions(80, seed=5)
    found = examine_steps(model, rows, train_rows=make_solutions(160))
    assert found.purpose == "steps"
    assert found.num_rows == 80
    assert found.metrics["auc"] > 0.95
    beside = found.baselines["first_error_f1"]
    assert set(beside) == {"always_last", "always_first", "logistic"}
    assert found.metrics["first_error_f1"] > max(beside.values())
    low, high = found.intervals["first_error_f1"]
    assert low <= found.metrics["first_error_f1"] <= high
    assert found.intervals["gain_over_logistic_first_error_f1"][0] > 0
    num_judged = sum(label is not None for row in rows for label in row.labels)
    assert sum(found.confusion.values()) == num_judged
    assert {one.segment for one in found.slices} == {"action_type", "number of steps"}
    assert found.worst[0].error >= found.worst[-1].error
    assert found.leakage is not None
    assert found.leakage.num_seen > 0
    json.dumps(found.to_json(), allow_nan=False)


def test_an_examination_says_what_it_cannot_say(model: StepRewardModel) -> None:
    rows = [
        SteppedCompletion("tell me", ("work plan", "ask"), (None, True), f"g{number}")
        for number in range(3)
    ]
    found = examine_steps(model, rows)
    assert "first_error_f1" not in found.metrics
    assert found.leakage is None
    assert len(found.notes) == 2
    json.dumps(found.to_json(), allow_nan=False)
    for unjudged in ([], [replace(row, labels=(None, None)) for row in rows]):
        with pytest.raises(NotEnoughData):
            examine_steps(model, unjudged)
