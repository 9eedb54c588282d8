"""Policies that train on two workers at once: both end together, whatever happens to one."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.jobs import machines
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.vocabulary import JobState
from tests.core.jobs.conftest import base, reward_rules, world
from tests.core.jobs.trained_policies import QUICK, add_prompts, enqueue_policy
from tests.core.jobs.world import World, until
from tests.databases import only_sqlite
from tests.faults.test_policy_runs import ENDLESS, Tree, wait_for_resume, wait_for_update

__all__ = ["base", "reward_rules", "world"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("reward_rules"),
    only_sqlite,
]


@pytest.fixture(autouse=True)
def _quick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RLHF_DEAD_AFTER_S", "6")
    get_settings.cache_clear()


def start(world: World, name: str) -> Tree:
    arguments = ["-m", "rlhf_core", "worker", "--executor", name, "--exit-with-parent", "--json"]
    return Tree(world.start(arguments))


def enqueue(world: World, base: Path, **params: Any) -> uuid.UUID:
    with world.store.writing() as db:
        add_prompts(db, 60)
    return enqueue_policy(world.store, base, num_machines=2, **params).id


def part_of(world: World, job_id: uuid.UUID, attempt: int = 1) -> machines.Machine:
    with world.store.reading() as db:
        (part,) = machines.list_machines(db, job_id, attempt)
    return part


def wait_for_both(world: World, job_id: uuid.UUID, trees: list[Tree]) -> None:
    for tree in trees:
        tree.look()
    wait_for_update(world, job_id, trees[0])
    for tree in trees:
        ranks = [p for p in tree.find_trainers() if "rlhf_core.jobs.policy_ranks" in p.cmdline()]
        assert ranks, "a process of the run is on each machine"


def test_two_machines_make_the_policy_that_one_makes(world: World, base: Path) -> None:
    trees = [start(world, "a"), start(world, "b")]
    job_id = enqueue(world, base, options=QUICK, model="two")
    done = world.wait_for(job_id)
    assert done.state is JobState.SUCCEEDED, world.log(job_id)
    part = part_of(world, job_id)
    assert world.wait_for(part.job_id).state is JobState.SUCCEEDED
    assert {done.executor_id, part.executor_id} == {"a", "b"}
    assert any("2 processes on 2 machines" in line for line in world.log(job_id))
    until("no process is left", lambda: all(tree.is_empty() for tree in trees))
    one = enqueue_policy(world.store, base, options=QUICK, model="one").id
    assert world.wait_for(one).state is JobState.SUCCEEDED
    rewards = [_reward_of(world, name) for name in ("one", "two")]
    assert rewards[0] == pytest.approx(rewards[1], abs=1e-4)


def test_cancel_ends_every_process_of_both_and_a_retry_goes_on(world: World, base: Path) -> None:
    trees = [start(world, "a"), start(world, "b")]
    job_id = enqueue(world, base, options=ENDLESS)
    wait_for_both(world, job_id, trees)
    world.cancel(job_id)
    assert world.wait_for(job_id).state is JobState.CANCELED
    part = part_of(world, job_id)
    assert world.wait_for(part.job_id).state is JobState.CANCELED
    until("no process is left", lambda: all(tree.is_empty() for tree in trees))
    world.retry(job_id)
    wait_for_resume(world, job_id, trees[0])
    assert part_of(world, job_id, 2).state is JobState.RUNNING


def test_killed_worker_of_one_machine_fails_the_run_with_a_reason(world: World, base: Path) -> None:
    trees = {name: start(world, name) for name in ("a", "b")}
    job_id = enqueue(world, base, options=ENDLESS)
    wait_for_both(world, job_id, list(trees.values()))
    part = part_of(world, job_id)
    lost = trees[part.executor_id or ""]
    lost.worker.kill()
    failed = world.wait_for(job_id)
    assert failed.state is JobState.FAILED
    assert f"machine 1 ({part.executor_id} on " in (failed.message or "")
    until("no process is left", lambda: all(tree.is_empty() for tree in trees.values()))
    assert world.wait_for(part.job_id).state in (JobState.CANCELED, JobState.FAILED)

    trees["c"] = start(world, "c")
    world.retry(job_id)
    wait_for_resume(world, job_id, trees["c"])
    world.cancel(job_id)
    assert world.wait_for(job_id).state is JobState.CANCELED
    until("no process is left", lambda: all(tree.is_empty() for tree in trees.values()))


def test_killed_worker_of_the_first_machine_ends_the_other_and_the_run_goes_on(
    world: World, base: Path
) -> None:
    trees = {name: start(world, name) for name in ("a", "b")}
    job_id = enqueue(world, base, options=ENDLESS)
    wait_for_both(world, job_id, list(trees.values()))
    first = trees[world.job(job_id).executor_id or ""]
    first.worker.kill()
    until("no process is left", lambda: all(tree.is_empty() for tree in trees.values()))
    part = part_of(world, job_id)
    assert world.wait_for(part.job_id).state is not JobState.SUCCEEDED
    trees["c"] = start(world, "c")
    wait_for_resume(world, job_id, trees["c"])
    assert part_of(world, job_id, 2).state is JobState.RUNNING


def _reward_of(world: World, model: str) -> float:
    with world.store.reading() as db:
        return get_version_by_number(db, model, 1, actor=SYSTEM).metrics["reward"]
