"""The training job: from ratings in the database to a registered version."""

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import open_artifact
from rlhf_core.config import get_settings
from rlhf_core.dataset.service import list_versions as list_dataset_versions
from rlhf_core.dataset.service import load_scores
from rlhf_core.encoder.model import load_encoder
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData
from rlhf_core.jobs import service
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.service import JobView
from rlhf_core.jobs.train_sbert import (
    TrainSbertParams,
    enqueue_train_sbert,
    estimate_duration_s,
    find_under_way,
    parse_params,
    run_train_sbert,
)
from rlhf_core.registry.service import list_versions
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.rewards.sbert import load_reward_model
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.training import NoOpTracker
from rlhf_core.vocabulary import JobState, ModelKind
from tests.learning.rated import add_rated, make_rows


class Log(NoOpTracker):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)


def enqueue(store: Store, **params: Any) -> JobView:
    with store.writing() as db:
        return enqueue_train_sbert(db, actor=SYSTEM, params=TrainSbertParams(**params))


def run(store: Store, job: JobView, *, attempt: int = 1, log: Log | None = None) -> dict[str, Any]:
    return run_train_sbert(
        JobContext(
            job_id=job.id,
            attempt=attempt,
            params=job.params,
            actor=SYSTEM,
            tracker=log or NoOpTracker(),
            store=store,
            work_dir=get_settings().data_dir,
        )
    )


def list_models(store: Store) -> list[ModelVersionView]:
    with store.reading() as db:
        return list_versions(db, actor=SYSTEM)


@pytest.fixture
def rated(store: Store) -> Store:
    with store.writing() as db:
        add_rated(db, make_rows(60))
    return store


def test_run_registers_a_version_with_all_that_made_it(rated: Store) -> None:
    log = Log()
    job = enqueue(rated, seed=5)
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
    assert "classification_report" in version.details
    folder = open_artifact(version.folder, version.manifest_sha256)
    model = load_reward_model(folder)
    assert model.score(["a?"], ["b."], encoder=load_encoder()).shape == (1,)
    with rated.reading() as db:
        (dataset,) = list_dataset_versions(db, actor=SYSTEM)
    assert len(load_scores(dataset)) == version.details["num_rows"] == 60
    assert any(line.startswith("Dataset ratings v1") for line in log.lines)


def test_run_taken_up_again_after_a_kill_registers_no_second_version(rated: Store) -> None:
    job = enqueue(rated)
    first = run(rated, job)
    again = run(rated, job, attempt=2)
    assert again["version_id"] == first["version_id"]
    assert len(list_models(rated)) == 1


def test_what_a_killed_attempt_wrote_is_removed(rated: Store) -> None:
    job = enqueue(rated)
    folder = get_settings().artifact_dir / "models"
    left = folder / f"{job.id}-1"
    other = folder / f"{uuid.uuid4()}-1"
    for path in (left, other):
        path.mkdir(parents=True)
        (path / "half").write_text("x")
    run(rated, job, attempt=2)
    assert sorted(path.name for path in folder.iterdir()) == sorted([other.name, f"{job.id}-2"])


def test_second_run_on_the_same_ratings_makes_a_second_version_of_the_same_rows(
    rated: Store,
) -> None:
    one = run(rated, enqueue(rated, seed=1))
    two = run(rated, enqueue(rated, seed=2))
    assert (one["version"], two["version"]) == (1, 2)
    assert one["dataset"] == two["dataset"] == "ratings v1"
    assert one["cost"]["num_embedded"] > 0
    assert two["cost"]["num_embedded"] == 0  # all texts were known


def test_too_few_ratings_are_said_before_anything_is_frozen(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(38))
    with pytest.raises(NotEnoughData, match="12 more needed"):
        run(store, enqueue(store))
    with store.reading() as db:
        assert list_dataset_versions(db, actor=SYSTEM) == []
    assert not get_settings().artifact_dir.exists()


def test_source_narrows_the_rows(rated: Store) -> None:
    with pytest.raises(NotEnoughData, match="0 rated interactions, 50 more"):
        run(rated, enqueue(rated, source="elsewhere"))


def test_equal_request_is_refused_while_one_is_under_way(store: Store) -> None:
    job = enqueue(store, seed=1)
    with pytest.raises(Conflict, match="under way"):
        enqueue(store, seed=1)
    enqueue(store, seed=2)
    with store.reading() as db:
        under_way = find_under_way(db, TrainSbertParams(seed=1))
        assert find_under_way(db, TrainSbertParams(seed=3)) is None
    assert under_way is not None
    assert under_way.id == job.id


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"epochs": 3}, "Unknown parameter 'epochs'"),
        ({"threshold": 9.0}, "threshold 9: choose above 1"),
        ({"threshold": "high"}, "wrong type"),
        ({"seed": -1}, "seed -1"),
        ({"dataset": " "}, "dataset: give a name"),
    ],
)
def test_wrong_parameters_are_one_sentence(params: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_params(params)


def test_estimate_learns_from_earlier_runs(store: Store) -> None:
    with store.reading() as db:
        cold = estimate_duration_s(db, num_rows=3_000, num_prompts=600)
    job = enqueue(store)
    cost = {
        "encoder": "minilm", "num_rows": 2_000, "num_prompts": 400, "num_embedded": 2_400,
        "embedding_s": 60.0, "took_s": 70.0,
    }  # fmt: skip
    with store.writing() as db:
        db.execute(
            sa.update(Job)
            .where(Job.id == job.id)
            .values(state=JobState.SUCCEEDED, result={"cost": cost})
        )
    with store.reading() as db:
        warm = estimate_duration_s(db, num_rows=3_000, num_prompts=600)
        nothing_new = estimate_duration_s(db, num_rows=2_000, num_prompts=400)
    assert nothing_new < warm < cold
    assert warm - nothing_new == pytest.approx(1_200 / 40, rel=0.2)


def call(*arguments: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_core", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[3],
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_command_line_trains_on_a_bare_machine_where_no_worker_runs(rated: Store) -> None:
    status, job, said = call("train", "sbert", "--wait", "--json")
    assert status == 0, said
    assert job["state"] == "succeeded"
    assert job["result"]["version"] == 1
    assert "No worker is alive: starting one" in said
    with rated.reading() as db:
        assert service.get_job(db, uuid.UUID(job["id"])).executor_id.endswith(":train-cpu")
    status, versions, _ = call("dataset", "list", "--json")
    assert (status, versions[0]["num_rows"]) == (0, 60)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_command_line_says_what_is_missing_and_fails(store: Store) -> None:
    status, nothing, said = call("dataset", "freeze", "--json")
    assert (status, nothing) == (1, None)
    assert "0 rated interactions" in said
    status, nothing, said = call("train", "sbert", "--threshold", "9")
    assert (status, nothing) == (1, None)
    assert said.strip() == "Error: threshold 9: choose above 1 and at most 5."
