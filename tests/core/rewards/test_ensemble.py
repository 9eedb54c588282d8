"""Ensembles: of real members, and what is read from their folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlhf_core.encoder.cache import CachedEncoder
from rlhf_core.errors import InvalidInput
from rlhf_core.rewards import sbert
from rlhf_core.rewards.base import RewardModel
from rlhf_core.rewards.ensemble import (
    SPEC_FILE,
    EnsembleRewardModel,
    LatestEncoder,
    halve_by_prompt,
    train_ensemble,
)
from rlhf_core.rewards.loading import load_model
from rlhf_core.rewards.sbert import SbertParams, load_reward_model
from rlhf_core.training import NoOpTracker, TrainReport
from rlhf_core.vocabulary import ModelKind
from tests.learning.rated import make_pairs, make_rows

GOOD = "Of course: tents need patience, good tools and a plan."
BAD = "I cannot talk about tents."
PROMPTS = ["Tell me about tents."] * 2


@pytest.fixture(scope="module")
def trained(
    encoder: CachedEncoder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainReport]:
    folder = tmp_path_factory.mktemp("ensemble")

    def train_one(seed: int, out_dir: Path) -> TrainReport:
        return sbert.train(
            make_rows(60),
            params=SbertParams(seed=seed, bootstrap=True, regularisation=(0.1, 1.0), folds=3),
            encoder=encoder,
            out_dir=out_dir,
            tracker=NoOpTracker(),
        )

    report = train_ensemble(train_one, [4, 5, 6], folder, member_kind=ModelKind.REWARD_SBERT)
    return folder, report


def test_members_give_their_mean_and_their_spread(
    trained: tuple[Path, TrainReport], encoder: CachedEncoder
) -> None:
    model = load_model(ModelKind.REWARD_ENSEMBLE, trained[0], encoder=encoder)
    assert isinstance(model, EnsembleRewardModel)
    assert isinstance(model, RewardModel)
    table = model.score_members(PROMPTS, [BAD, GOOD])
    assert table.shape == (3, 2)
    alone = load_reward_model(trained[0] / "member-1", encoder=encoder)
    assert table[1] == pytest.approx(alone.score(PROMPTS, [BAD, GOOD]))
    assert model.score(PROMPTS, [BAD, GOOD]) == pytest.approx(table.mean(axis=0))
    assert model.spread(PROMPTS, [BAD, GOOD]) == pytest.approx(table.std(axis=0))
    assert (model.spread(PROMPTS, [BAD, GOOD]) > 0).all()
    assert model.score([], []).shape == (0,)


def test_the_least_member_can_decide(
    trained: tuple[Path, TrainReport], encoder: CachedEncoder
) -> None:
    members = load_model(ModelKind.REWARD_ENSEMBLE, trained[0], encoder=encoder)
    assert isinstance(members, EnsembleRewardModel)
    least = EnsembleRewardModel(members.members, aggregate="min")
    table = members.score_members(PROMPTS, [BAD, GOOD])
    assert least.score(PROMPTS, [BAD, GOOD]) == pytest.approx(table.min(axis=0))


def test_the_report_holds_means_and_each_member(trained: tuple[Path, TrainReport]) -> None:
    folder, report = trained
    members = report.details["members"]
    assert [member["seed"] for member in members] == [4, 5, 6]
    expected = np.mean([member["metrics"]["brier"] for member in members])
    assert report.metrics["brier"] == pytest.approx(expected)
    assert report.metrics["num_members"] == 3
    assert report.params["seeds"] == [4, 5, 6]
    assert report.artifact_dir == folder
    json.dumps(report.details, allow_nan=False)


def test_members_share_what_the_encoder_found(encoder: CachedEncoder) -> None:
    class Counting:
        digest, dimension = encoder.digest, encoder.dimension
        num_calls = 0

        def encode(self, texts: list[str], *, batch_size: int = 64) -> np.ndarray:
            Counting.num_calls += 1
            return encoder.encode(texts)

    latest = LatestEncoder(Counting())
    one, two = latest.encode(["a", "b"]), latest.encode(["a", "b"])
    assert one is two
    assert Counting.num_calls == 1
    assert latest.encode(["b"])[0] == pytest.approx(one[1], abs=1e-6)
    assert Counting.num_calls == 2


def test_seeds_that_make_no_ensemble_are_refused(tmp_path: Path) -> None:
    def train_one(seed: int, folder: Path) -> TrainReport:
        raise AssertionError("trained")

    for seeds, message in (([1], "at least 2"), ([1, 1], "all different"), (range(17), "at most")):
        with pytest.raises(InvalidInput, match=message):
            train_ensemble(train_one, list(seeds), tmp_path, member_kind=ModelKind.REWARD_SBERT)


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "[]",
        '{"format": 1}',
        '{"format": 1, "member_kind": "reward_sbert", "members": [], "aggregate": "mean"}',
        '{"format": 1, "member_kind": "reward_sbert", "members": ["../x"], "aggregate": "mean"}',
        '{"format": 9, "member_kind": "reward_sbert", "members": ["member-0"], "aggregate": "min"}',
        '{"format": 1, "member_kind": "reward_ensemble", "members": ["member-0"],'
        ' "aggregate": "min"}',
        '{"format": 1, "member_kind": "reward_sbert", "members": ["member-0"], "aggregate": "x"}',
    ],
)
def test_a_folder_that_holds_no_ensemble_is_refused(
    tmp_path: Path, encoder: CachedEncoder, spec: str
) -> None:
    (tmp_path / SPEC_FILE).write_text(spec)
    with pytest.raises(InvalidInput, match="train"):
        load_model(ModelKind.REWARD_ENSEMBLE, tmp_path, encoder=encoder)


def test_a_model_of_embeddings_needs_an_encoder(trained: tuple[Path, TrainReport]) -> None:
    with pytest.raises(InvalidInput, match="give an encoder"):
        load_model(ModelKind.REWARD_ENSEMBLE, trained[0])


def test_halves_share_no_prompt_and_are_of_like_size() -> None:
    rows = make_rows(400)
    one, two = halve_by_prompt(rows, 0)
    assert not {row.group for row in one} & {row.group for row in two}
    assert sorted(row.interaction_id for row in [*one, *two]) == sorted(
        row.interaction_id for row in rows
    )
    assert abs(len(one) - len(two)) <= 4
    assert halve_by_prompt(rows, 0) == (one, two)
    assert halve_by_prompt(rows, 1) != (one, two)
    pairs, rest = halve_by_prompt(make_pairs(10, a_prompt=10), 0)
    assert (len(pairs), len(rest)) == (10, 0)
