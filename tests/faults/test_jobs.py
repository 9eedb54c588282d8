"""Workers that die, freeze or are stopped: no run is lost, none runs twice at a time."""

import os
import signal

import pytest

from rlhf_core.jobs import heartbeats
from rlhf_core.vocabulary import JobState, Resource
from tests.core.jobs.conftest import world
from tests.core.jobs.world import World, until

__all__ = ["world"]


def test_killed_worker_takes_its_children_along_and_its_next_life_goes_on(world: World) -> None:
    worker = world.start_worker()
    job_id = world.enqueue(first_attempt_s=600, spawn=True)
    world.wait_for_step(job_id)
    worker.kill()
    until("no process is left", lambda: not world.is_running(job_id))
    assert world.job(job_id).state is JobState.RUNNING, "nobody is there to say otherwise"

    world.start_worker()
    done = world.wait_for(job_id)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
    assert world.starts_of(job_id) == [1, 2]


def test_another_worker_takes_over_from_a_killed_one(world: World) -> None:
    first = world.start_worker("a:cpu")
    job_id = world.enqueue(first_attempt_s=600)
    world.wait_for_step(job_id)
    world.start_worker("b:cpu")
    first.kill()
    done = world.wait_for(job_id)
    assert (done.state, done.attempt, done.executor_id) == (JobState.SUCCEEDED, 2, "b:cpu")


def test_stopped_worker_gives_its_run_back_and_the_next_goes_on(world: World) -> None:
    worker = world.start_worker()
    job_id = world.enqueue(first_attempt_s=600, then_s=0.1)
    world.wait_for_step(job_id)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert world.job(job_id).state is JobState.QUEUED
    assert not world.is_running(job_id)
    with world.store.reading() as db:
        trouble = heartbeats.find_worker_trouble(db, Resource.CPU)
    assert trouble is not None
    assert trouble.startswith("No worker is alive for cpu jobs")

    world.start_worker()
    assert world.wait_for(job_id).state is JobState.SUCCEEDED
    assert world.starts_of(job_id) == [1, 2]


def test_worker_ends_with_its_parent_and_leaves_no_orphan(world: World) -> None:
    worker = world.start_worker()
    job_id = world.enqueue(first_attempt_s=600, spawn=True)
    world.wait_for_step(job_id)
    assert worker.stdin is not None
    worker.stdin.close()  # what the kernel does when the parent dies
    assert worker.wait(60) == 0
    assert not world.is_running(job_id)
    assert world.job(job_id).state is JobState.QUEUED


def test_canceling_the_run_of_a_dead_worker_needs_no_worker(world: World) -> None:
    worker = world.start_worker()
    job_id = world.enqueue(first_attempt_s=600)
    world.wait_for_step(job_id)
    worker.kill()
    until("the heartbeat is stale", lambda: not _alive(world))
    assert world.cancel(job_id).state is JobState.CANCELED
    world.start_worker()
    until("the worker is up", lambda: _alive(world))
    other = world.enqueue()
    assert world.wait_for(other).state is JobState.SUCCEEDED
    assert world.job(job_id).state is JobState.CANCELED
    assert world.starts_of(job_id) == [1]


@pytest.mark.slow
def test_frozen_worker_that_thaws_finds_its_run_fenced(world: World) -> None:
    frozen = world.start_worker("a:cpu")
    job_id = world.enqueue(first_attempt_s=600, then_s=1.0)
    world.wait_for_step(job_id)
    (old_pid,) = world.pids_of(job_id)
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        world.start_worker("b:cpu")
        world.wait_for_step(job_id, attempt=2)
        until("the old attempt sees that it was superseded", lambda: not _is_alive(old_pid))
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    done = world.wait_for(job_id)
    assert (done.state, done.attempt, done.executor_id) == (JobState.SUCCEEDED, 2, "b:cpu")
    assert world.starts_of(job_id) == [1, 2]


def test_recovery_function_of_the_queue_is_still_there() -> None:
    from dbos import DBOS

    assert callable(DBOS._recover_pending_workflows)


def _alive(world: World) -> set[str]:
    with world.store.reading() as db:
        return heartbeats.list_alive_executors(db)


def _is_alive(pid: int) -> bool:
    from tests.core.jobs.world import is_alive

    return is_alive(pid)
