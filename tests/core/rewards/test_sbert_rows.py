"""The embeddings model on pairs, thumbs and aspects, with the real encoder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.errors import InvalidInput, NotEnoughData, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.rewards import sbert
from rlhf_core.rewards.sbert import SbertParams, SbertRewardModel, load_reward_model
from rlhf_core.rewards.sbert_rows import MAX_ASPECTS, TrainingRow, prepare_rows
from rlhf_core.training import NoOpTracker, TrainReport
from tests.learning.rated import make_pairs, make_rows, make_thumbs

GOOD = "Of course: tents need patience, good tools and a plan."
BAD = "I cannot talk about tents."
PROMPTS = ["Tell me about tents."] * 2


class Notebook(NoOpTracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def train(
    rows: Sequence[TrainingRow], encoder: CachedEncoder, folder: Path, **options: Any
) -> tuple[SbertRewardModel, TrainReport]:
    report = sbert.train(
        rows,
        params=SbertParams(**options),
        encoder=encoder,
        out_dir=folder,
        tracker=NoOpTracker(),
    )
    return load_reward_model(folder, encoder=encoder), report


def test_pairs_teach_which_completion_is_better(encoder: CachedEncoder, tmp_path: Path) -> None:
    model, report = train(make_pairs(80), encoder, tmp_path)
    assert report.metrics["pair_accuracy"] > 0.95
    assert report.num_rows == 80
    low, high = report.details["intervals"]["pair_accuracy"]
    assert low <= report.metrics["pair_accuracy"] <= high
    scores = model.score(PROMPTS, [BAD, GOOD])
    assert 0 <= scores[0] < 0.5 < scores[1] <= 1


def test_preference_turns_round_with_the_sides(encoder: CachedEncoder, tmp_path: Path) -> None:
    model, _ = train(make_pairs(60), encoder, tmp_path)
    there = model.prefer(PROMPTS, [GOOD, BAD], [BAD, BAD])
    back = model.prefer(PROMPTS, [BAD, BAD], [GOOD, BAD])
    assert there is not None
    assert back is not None
    assert there[0] > 0.8
    assert there[1] == pytest.approx(0.5)
    assert there + back == pytest.approx(np.ones(2))


def test_pairs_do_not_depend_on_which_side_is_named_first(encoder: CachedEncoder) -> None:
    prepared = prepare(make_pairs(60))
    assert prepared.others is not None
    assert 10 < prepared.labels.sum() < 50
    chosen = [
        first if is_first else second
        for first, second, is_first in zip(
            prepared.completions, prepared.others, prepared.labels, strict=True
        )
    ]
    assert chosen == [row.chosen for row in make_pairs(60)]


def test_ties_teach_that_both_sides_are_even(encoder: CachedEncoder, tmp_path: Path) -> None:
    pairs = make_pairs(60)
    undecided = [replace(row, margin=0.0) for row in make_pairs(60, seed=1)]
    sure, _ = train(pairs, encoder, tmp_path)
    (tmp_path / "ties").mkdir()
    unsure, report = train([*pairs, *undecided], encoder, tmp_path / "ties")
    assert report.details["num_ties"] == 60
    assert report.details["n"] == 60
    certain, uncertain = (model.prefer(PROMPTS, [GOOD] * 2, [BAD] * 2) for model in (sure, unsure))
    assert certain is not None
    assert uncertain is not None
    assert 0.5 < uncertain[0] < certain[0]


def test_thumbs_are_learned_from(encoder: CachedEncoder, tmp_path: Path) -> None:
    model, report = train(make_thumbs(80), encoder, tmp_path)
    assert report.metrics["auc"] > 0.95
    bad, good = model.score(PROMPTS, [BAD, GOOD])
    assert bad < 0.5 < good


def test_each_aspect_has_a_head_and_weights_mix_them(
    encoder: CachedEncoder, tmp_path: Path
) -> None:
    # brevity contradicts the rating: what is good is not brief
    rows = [
        replace(row, aspects={"helpful": row.score, "brief": 1.0 if row.score > 3 else 5.0})
        for row in make_rows(80)
    ]
    model, report = train(rows, encoder, tmp_path)
    assert model.aspects == ("brief", "helpful")
    assert report.details["aspects"]["brief"]["auc"] > 0.9
    brief = model.score(PROMPTS, [BAD, GOOD], weights={"brief": 1})
    helpful = model.score(PROMPTS, [BAD, GOOD], weights={"helpful": 3.0})
    assert brief[0] > brief[1]
    assert helpful[0] < helpful[1]
    mixed = model.score(PROMPTS, [BAD, GOOD], weights={"brief": 1, "helpful": 3})
    assert mixed == pytest.approx((brief + 3 * helpful) / 4)
    overall = model.score(PROMPTS, [BAD, GOOD])
    assert overall == pytest.approx(model.score(PROMPTS, [BAD, GOOD], weights={"overall": 2}))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"brevity": 1.0}, "no head for 'brevity': choose from overall"),
        ({"overall": 0.0}, "above 0"),
        ({"overall": -1.0}, "give 0 or more"),
        ({"overall": float("nan")}, "give 0 or more"),
        ({}, "above 0"),
    ],
)
def test_unsound_weights_are_refused(
    encoder: CachedEncoder, tmp_path: Path, weights: dict[str, float], message: str
) -> None:
    model, _ = train(make_rows(60), encoder, tmp_path)
    with pytest.raises(InvalidInput, match=message):
        model.score(["p"], ["c"], weights=weights)


def test_aspects_that_cannot_be_learned_are_named(encoder: CachedEncoder) -> None:
    tracker = Notebook()
    rows = [
        replace(row, aspects={"rare": row.score} if number < 20 else {"constant": 5.0})
        for number, row in enumerate(make_rows(120))
    ]
    assert prepare(rows, tracker).aspects == {}
    assert "rare (20 rows)" in tracker.lines[0]
    assert "constant (all alike" in tracker.lines[0]


def test_with_every_head_the_files_stay_under_100_kb(
    encoder: CachedEncoder, tmp_path: Path
) -> None:
    names = [f"aspect {number:02}" for number in range(MAX_ASPECTS + 3)]
    rows = [replace(row, aspects=dict.fromkeys(names, row.score)) for row in make_rows(300)]
    model, _ = train(rows, encoder, tmp_path, regularisation=(0.1,), folds=2)
    assert len(model.aspects) == MAX_ASPECTS
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 100_000


def test_bootstrap_gives_each_seed_a_model_of_its_own(
    encoder: CachedEncoder, tmp_path: Path
) -> None:
    found = []
    for name, options in {
        "a": {"seed": 1}, "b": {"seed": 2}, "again": {"seed": 1},
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        model, _ = train(make_rows(60), encoder, tmp_path / name, bootstrap=True, **options)
        found.append(model.score(PROMPTS, [BAD, GOOD]))
    assert found[0].tolist() == found[2].tolist()
    assert found[0].tolist() != found[1].tolist()


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (make_pairs(49), NotEnoughData, "49 pairs with a better side, 1 more needed"),
        (
            [replace(row, margin=0.0) for row in make_pairs(60)],
            NotEnoughData,
            "0 pairs with a better side, 50 more",
        ),
        (
            [replace(row, rejected=row.chosen) for row in make_pairs(60)],
            NotEnoughData,
            "0 pairs with a better side",
        ),
        (
            [replace(row, group="same") for row in make_pairs(60)],
            TrainingFailed,
            "All 60 pairs answer one prompt",
        ),
        (
            [replace(make_pairs(60)[0], rejected=" "), *make_pairs(60)],
            InvalidInput,
            r"Row 1 .* has an empty rejected completion",
        ),
        (
            [replace(make_pairs(60)[0], margin=float("nan")), *make_pairs(60)],
            InvalidInput,
            "has the margin nan",
        ),
        (make_thumbs(49), NotEnoughData, "49 completions with a thumb, 1 more needed"),
        (
            [replace(row, label=True) for row in make_thumbs(60)],
            TrainingFailed,
            "All 60 thumbs are up.* need a thumb down",
        ),
        ([*make_rows(60), *make_pairs(60)], InvalidInput, "of several kinds"),
        ([PromptOnly("p", "g")] * 60, InvalidInput, "one that this model does not learn from"),
        ([], NotEnoughData, "0 rated interactions, 50 more needed"),
    ],
)
def test_rows_that_cannot_train_are_refused_with_a_sentence(
    rows: list[TrainingRow], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare(rows)


def test_pairs_of_100_000_characters_train(encoder: CachedEncoder, tmp_path: Path) -> None:
    rows = make_pairs(60)
    rows[0] = replace(rows[0], chosen="Of course, this is good. " * 4_000)
    model, _ = train(rows, encoder, tmp_path)
    scores = model.score([rows[0].prompt] * 2, ["x" * 1_000_000, "\n" * 100_000 + "."])
    assert ((scores >= 0) & (scores <= 1)).all()


def prepare(rows: Sequence[TrainingRow], tracker: Notebook | None = None) -> Any:
    return prepare_rows(rows, threshold=4.0, max_rows=20_000, seed=0, tracker=tracker or Notebook())
