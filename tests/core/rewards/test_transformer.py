"""The transformer reward model, on tiny real models made on the spot."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import PreferencePair, ScoredCompletion, UnpairedPreference
from rlhf_core.rewards.base import RewardModel
from rlhf_core.rewards.loading import load_model
from rlhf_core.rewards.transformer import TransformerParams, load_transformer, train_transformer
from rlhf_core.training import NoOpTracker, TrainReport
from rlhf_core.vocabulary import ModelKind
from tests.learning.rated import make_rows
from tests.learning.tiny_models import make_bert, make_llama

QUICK = {
    "epochs": 4, "lr": 3e-3, "head_lr": 3e-3, "max_tokens": 48, "precision": "fp32",
    "layer_decay": 1.0, "checkpoint_every": 1_000,
}  # fmt: skip
GOOD = "Of course: tents need patience, good tools and a plan."
BAD = "No idea."


class Notebook(NoOpTracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.fractions: list[float] = []
        self.numbers: list[dict[str, float]] = []

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.numbers.append(values)

    def log(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


def run(rows: Sequence[Any], base: Path | str, folder: Path, **options: Any) -> TrainReport:
    tracker = options.pop("tracker", NoOpTracker())
    out_dir = folder / "model"
    out_dir.mkdir(parents=True)
    return train_transformer(
        rows,
        params=TransformerParams(base=str(base), **QUICK | options),
        out_dir=out_dir,
        work_dir=folder / "work",
        tracker=tracker,
    )


def make_pairs(number: int) -> list[PreferencePair]:
    rows = make_rows(2 * number, a_prompt=2)
    return [
        PreferencePair(good.prompt, good.completion, bad.completion, 1.0, good.group)
        for good, bad in zip(rows[0::2], rows[1::2], strict=True)
    ]


def with_aspects(rows: list[ScoredCompletion]) -> list[ScoredCompletion]:
    return [
        replace(row, aspects={"short": 5.0 if len(row.completion) < 20 else 1.0}) for row in rows
    ]


def test_it_learns_ratings_and_tells_its_way(bert: Path, tmp_path: Path) -> None:
    tracker = Notebook()
    report = run(make_rows(160), bert, tmp_path, tracker=tracker, epochs=8)
    assert report.metrics["auc"] > 0.95
    assert report.metrics["spearman"] > 0.6
    assert {"length_only_auc", "majority_accuracy", "brier", "ece"} <= set(report.metrics)
    assert all(np.isfinite(value) for value in report.metrics.values())
    assert tracker.fractions == sorted(tracker.fractions)
    assert tracker.fractions[-1] == 1.0
    assert any("held-out" in line for line in tracker.lines)
    assert any("held_out_loss" in values for values in tracker.numbers)
    json.dumps(report.details)
    model = load_transformer(report.artifact_dir)
    assert isinstance(model, RewardModel)
    assert model.is_probability
    scores = model.score(["Tell me about chess."] * 2, [BAD, GOOD])
    assert scores[0] < 0.45 < 0.55 < scores[1]
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_it_learns_thumbs(bert: Path, tmp_path: Path) -> None:
    rows = [
        UnpairedPreference(row.prompt, row.completion, row.score >= 4, row.group)
        for row in make_rows(80)
    ]
    assert run(rows, bert, tmp_path).metrics["auc"] > 0.95


def test_it_learns_pairs_and_its_log_odds_are_those_of_a_preference(
    bert: Path, tmp_path: Path
) -> None:
    report = run(make_pairs(80), bert, tmp_path, epochs=3)
    assert report.metrics["pair_accuracy"] > 0.95
    model = load_model(ModelKind.REWARD_TRANSFORMER, report.artifact_dir)
    scores = model.score(["Tell me about chess."] * 2, [GOOD, BAD])
    odds = np.log(scores / (1 - scores))
    assert odds[0] - odds[1] > 1.0
    assert 0.0 < scores[1] < 0.5 < scores[0] < 1.0


def test_a_causal_model_without_padding_token_learns(tmp_path: Path) -> None:
    base = make_llama(tmp_path / "llama")
    report = run(make_rows(80), base, tmp_path, epochs=5)
    assert report.metrics["auc"] > 0.9
    model = load_transformer(report.artifact_dir)
    prompts, sides = ["Tell me about chess."] * 3, [GOOD, BAD, GOOD]
    together = model.score(prompts, sides)
    alone = [float(model.score(["Tell me about chess."], [side])[0]) for side in sides]
    assert together == pytest.approx(alone, abs=0.02)  # padding does not count; 16 bits round


def test_lora_leaves_a_model_that_stands_alone(bert: Path, tmp_path: Path) -> None:
    report = run(make_rows(80), bert, tmp_path, lora_rank=4, epochs=8)
    assert report.metrics["auc"] > 0.9
    names = {path.name for path in report.artifact_dir.iterdir()}
    assert "model.safetensors" in names
    assert not any("adapter" in name for name in names)
    assert load_transformer(report.artifact_dir).score(["x"], [GOOD]).shape == (1,)


def test_aspects_get_heads_that_weights_mix(bert: Path, tmp_path: Path) -> None:
    rows = with_aspects(make_rows(160))
    model = load_transformer(run(rows, bert, tmp_path, aspect_weight=1.0, epochs=6).artifact_dir)
    assert model.aspects == ("short",)
    prompts, sides = ["Tell me about chess."] * 2, [GOOD, BAD]
    overall, short = (
        model.score(prompts, sides, weights={name: 1}) for name in ("overall", "short")
    )
    assert overall[0] > overall[1]
    assert short[0] < short[1]
    mixed = model.score(prompts, sides, weights={"overall": 3, "short": 1})
    assert mixed == pytest.approx(0.75 * overall + 0.25 * short)
    with pytest.raises(InvalidInput, match="kindness"):
        model.score(prompts, sides, weights={"kindness": 1})


def test_aspects_can_be_left_out(bert: Path, tmp_path: Path) -> None:
    report = run(with_aspects(make_rows(60)), bert, tmp_path, aspects=False, epochs=1)
    assert report.details["heads"] == ["overall"]


def test_scores_keep_their_order_whatever_the_lengths(bert: Path, tmp_path: Path) -> None:
    model = load_transformer(run(make_rows(60), bert, tmp_path, epochs=1).artifact_dir)
    sides = [GOOD, BAD, "word " * 40, GOOD, "", BAD * 5]
    prompts = [f"Tell me about chess, part {index}." for index in range(6)]
    together = model.score(prompts, sides)
    alone = [float(model.score([p], [s])[0]) for p, s in zip(prompts, sides, strict=True)]
    assert together == pytest.approx(alone, abs=0.02)
    assert model.score([], []).shape == (0,)
    with pytest.raises(InvalidInput, match="2 prompts, but 1"):
        model.score(["a", "b"], ["c"])


def test_very_long_texts_train_and_score(bert: Path, tmp_path: Path) -> None:
    rows = make_rows(60)
    rows[0] = replace(rows[0], prompt="why " * 25_000, group="long")
    rows[1] = replace(rows[1], completion="because " * 12_500)
    rows[2] = replace(rows[2], completion="x" * 100_000)
    report = run(rows, bert, tmp_path, epochs=1)
    assert report.details["rows"]["num_completions_cut"] >= 1
    model = load_transformer(report.artifact_dir)
    assert np.isfinite(model.score(["why " * 25_000], ["because " * 12_500])).all()


def test_rows_beyond_the_limit_are_dropped_counted_and_said(bert: Path, tmp_path: Path) -> None:
    rows = make_rows(64)
    for place in range(6):
        rows[place] = replace(rows[place], completion="because " * 100)
    tracker = Notebook()
    report = run(rows, bert, tmp_path, overlong="drop", epochs=1, tracker=tracker)
    assert report.num_rows == 58
    assert report.metrics["num_dropped_too_long"] == 6.0
    assert any("6 of 64 rows are left out" in line for line in tracker.lines)
    rows = [replace(row, completion="because " * 100) for row in rows[:20]] + rows[20:]
    with pytest.raises(TrainingFailed, match=r"20 of 64 rows are longer than 48 tokens"):
        run(rows, bert, tmp_path / "again", overlong="drop", epochs=1)


def test_the_run_ends_early_where_no_epoch_is_better(bert: Path, tmp_path: Path) -> None:
    rows = [replace(row, score=1.0 + (hash_of(row) % 5)) for row in make_rows(60)]
    report = run(rows, bert, tmp_path, epochs=40, patience=2, lr=5e-3)
    assert len(report.details["history"]) < 40


def hash_of(row: ScoredCompletion) -> int:
    return sum(row.interaction_id.encode()) * 7919 // 13


def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    bert: Path, tmp_path: Path
) -> None:
    files = [
        (run(make_rows(60), bert, tmp_path / name, epochs=1, seed=seed).artifact_dir)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    first, again, other = ((file / "model.safetensors").read_bytes() for file in files)
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (make_rows(49), NotEnoughData, "49 rated interactions, 1 more needed"),
        ([], NotEnoughData, "0 rows"),
        ([replace(row, score=3.0) for row in make_rows(60)], TrainingFailed, "same rating 3"),
        (make_rows(120)[0::2], TrainingFailed, "All 60 rated interactions are good"),
        (make_pairs(49), NotEnoughData, "49 preference pairs"),
        ([replace(pair, group="one") for pair in make_pairs(60)], TrainingFailed, "one prompt"),
        ([*make_rows(60), *make_pairs(60)], InvalidInput, "mixed"),
        ([replace(make_rows(1)[0], completion=" "), *make_rows(60)], InvalidInput, "empty comp"),
        ([replace(make_pairs(1)[0], rejected=""), *make_pairs(60)], InvalidInput, "empty comp"),
        ([replace(make_rows(1)[0], score=7.0), *make_rows(60)], InvalidInput, "rating 7"),
        ([replace(make_pairs(1)[0], margin=-1.0), *make_pairs(60)], InvalidInput, "margin -1"),
    ],
)
def test_rows_that_cannot_train_are_refused_with_a_sentence(
    rows: list[Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        run(rows, "minilm", tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"base": "/no/such/model"}, TrainingFailed, "There is no base model"),
        ({"max_tokens": 4_096}, TrainingFailed, "reads at most 128 tokens"),
        ({"objective": "preference"}, InvalidInput, "needs pairs"),
        ({"precision": "fp16"}, TrainingFailed, "needs a GPU"),
    ],
)
def test_a_base_or_choice_that_does_not_work_is_refused_with_a_sentence(
    options: dict[str, Any], error: type[Exception], words: str, bert: Path, tmp_path: Path
) -> None:
    base = options.pop("base", bert)
    with pytest.raises(error, match=words):
        run(make_rows(60), base, tmp_path, **options)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("lr", 0.0), ("threshold", 1.0), ("precision", "fp8"), ("overlong", "no"),
     ("batch_size", 0), ("objective", "ppo"), ("base", " "), ("lr", float("nan")), ("seed", -1)],
)  # fmt: skip
def test_a_parameter_beyond_its_range_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=name) as caught:
        TransformerParams(**{name: value})
    assert caught.value.field == name


def test_a_model_folder_with_damage_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = run(make_rows(60), bert, tmp_path, epochs=1).artifact_dir
    spec = folder / "reward_model.json"
    text = spec.read_text()
    for damaged in ("{}", "no json", text.replace('"overall"', '"other"')):
        spec.write_text(damaged)
        with pytest.raises(InvalidInput, match="train"):
            load_transformer(folder)
    spec.write_text(text)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "own.Own"}}))
    with pytest.raises(InvalidInput, match="code of its own"):
        load_transformer(folder)
