"""Policies in training whose processes are canceled or killed: nothing is left, nothing is lost."""

import random
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.jobs import service
from rlhf_core.jobs.policy_params import RewardPart
from rlhf_core.jobs.retrain import RetrainParams, enqueue_retrain
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.vocabulary import JobState
from tests.core.jobs.conftest import base, reward_rules, world
from tests.core.jobs.trained import add_ratings
from tests.core.jobs.trained_policies import QUICK, add_prompts, enqueue_policy
from tests.core.jobs.world import World, is_alive, until
from tests.databases import only_sqlite

__all__ = ["base", "reward_rules", "world"]

ENDLESS = {**QUICK, "updates": 100_000}
SLEEPY = "sleepy=tests.core.jobs.reward_rules:sleep_long"


@pytest.fixture(autouse=True)
def _one_thread(reward_rules: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


class Tree:
    """A worker with all that it started: seen again and again, since processes come and go."""

    def __init__(self, worker: subprocess.Popen[str]) -> None:
        self.worker = worker
        self._seen: dict[int, psutil.Process] = {}

    def look(self) -> list[psutil.Process]:
        """The descendants that are there now."""
        try:
            now = psutil.Process(self.worker.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            now = []
        self._seen.update({process.pid: process for process in now})
        return now

    def find_trainers(self) -> list[psutil.Process]:
        """The process of the run and, where it has some, its ranks."""
        return [process for process in self.look() if _is_trainer(process)]

    def is_empty(self) -> bool:
        self.look()
        return not any(is_alive(pid) for pid in self._seen)


def _is_trainer(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    names = ("rlhf_core.jobs.run", "rlhf_core.jobs.policy_ranks")
    return "rlhf_core.jobs.shim" not in command and any(name in command for name in names)


def start(world: World) -> Tree:
    worker = world.start(
        ["-m", "rlhf_core", "worker", "--executor", "real", "--exit-with-parent", "--json"]
    )
    return Tree(worker)


def wait_for_update(world: World, job_id: uuid.UUID, tree: Tree, *, after: int = -1) -> None:
    """Wait until the run has told of an update beyond `after`."""

    def find() -> bool:
        tree.look()
        with world.store.reading() as db:
            points = service.list_metrics(db, job_id)
        steps = [point.step for point in points if point.name == "reward"]
        job = world.job(job_id)
        assert not job.state.is_final, job.message
        return max(steps, default=-1) > after

    until(f"an update of {job_id} after {after}", find)


def wait_for_resume(world: World, job_id: uuid.UUID, tree: Tree) -> None:
    """Wait until the run says that it goes on from a checkpoint, and then until its next update."""
    until("it resumes", lambda: any("Resumed from" in line for line in world.log(job_id)))
    with world.store.reading() as db:
        last = max(point.step for point in service.list_metrics(db, job_id))
    wait_for_update(world, job_id, tree, after=last)


def enqueue(world: World, base: Path, **params: Any) -> uuid.UUID:
    with world.store.writing() as db:
        add_prompts(db, 60)
    return enqueue_policy(world.store, base, **params).id


@pytest.mark.slow
@only_sqlite
def test_cancel_ends_every_process_and_a_retry_goes_on(world: World, base: Path) -> None:
    tree = start(world)
    job_id = enqueue(world, base, options=ENDLESS)
    wait_for_update(world, job_id, tree)
    assert len(tree.find_trainers()) == 1
    world.cancel(job_id)
    canceled = world.wait_for(job_id)
    assert (canceled.state, canceled.message) == (JobState.CANCELED, "Canceled while it ran.")
    until("no process is left", tree.is_empty)
    world.retry(job_id)
    wait_for_resume(world, job_id, tree)
    world.cancel(job_id)
    world.wait_for(job_id)
    until("no process is left", tree.is_empty)


@pytest.mark.slow
@only_sqlite
def test_run_that_listens_to_nobody_is_gone_five_seconds_after_its_cancel(
    world: World, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLHF_RUN_GRACE_S")  # as it is for everybody
    monkeypatch.setenv("RLHF_REWARD_RULES", SLEEPY)
    get_settings.cache_clear()
    flag = world.journal.parent / "asked"
    monkeypatch.setenv("ASKED", str(flag))
    tree = start(world)
    job_id = enqueue(world, base, rewards=(RewardPart("rule:sleepy"),))
    until("the reward is asked", flag.exists)
    assert tree.find_trainers()
    began = time.monotonic()
    world.cancel(job_id)
    until("no process is left", tree.is_empty)
    assert time.monotonic() - began < 5.0
    assert world.wait_for(job_id).state is JobState.CANCELED


@pytest.mark.slow
@only_sqlite
def test_killed_trainer_is_a_failure_with_a_reason_and_a_retry_goes_on(
    world: World, base: Path
) -> None:
    tree = start(world)
    job_id = enqueue(world, base, options=ENDLESS)
    wait_for_update(world, job_id, tree)
    (trainer,) = tree.find_trainers()
    trainer.kill()
    failed = world.wait_for(job_id)
    assert failed.state is JobState.FAILED
    assert "ended by signal SIGKILL" in (failed.message or "")
    until("no process is left", tree.is_empty)
    world.retry(job_id)
    wait_for_resume(world, job_id, tree)


@pytest.mark.slow
@only_sqlite
def test_runs_killed_at_20_random_moments_end_with_the_policy_of_one_that_was_not(
    world: World, base: Path
) -> None:
    drawn = random.Random(20)
    options = {**QUICK, "updates": 60}
    tree = start(world)
    runs = {"whole": enqueue(world, base, options=options, model="whole")}
    assert world.wait_for(runs["whole"]).state is JobState.SUCCEEDED
    num_kills = 0
    while num_kills < 20:
        name = f"killed {len(runs)}"  # a run that ends between two kills is followed by another
        runs[name] = enqueue_policy(world.store, base, options=options, model=name).id
        while num_kills < 20 and _wait_for_trainer(world, runs[name], tree):
            time.sleep(drawn.uniform(0.0, 3.0))
            trainers = tree.find_trainers()
            if drawn.random() < 0.5 or not trainers:
                tree.worker.kill()
                tree.worker.wait()
                until("the worker left no orphan", tree.is_empty)
                tree = start(world)
            else:
                drawn.choice(trainers).kill()
                _wait_for_end(world, runs[name])
            num_kills += 1
            job = world.job(runs[name])
            if job.state is JobState.FAILED:
                assert job.message
                world.retry(job.id)
    for job_id in runs.values():
        done = world.wait_for(job_id)
        if done.state is JobState.FAILED:  # the third death of the worker in turn
            assert done.message
            world.retry(job_id)
            done = world.wait_for(job_id)
        assert done.state is JobState.SUCCEEDED, done.message
    assert len({weights_of(world, name) for name in runs}) == 1


@pytest.mark.slow
@only_sqlite
def test_killed_rank_ends_the_other_and_the_run_fails_with_a_reason(
    world: World, base: Path
) -> None:
    tree = start(world)
    job_id = enqueue(world, base, options=ENDLESS, num_processes=2)
    wait_for_update(world, job_id, tree)
    ranks = [p for p in tree.find_trainers() if "rlhf_core.jobs.policy_ranks" in p.cmdline()]
    assert len(ranks) >= 2
    ranks[-1].kill()
    failed = world.wait_for(job_id)
    assert failed.state is JobState.FAILED
    assert failed.message
    until("no process is left", tree.is_empty)

    world.retry(job_id)
    wait_for_resume(world, job_id, tree)
    world.cancel(job_id)
    assert world.wait_for(job_id).state is JobState.CANCELED
    until("no process is left", tree.is_empty)


@pytest.mark.slow
@only_sqlite
def test_killed_worker_of_a_retraining_goes_on_with_the_same_parts(
    world: World, base: Path
) -> None:
    with world.store.writing() as db:
        add_ratings(db, 60)
        params = RetrainParams(
            what="both",
            reward={"options": {"folds": 2, "regularisation": [0.1]}, "with_judge": False},
            policy={"learner": "train_ppo", "base": str(base), "options": {**QUICK, "updates": 40}},
        )
        job_id = enqueue_retrain(db, actor=SYSTEM, params=params).id
    tree = start(world)

    def find_policy_run() -> Any:
        with world.store.reading() as db:
            jobs = service.list_jobs(db, states=[JobState.RUNNING])
        return next((job for job in jobs if job.kind.value == "train_ppo"), None)

    part = until("the policy is in training", find_policy_run)
    wait_for_update(world, part.id, tree)
    tree.worker.kill()
    tree.worker.wait()
    until("the worker left no orphan", tree.is_empty)
    tree = start(world)
    done = world.wait_for(job_id)
    assert done.state is JobState.SUCCEEDED, done.message
    assert done.result is not None
    assert [c["model"] for c in done.result["candidates"]] == ["reward", "assistant"]
    assert done.result["candidates"][1]["job_id"] == str(part.id)
    with world.store.reading() as db:
        assert len(service.list_jobs(db)) == 3


def _wait_for_trainer(world: World, job_id: uuid.UUID, tree: Tree) -> bool:
    """Whether the run has a process again; False where it ended."""
    until("it runs or ended", lambda: tree.find_trainers() or world.job(job_id).state.is_final)
    return bool(tree.find_trainers())


def _wait_for_end(world: World, job_id: uuid.UUID) -> None:
    until("the end is told", lambda: world.job(job_id).state is not JobState.RUNNING)


def weights_of(world: World, model: str) -> bytes:
    with world.store.reading() as db:
        version = get_version_by_number(db, model, 1, actor=SYSTEM)
    return (version.folder / "model.safetensors").read_bytes()
