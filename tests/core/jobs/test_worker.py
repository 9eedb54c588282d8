"""Real workers, real children: how runs end."""

import uuid
from collections import deque
from pathlib import Path

import psutil
import pytest

from rlhf_core.config import get_settings
from rlhf_core.jobs import runs, service
from rlhf_core.jobs.worker import Worker
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobState, Resource
from tests.core.jobs.world import World, until
from tests.databases import only_sqlite, postgres_is_slow

LIGHT_CHILD = """
import pathlib, sys
journal = pathlib.Path({journal!r}) / sys.argv[1]
with journal.open("a") as file:
    file.write(f"{{sys.argv[2]}}\\n")
"""


@postgres_is_slow
def test_each_run_ends_in_its_state_with_a_sentence(world: World) -> None:
    world.start_worker()
    good = world.enqueue(first_attempt_s=0.3)
    ends = {end: world.enqueue(end=end) for end in ("refuse", "break", "segfault", "memory")}

    done = world.wait_for(good)
    assert done.state is JobState.SUCCEEDED
    assert (done.message, done.progress, done.attempt) == ("Trained.", 1.0, 1)
    assert done.result is not None
    assert done.result["metrics"] == {"auc": 0.7, "odd": None}
    assert done.executor_id == "test:cpu"
    assert done.duration_s is not None
    assert world.log(good) == ["attempt 1 of system"]
    with world.store.reading() as db:
        points = service.list_metrics(db, good)
    assert {point.name for point in points} == {"loss"}
    assert [point.step for point in points] == list(range(1, done.result["steps"] + 1))
    folder = get_settings().data_dir / "work" / str(good)
    until("the folder of a finished run is gone", lambda: not folder.exists())

    failed = {end: world.wait_for(job_id) for end, job_id in ends.items()}
    assert {job.state for job in failed.values()} == {JobState.FAILED}
    assert failed["refuse"].message == "All ratings are equal: rate some completions lower."
    assert "unexpected error (KeyError: 'oops')" in (failed["break"].message or "")
    assert any("scripted_run" in line for line in world.log(ends["break"]))
    assert "ended by signal SIGSEGV" in (failed["segfault"].message or "")
    assert "last words" in world.log(ends["segfault"])
    assert "more memory than there is" in (failed["memory"].message or "")


@postgres_is_slow
def test_cancel_leaves_no_process_and_retry_runs_again(world: World) -> None:
    never = world.enqueue()
    assert world.cancel(never).state is JobState.CANCELED
    world.start_worker()
    job_id = world.enqueue(first_attempt_s=600, spawn=True)
    world.wait_for_step(job_id)
    assert world.cancel(job_id).state is JobState.RUNNING
    assert world.wait_for(job_id).state is JobState.CANCELED
    until("no process is left", lambda: not world.is_running(job_id))

    assert world.retry(job_id).state is JobState.QUEUED
    done = world.wait_for(job_id)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 2)
    assert done.result is not None
    assert done.result["steps"] > 0, "the second attempt found the checkpoint of the first"
    assert world.starts_of(job_id) == [1, 2]
    assert world.starts_of(never) == []


@postgres_is_slow
def test_two_workers_run_20_jobs_once_each(world: World, tmp_path: Path) -> None:
    child = tmp_path / "light.py"
    child.write_text(LIGHT_CHILD.format(journal=str(world.journal)))
    jobs = [world.enqueue() for _ in range(20)]
    for executor in ("a:cpu", "b:cpu"):
        world.start_worker(executor, child=child)
    ended = [world.wait_for(job_id) for job_id in jobs]
    assert [world.starts_of(job_id) for job_id in jobs] == [[1]] * 20
    assert {job.attempt for job in ended} == {1}
    assert "ended with exit status 0 and left no result" in (ended[0].message or "")


@postgres_is_slow
def test_the_same_executor_twice_is_refused(world: World) -> None:
    world.start_worker("test:cpu")
    second = world.start_worker("test:cpu", is_ready=False)
    assert second.wait(60) == 1


def test_job_that_the_worker_cannot_run_fails_with_a_sentence(world: World, tmp_path: Path) -> None:
    child = tmp_path / "light.py"
    world.start_worker(child=child)
    failed = world.wait_for(world.enqueue())
    assert failed.state is JobState.FAILED
    assert "could not run it (LookupError: no script" in (failed.message or "")
    assert failed.finished_at is not None

    child.write_text(LIGHT_CHILD.format(journal=str(world.journal)))
    assert world.retry(failed.id).state is JobState.QUEUED
    world.wait_for(failed.id)
    assert world.starts_of(failed.id) == [2], "the worker works on"


@only_sqlite
def test_child_ends_where_its_supervision_breaks(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> bool:
        raise RuntimeError("can't start new thread")

    def sleeper(_job_id: uuid.UUID, _attempt: int) -> list[str]:
        return ["sleep", "600"]

    monkeypatch.setattr(runs, "is_wanted", break_down)
    worker = Worker(
        store, get_settings(), executor_id="a:cpu", resources=(Resource.CPU,), command=sleeper
    )
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(RuntimeError, match="new thread"):
        worker._supervise(uuid.uuid4(), 1, deque())
    assert set(psutil.Process().children(recursive=True)) <= before
