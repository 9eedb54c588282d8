"""Trainings whose process dies: the run goes on from its checkpoint, to the same model."""

import subprocess
import uuid
from pathlib import Path

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.jobs.train_params import TrainRewardParams
from rlhf_core.jobs.train_reward import enqueue_train_reward
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.vocabulary import JobKind, JobState
from tests.core.jobs.conftest import world
from tests.core.jobs.trained import add_ratings
from tests.core.jobs.world import World, until
from tests.databases import only_sqlite
from tests.learning.tiny_models import make_bert

__all__ = ["world"]

OPTIONS = {"epochs": 40, "patience": 0, "max_tokens": 48, "precision": "fp32",
           "checkpoint_every": 5}  # fmt: skip


def start_worker(world: World) -> subprocess.Popen[str]:
    return world.start(
        ["-m", "rlhf_core", "worker", "--executor", "real", "--exit-with-parent", "--json"]
    )


def train(world: World, base: Path, model: str) -> uuid.UUID:
    options = {**OPTIONS, "base": str(base)}
    params = TrainRewardParams(JobKind.TRAIN_TRANSFORMER, model=model, options=options)
    with world.store.writing() as db:
        return enqueue_train_reward(db, actor=SYSTEM, params=params).id


def weights_of(world: World, model: str) -> bytes:
    with world.store.reading() as db:
        version = get_version_by_number(db, model, 1, actor=SYSTEM)
    return (version.folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@only_sqlite
def test_killed_training_ends_with_the_model_of_one_that_was_not(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    base = make_bert(tmp_path / "bert")
    with world.store.writing() as db:
        add_ratings(db, 60)
    worker = start_worker(world)
    killed = train(world, base, "killed")
    checkpoints = get_settings().data_dir / "work" / str(killed) / "model-0" / "checkpoints"
    for _ in range(2):
        before = set(checkpoints.glob("step-*"))
        until("a fresh checkpoint", lambda before=before: set(checkpoints.glob("step-*")) - before)
        worker.kill()
        worker.wait()
        assert world.job(killed).state is JobState.RUNNING
        worker = start_worker(world)
    done = world.wait_for(killed)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 3), done.message
    assert not checkpoints.exists()
    assert world.wait_for(train(world, base, "whole")).state is JobState.SUCCEEDED
    assert weights_of(world, "killed") == weights_of(world, "whole")
