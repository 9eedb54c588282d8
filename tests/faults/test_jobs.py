"""Workers that die, freeze or are stopped: no run is lost, none runs twice at a time."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from rlhf_core.config import get_settings
from rlhf_core.jobs import heartbeats, service
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobState, Resource
from tests.core.jobs.conftest import world
from tests.core.jobs.world import World, is_alive, until
from tests.databases import postgres_is_slow

__all__ = ["world"]


def declare_dead_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers started from here on take one that is silent for 3 s for dead."""
    monkeypatch.setenv("RLHF_DEAD_AFTER_S", "3")
    get_settings.cache_clear()


@postgres_is_slow
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


@postgres_is_slow
def test_another_worker_takes_over_from_a_killed_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_dead_soon(monkeypatch)
    first = world.start_worker("a:cpu")
    job_id = world.enqueue(first_attempt_s=600)
    world.wait_for_step(job_id)
    world.start_worker("b:cpu")
    first.kill()
    done = world.wait_for(job_id)
    assert (done.state, done.attempt, done.executor_id) == (JobState.SUCCEEDED, 2, "b:cpu")


@pytest.mark.slow
@postgres_is_slow
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


@postgres_is_slow
def test_worker_ends_with_its_parent_and_leaves_no_orphan(world: World) -> None:
    worker = world.start_worker()
    job_id = world.enqueue(first_attempt_s=600, spawn=True)
    world.wait_for_step(job_id)
    assert worker.stdin is not None
    worker.stdin.close()  # what the kernel does when the parent dies
    assert worker.wait(60) == 0
    assert not world.is_running(job_id)
    assert world.job(job_id).state is JobState.QUEUED


@pytest.mark.slow
def test_canceling_the_run_of_a_dead_worker_needs_no_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_dead_soon(monkeypatch)
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
def test_frozen_worker_that_thaws_finds_its_run_fenced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_dead_soon(monkeypatch)
    frozen = world.start_worker("a:cpu")
    job_id = world.enqueue(first_attempt_s=600, then_s=1.0)
    world.wait_for_step(job_id)
    (old_pid,) = world.pids_of(job_id)
    world.freeze(frozen)
    try:
        world.start_worker("b:cpu")
        world.wait_for_step(job_id, attempt=2)
        until("the old attempt sees that it was superseded", lambda: not is_alive(old_pid))
    finally:
        frozen.send_signal(signal.SIGCONT)
    done = world.wait_for(job_id)
    assert (done.state, done.attempt, done.executor_id) == (JobState.SUCCEEDED, 2, "b:cpu")
    assert world.starts_of(job_id) == [1, 2]


def test_recovery_function_of_the_queue_is_still_there() -> None:
    from dbos import DBOS

    assert callable(DBOS._recover_pending_workflows)


@postgres_is_slow
def test_run_survives_an_outage_of_the_database(world: World) -> None:
    world.start_worker()
    job_id = world.enqueue(first_attempt_s=3.0)
    world.wait_for_step(job_id)
    checkpoint = get_settings().data_dir / "work" / str(job_id) / "step"
    with _outage(world.store):
        before = int(checkpoint.read_text())
        until("the run goes on", lambda: int(checkpoint.read_text()) > before + 15)
    done = world.wait_for(job_id)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 1)
    assert done.result is not None
    with world.store.reading() as db:
        steps = [point.step for point in service.list_metrics(db, job_id)]
    assert steps == list(range(1, done.result["steps"] + 1)), "no report was lost"


@contextmanager
def _outage(store: Store) -> Iterator[None]:
    """Nobody can write (SQLite) or connect (PostgreSQL) meanwhile."""
    if store.is_sqlite:
        with store.writing():
            yield
        return
    url = store.engine.url
    forbid = f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS"
    admin = sa.create_engine(url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as db:
        db.exec_driver_sql(f"{forbid} false")
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        db.exec_driver_sql(kill, (url.database,))
        try:
            yield
        finally:
            db.exec_driver_sql(f"{forbid} true")
    admin.dispose()


def _alive(world: World) -> set[str]:
    with world.store.reading() as db:
        return heartbeats.list_alive_executors(db)
