"""The training job: from feedback in the database to registered versions."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import open_artifact
from rlhf_core.config import get_settings
from rlhf_core.dataset.params import DatasetParams, Filters
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import freeze_version, load_rows
from rlhf_core.dataset.service import list_versions as list_dataset_versions
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound, TrainingFailed
from rlhf_core.jobs import service
from rlhf_core.jobs.service import find_unfinished
from rlhf_core.jobs.train_params import TrainRewardParams, parse_train_params
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.serving.loader import load_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, ModelKind, Resource
from tests.core.jobs.trained import Log, add_ratings, enqueue, list_models, run, work_dir_of
from tests.databases import only_sqlite

QUICK = {"folds": 2, "regularisation": [0.1]}


@pytest.fixture
def rated(store: Store) -> Store:
    """60 rated completions of 30 prompts."""
    with store.writing() as db:
        add_ratings(db, 30)
    return store


@pytest.fixture
def much_rated(store: Store) -> Store:
    """240 rated completions of 120 prompts: enough to keep some for an examination."""
    with store.writing() as db:
        add_ratings(db, 120)
    return store


def test_run_registers_a_version_with_all_that_made_it(rated: Store) -> None:
    log = Log()
    job = enqueue(rated, options={"seed": 5})
    result = run(rated, job, log=log)
    (version,) = list_models(rated)
    assert (result["model"], result["version"]) == ("reward", 1)
    assert result["metrics"] == version.metrics
    assert "reward v1" in result["message"]
    assert version.kind is ModelKind.REWARD_SBERT
    assert version.job_id == job.id
    assert version.dataset == "ratings v1"
    assert version.dataset_hash is not None
    assert version.seed == 5
    assert {"numpy", "scikit-learn", "skops"} <= set(version.library_versions)
    assert version.params["threshold"] == 4.0
    assert "length_only_auc" in version.metrics
    assert load_version(version).score(["a?"], ["b."])[0] is not None
    with rated.reading() as db:
        (dataset,) = list_dataset_versions(db, actor=SYSTEM)
        assert list_evaluations(db, version.id, actor=SYSTEM) == []
    assert len(load_rows(dataset)) == version.details["num_rows"] == 60
    assert any(line.startswith("Dataset ratings v1") for line in log.lines)
    assert any("keeps no rows for an examination" in line for line in log.lines)


@only_sqlite
def test_with_rows_enough_some_prompts_are_kept_and_the_version_is_examined_on_them(
    much_rated: Store,
) -> None:
    job = enqueue(much_rated, options=QUICK)
    result = run(much_rated, job)
    (version,) = list_models(much_rated)
    with much_rated.reading() as db:
        (found,) = list_evaluations(db, version.id, actor=SYSTEM)
        (dataset,) = list_dataset_versions(db, actor=SYSTEM)
    num_test = dataset.card["parts"]["test"]
    assert 20 < num_test < 90
    assert (found.split, found.num_rows, found.dataset) == ("test", num_test, "ratings v1")
    assert version.details["num_rows"] == dataset.num_rows - num_test
    assert found.job_id == job.id
    assert 0.5 < found.metrics["auc"] <= 1.0
    assert found.examination["leakage"]["num_seen"] == 0
    assert "length_only" in found.examination["baselines"]["auc"]
    assert result["examination"] == found.metrics
    assert f"on {num_test} test rows" in result["message"]


def test_judge_learns_from_other_prompts_and_seeds_make_an_ensemble(much_rated: Store) -> None:
    job = enqueue(much_rated, options=QUICK, seeds=2, with_judge=True)
    result = run(much_rated, job)
    model, judge = list_models(much_rated)
    assert (model.name, judge.name) == ("reward v1", "reward-judge v1")
    assert result["judge"] == model.details["judge"] == judge.name
    assert model.kind is judge.kind is ModelKind.REWARD_ENSEMBLE
    assert model.job_id == job.id
    assert judge.job_id is None
    loaded = load_version(model)
    assert len(loaded.model.members) == 2  # type: ignore[attr-defined]
    with much_rated.reading() as db:
        (dataset,) = list_dataset_versions(db, actor=SYSTEM)
        both = [list_evaluations(db, version.id, actor=SYSTEM) for version in (model, judge)]
    assert model.details["num_rows"] + judge.details["num_rows"] == len(load_rows(dataset))
    assert [len(found) for found in both] == [1, 1]
    assert both[0][0].num_rows == both[1][0].num_rows


@only_sqlite
def test_too_few_rows_for_halves_are_said(rated: Store) -> None:
    with pytest.raises(NotEnoughData, match=r"60 rows for a model and a judge.*40 more"):
        run(rated, enqueue(rated, with_judge=True))
    assert list_models(rated) == []


def test_run_taken_up_again_after_a_kill_registers_no_second_version(rated: Store) -> None:
    job = enqueue(rated, options=QUICK)
    first = run(rated, job)
    again = run(rated, job, attempt=2)
    assert again["version_id"] == first["version_id"]
    assert len(list_models(rated)) == 1


@only_sqlite
def test_run_taken_up_again_learns_from_the_rows_it_froze_and_keeps_finished_members(
    rated: Store,
) -> None:
    job = enqueue(rated, options=QUICK, seeds=2)
    with pytest.raises(TrainingFailed, match="Stopped on request"):
        run(rated, job, log=Log(stop_after="seed 1: Trained"))
    assert list_models(rated) == []
    with rated.writing() as db:
        add_ratings(db, 5, seed=9)
    log = Log()
    run(rated, job, attempt=2, log=log)
    (version,) = list_models(rated)
    assert version.dataset == "ratings v1"
    assert version.details["num_rows"] == 60
    assert "seed 0 was finished before the run was interrupted." in log.lines
    assert not any("seed 0: Trained" in said for said in log.said)
    open_artifact(version.folder, version.manifest_sha256)


@only_sqlite
def test_damaged_member_is_trained_again(rated: Store) -> None:
    job = enqueue(rated, options=QUICK, seeds=2)
    with pytest.raises(TrainingFailed):
        run(rated, job, log=Log(stop_after="seed 1: Trained"))
    file = next((work_dir_of(job) / "model-0" / "model").glob("*.skops"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    log = Log()
    run(rated, job, attempt=2, log=log)
    assert any("seed 0 is trained again" in line and file.name in line for line in log.lines)
    (version,) = list_models(rated)
    load_version(version)


@only_sqlite
def test_what_a_killed_attempt_wrote_is_removed(rated: Store) -> None:
    job = enqueue(rated, options=QUICK)
    folder = get_settings().artifact_dir / "models"
    left = folder / f"{job.id}-1-model"
    other = folder / f"{uuid.uuid4()}-1-model"
    for path in (left, other):
        path.mkdir(parents=True)
        (path / "half").write_text("x")
    run(rated, job, attempt=2)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [other.name, f"{job.id}-2-model"]
    )


@only_sqlite
def test_second_run_on_the_same_ratings_makes_a_second_version_of_the_same_rows(
    rated: Store,
) -> None:
    with rated.writing() as db:
        add_ratings(db, 2, seed=77)  # texts that no other test has embedded
    one = run(rated, enqueue(rated, options={**QUICK, "seed": 1}))
    two = run(rated, enqueue(rated, options={**QUICK, "seed": 2}))
    assert (one["version"], two["version"]) == (1, 2)
    assert one["dataset"] == two["dataset"] == "ratings v1"
    assert one["cost"]["num_embedded"] > 0
    assert two["cost"]["num_embedded"] == 0  # all texts were known


@only_sqlite
def test_frozen_version_can_be_named(rated: Store) -> None:
    with rated.reading() as db:
        staged = stage_rows(db, params=DatasetParams())
    with rated.writing() as db:
        freeze_version(db, actor=SYSTEM, name="lab", staged=staged)
        add_ratings(db, 5, seed=9)
    job = enqueue(rated, dataset="lab", number=1, options=QUICK)
    assert run(rated, job)["dataset"] == "lab v1"
    (version,) = list_models(rated)
    assert version.details["num_rows"] == 60
    with pytest.raises(NotFound, match="version 2"):
        enqueue(rated, dataset="lab", number=2)
    steps = DatasetParams(purpose=DatasetPurpose.STEPS)
    with pytest.raises(InvalidInput, match="learns from steps, these rows are scores"):
        enqueue(rated, dataset="lab", number=1, learner=JobKind.TRAIN_STEPS, rows=steps)


@only_sqlite
def test_pairs_train_the_model_of_embeddings_too(rated: Store) -> None:
    rows = DatasetParams(purpose=DatasetPurpose.PREFERENCES)
    with rated.writing() as db:
        add_ratings(db, 60, seed=3)
    result = run(rated, enqueue(rated, rows=rows, options=QUICK))
    assert result["dataset"] == "pairs v1"
    (version,) = list_models(rated)
    good, bad = load_version(version).score(["basket?"] * 2, ["Gladly, in steps.", "No idea."])
    assert good is not None
    assert bad is not None
    assert good > bad


def test_failure_leaves_the_version_before_and_nothing_else(
    rated: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(rated, enqueue(rated, options=QUICK))
    (before,) = list_models(rated)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rlhf_core.artifacts._flush", full)
    with pytest.raises(Exception, match="No space left on device"):
        run(rated, enqueue(rated, options={**QUICK, "seed": 1}))
    assert list_models(rated) == [before]
    folder = get_settings().artifact_dir / "models"
    assert [path.name for path in folder.iterdir()] == [before.folder.name]


@only_sqlite
def test_too_few_ratings_are_said_before_anything_is_frozen(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 19)
    with pytest.raises(NotEnoughData, match="12 more needed"):
        run(store, enqueue(store))
    with store.reading() as db:
        assert list_dataset_versions(db, actor=SYSTEM) == []
    assert not get_settings().artifact_dir.exists()


@only_sqlite
def test_filters_narrow_the_rows(rated: Store) -> None:
    rows = DatasetParams(filters=Filters(source="elsewhere"))
    with pytest.raises(NotEnoughData, match="0 rated interactions, 50 more"):
        run(rated, enqueue(rated, rows=rows))


def test_equal_request_is_refused_while_one_is_under_way(store: Store) -> None:
    job = enqueue(store, options={"seed": 1})
    with pytest.raises(Conflict, match="under way"):
        enqueue(store, options={"seed": 1})
    enqueue(store, options={"seed": 2})
    with store.reading() as db:
        under_way = find_unfinished(db, TrainRewardParams(options={"seed": 1}).dedup_key())
        assert find_unfinished(db, TrainRewardParams(options={"seed": 3}).dedup_key()) is None
    assert under_way is not None
    assert under_way.id == job.id


@only_sqlite
def test_tuned_learners_wait_for_the_gpu(store: Store) -> None:
    job = enqueue(store, learner=JobKind.TRAIN_TRANSFORMER)
    assert (job.kind, job.resource) == (JobKind.TRAIN_TRANSFORMER, Resource.GPU)
    assert enqueue(store).resource is Resource.CPU


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"epochs": 3}, "Unknown parameter 'epochs'"),
        ({"learner": "import"}, "import trains no reward model"),
        ({"options": {"epochs": 3}}, "Unknown option 'epochs'"),
        ({"rows": {"threshold": 9.0}}, "threshold 9: choose above 1"),
        ({"options": {"threshold": "high"}}, "wrong type"),
        ({"options": {"seed": -1}}, "seed -1"),
        ({"learner": "train_transformer", "options": {"epochs": 0}}, "epochs 0"),
        ({"rows": {"purpose": "prompts"}}, "these rows are prompts"),
        ({"seeds": 99}, "seeds 99"),
        ({"learner": "train_steps", "rows": {"purpose": "steps"}, "seeds": 2}, "no ensemble"),
        ({"test_percent": 80}, "test_percent 80"),
        ({"model": " "}, "model: give a name"),
        ({"number": 1}, "dataset: give a name"),
    ],
)
def test_wrong_parameters_are_one_sentence(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_train_params(params)


def test_parameters_come_back_from_the_job_as_they_were() -> None:
    params = TrainRewardParams(
        learner=JobKind.TRAIN_TRANSFORMER,
        rows=DatasetParams(purpose=DatasetPurpose.PREFERENCES, filters=Filters(source="lab")),
        options={"epochs": 2, "seed": 4},
        seeds=3,
        with_judge=True,
    )
    stored = json.loads(json.dumps(params.to_json()))
    assert parse_train_params(stored) == params
    assert params.model_kind is ModelKind.REWARD_ENSEMBLE
    assert params.dataset_name == "pairs"


def call(*arguments: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_core", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[3],
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.slow
@pytest.mark.slow
@only_sqlite
def test_command_line_trains_on_a_bare_machine_where_no_worker_runs(much_rated: Store) -> None:
    status, job, said = call("train", "sbert", "--wait", "--json")
    assert status == 0, said
    assert job["state"] == "succeeded"
    assert job["result"]["version"] == 1
    assert "No worker is alive: starting one" in said
    with much_rated.reading() as db:
        assert service.get_job(db, uuid.UUID(job["id"])).executor_id.endswith(":train-cpu")
    status, versions, _ = call("dataset", "list", "--json")
    assert (status, versions[0]["num_rows"]) == (0, 240)
    status, found, _ = call("models", "evaluations", "1", "--json")
    assert (status, found[0]["split"]) == (0, "test")


@pytest.mark.slow
@only_sqlite
def test_command_line_examines_and_scores_on_a_bare_machine(rated: Store) -> None:
    run(rated, enqueue(rated, options=QUICK))
    arguments = ("--dataset", "ratings", "--split", "all", "--wait", "--json")
    status, job, said = call("evaluate", "1", *arguments)
    assert (status, job["state"]) == (0, "succeeded"), said
    status, found, _ = call("models", "evaluations", "1", "--json")
    assert (found[0]["split"], found[0]["num_rows"]) == ("all", 60)
    arguments = ("--model", "reward", "--number", "1", "--wait", "--json")
    status, job, said = call("score", "--stored", *arguments)
    assert (status, job["result"]["num_scored"]) == (0, 60), said


@pytest.mark.slow
@only_sqlite
def test_command_line_says_what_is_missing_and_fails(store: Store) -> None:
    status, nothing, said = call("train", "sbert", "--threshold", "9")
    assert (status, nothing) == (1, None)
    assert said.strip() == "Error: threshold 9: choose above 1 and at most 5."
    status, nothing, said = call("train", "transformer", "--option", "colour=red")
    assert (status, nothing) == (1, None)
    assert "Unknown option 'colour'" in said
    status, nothing, said = call("score", "--stored")
    assert (status, nothing) == (1, None)
    assert "No version of 'reward' is promoted" in said
