"""The reward model, on the real sentence encoder and short texts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from rlhf_core.artifacts import open_artifact, write_artifact
from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import ScoredCompletion
from rlhf_core.rewards import features, sbert
from rlhf_core.rewards.base import RewardModel
from rlhf_core.rewards.sbert import SbertParams, SbertRewardModel, load_reward_model
from rlhf_core.rewards.sbert_files import CLASSIFIER_FILE, SPEC_FILE
from rlhf_core.training import NoOpTracker, TrainReport
from tests.learning.rated import make_rows, with_score

Train = Callable[..., TrainReport]


class Notebook(NoOpTracker):
    """A tracker that keeps what it is told."""

    def __init__(self, *, stops: bool = False) -> None:
        self.lines: list[str] = []
        self.fractions: list[float] = []
        self.stops = stops

    def progress(self, fraction: float, message: str = "") -> None:
        self.fractions.append(fraction)

    def log(self, text: str) -> None:
        self.lines.append(text)

    def should_stop(self) -> bool:
        return self.stops


@pytest.fixture
def train(encoder: CachedEncoder, tmp_path: Path) -> Train:
    def run(rows: Sequence[ScoredCompletion], **options: Any) -> TrainReport:
        tracker = options.pop("tracker", NoOpTracker())
        out_dir = options.pop("out_dir", tmp_path)
        params = SbertParams(**options)
        return sbert.train(rows, params=params, encoder=encoder, out_dir=out_dir, tracker=tracker)

    return run


def test_it_learns_what_separates_good_from_bad(train: Train, encoder: CachedEncoder) -> None:
    tracker = Notebook()
    report = train(make_rows(80), tracker=tracker)
    assert report.metrics["auc"] > 0.95
    assert report.metrics["accuracy"] > 0.9
    assert report.metrics["majority_accuracy"] == 0.5
    assert report.num_rows == 80
    model = load_reward_model(report.artifact_dir, encoder=encoder)
    assert isinstance(model, RewardModel)
    scores = model.score(
        ["Tell me about tents."] * 2,
        ["No idea.", "Of course: tents need patience, good tools and a plan."],
    )
    assert scores[0] < 0.3 < 0.7 < scores[1]
    assert tracker.fractions == sorted(tracker.fractions)
    assert tracker.fractions[-1] == 1.0
    assert any("length alone" in line for line in tracker.lines)


def test_every_figure_has_its_n_and_its_baseline(train: Train) -> None:
    report = train(make_rows(80))
    assert {"auc", "brier", "ece", "uncalibrated_ece", "length_only_auc"} <= set(report.metrics)
    assert all(np.isfinite(list(report.metrics.values())))
    assert report.details["n"] == 80
    assert sum(fold["n"] for fold in report.details["folds"]) == 80
    assert set(report.details["classification_report"]) == {"good", "bad"}
    low, high = report.details["intervals"]["auc"]
    assert low <= report.metrics["auc"] <= high
    json.dumps(report.details)


def test_same_rows_and_seed_give_the_same_model_and_figures(train: Train, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    reports = []
    for folder in folders:
        folder.mkdir()
        reports.append(train(make_rows(60), seed=3, out_dir=folder))
    assert reports[0].metrics == reports[1].metrics
    one, two = (skops.io.load(folder / CLASSIFIER_FILE) for folder in folders)
    assert one["overall"].coef_.tolist() == two["overall"].coef_.tolist()
    spec_files = [(folder / SPEC_FILE).read_bytes() for folder in folders]
    assert spec_files[0] == spec_files[1]


def test_shuffled_labels_teach_nothing(train: Train) -> None:
    rng = np.random.default_rng(0)
    rows = make_rows(240)
    scores = rng.permutation([row.score for row in rows])
    shuffled = [with_score(row, float(score)) for row, score in zip(rows, scores, strict=True)]
    assert abs(train(shuffled).metrics["auc"] - 0.5) < 0.12


def test_order_and_batch_do_not_change_scores(train: Train, encoder: CachedEncoder) -> None:
    rows = make_rows(60)
    model = load_reward_model(train(rows).artifact_dir, encoder=encoder)
    prompts, completions = [r.prompt for r in rows], [r.completion for r in rows]
    together = model.score(prompts, completions)
    backwards = model.score(prompts[::-1], completions[::-1])
    alone = model.score(prompts[:1], completions[:1])
    assert together[::-1] == pytest.approx(backwards, abs=1e-5)
    assert alone[0] == pytest.approx(together[0], abs=1e-5)
    assert together.min() >= 0
    assert together.max() <= 1
    assert model.score([], []).shape == (0,)


def test_scores_are_those_of_the_saved_classifier(train: Train, encoder: CachedEncoder) -> None:
    rows = make_rows(60)
    folder = train(rows).artifact_dir
    model = load_reward_model(folder, encoder=encoder)
    classifier = skops.io.load(folder / CLASSIFIER_FILE)["overall"]
    spec = json.loads((folder / SPEC_FILE).read_text())
    prompts, completions = [r.prompt for r in rows], [r.completion for r in rows]
    scale = features.TextScale(**spec["text_scale"])
    table = features.build_joint_features(
        encoder.encode(prompts),
        encoder.encode(completions),
        features.build_text_features(features.count_texts(prompts, completions), scale),
    )
    calibration = spec["heads"]["overall"]
    log_odds = classifier.decision_function(table) / calibration["temperature"]
    log_odds += calibration["shift"]
    scores = model.score(prompts, completions)
    assert scores == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-4)


def test_the_files_are_small(train: Train) -> None:
    folder = train(make_rows(60)).artifact_dir
    assert sum(path.stat().st_size for path in folder.iterdir()) < 100_000


def test_49_rows_are_one_too_few(train: Train) -> None:
    with pytest.raises(NotEnoughData, match="49 rated interactions, 1 more needed"):
        train(make_rows(49))


def test_rows_without_contrast_are_refused_with_what_to_do(train: Train) -> None:
    rows = make_rows(60)
    with pytest.raises(TrainingFailed, match=r"All 60 .* the same rating 4: .* better or worse"):
        train([with_score(row, 4.0) for row in rows])
    good = [with_score(row, 4.0 + index % 2) for index, row in enumerate(rows)]
    with pytest.raises(TrainingFailed, match=r"All 60 .* are good .* another threshold"):
        train(good)
    one_prompt = [replace(row, group="same") for row in rows]
    with pytest.raises(TrainingFailed, match="answer one prompt"):
        train(one_prompt)


def test_another_threshold_makes_other_rows_good(train: Train) -> None:
    assert train(make_rows(60), threshold=5.0).metrics["share_good"] < 0.5
    assert train(make_rows(60), threshold=2.0).metrics["share_good"] > 0.5


@pytest.mark.parametrize("threshold", [1.0, 5.5, float("nan")])
def test_threshold_outside_the_scale_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput, match="threshold"):
        SbertParams(threshold=threshold)


def test_empty_completion_is_refused_by_its_row(train: Train) -> None:
    rows = make_rows(60)
    rows[7] = replace(rows[7], completion=" \n")
    with pytest.raises(InvalidInput, match=r"Row 8 \(interaction row-7\) has an empty completion"):
        train(rows)


def test_text_of_100_000_characters_is_told_and_does_not_carry_scores_away(
    train: Train, encoder: CachedEncoder
) -> None:
    rows = make_rows(60)
    rows[0] = replace(rows[0], completion="Of course, this is good. " * 4_000)
    tracker = Notebook()
    model = load_reward_model(train(rows, tracker=tracker).artifact_dir, encoder=encoder)
    assert any("more than 2000 characters" in line for line in tracker.lines)
    score = model.score([rows[0].prompt], ["x" * 1_000_000])[0]
    assert 0 <= score <= 1


def test_beyond_the_limit_whole_prompts_are_drawn(train: Train) -> None:
    tracker = Notebook()
    report = train(make_rows(100), max_rows=60, tracker=tracker)
    assert 60 <= report.num_rows <= 64
    assert "rows are left out" in tracker.lines[0]


def test_asked_to_stop_it_stops(train: Train) -> None:
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        train(make_rows(60), tracker=Notebook(stops=True))


class OtherEncoder:
    digest = "f" * 64
    dimension = 384

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        raise AssertionError("the wrong encoder was asked")


def test_another_encoder_is_refused_before_it_is_asked(train: Train) -> None:
    folder = train(make_rows(60)).artifact_dir
    with pytest.raises(InvalidInput, match="trained with the encoder"):
        load_reward_model(folder, encoder=OtherEncoder())


def test_one_flipped_bit_is_refused(train: Train, encoder: CachedEncoder, tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        train(make_rows(60), out_dir=folder)

    artifact = write_artifact(tmp_path / "model", fill)
    folder = open_artifact(artifact.path, artifact.manifest_sha256)
    assert isinstance(load_reward_model(folder, encoder=encoder), SbertRewardModel)
    file = artifact.path / CLASSIFIER_FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"classifier\.skops is not the file"):
        open_artifact(artifact.path, artifact.manifest_sha256)


def test_file_with_code_of_others_is_not_loaded(train: Train, encoder: CachedEncoder) -> None:
    folder = train(make_rows(60)).artifact_dir
    classifier = LogisticRegression()
    classifier.coef_ = Path("/etc/passwd")  # pathlib is not on skops' list of trusted types
    skops.io.dump({"overall": classifier}, folder / CLASSIFIER_FILE)
    with pytest.raises(InvalidInput, match="not trusted"):
        load_reward_model(folder, encoder=encoder)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 broken"])
def test_broken_files_are_one_sentence(
    train: Train, encoder: CachedEncoder, content: bytes
) -> None:
    folder = train(make_rows(60)).artifact_dir
    (folder / CLASSIFIER_FILE).write_bytes(content)
    with pytest.raises(InvalidInput, match="holds no reward model"):
        load_reward_model(folder, encoder=encoder)


def test_another_kind_of_classifier_is_no_reward_model(
    train: Train, encoder: CachedEncoder
) -> None:
    folder = train(make_rows(60)).artifact_dir
    tree = DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
    skops.io.dump({"overall": tree}, folder / CLASSIFIER_FILE)
    with pytest.raises(InvalidInput):
        load_reward_model(folder, encoder=encoder)
