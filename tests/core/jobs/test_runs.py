"""Claiming and settling attempts; heartbeats."""

import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.jobs import heartbeats, runs, service
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job, Worker
from rlhf_core.vocabulary import JobKind, JobState, Resource


def enqueue(store: Store) -> tuple[uuid.UUID, str]:
    with store.writing() as db:
        kind = JobKind.TRAIN_SBERT
        job_id = service.enqueue_job(db, actor=SYSTEM, kind=kind, params={}).id
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id))
    assert workflow_id is not None
    return job_id, workflow_id


def state_of(store: Store, job_id: uuid.UUID) -> tuple[JobState, str]:
    with store.reading() as db:
        job = service.get_job(db, job_id)
    return job.state, job.message or ""


def test_job_whose_worker_dies_each_time_is_given_up(store: Store) -> None:
    job_id, workflow_id = enqueue(store)
    for attempt in (1, 2, 3):
        assert runs.claim_run(store, job_id, workflow_id, "a:cpu") == attempt
        with store.writing() as db:
            assert heartbeats.release_runs(db, {"a:cpu"}) == [job_id]
    assert runs.claim_run(store, job_id, workflow_id, "a:cpu") is None
    state, message = state_of(store, job_id)
    assert state is JobState.FAILED
    assert message.startswith("Given up after 3 attempts")

    with store.writing() as db:
        service.retry_job(db, job_id, actor=SYSTEM)
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id)) or ""
    assert runs.claim_run(store, job_id, workflow_id, "a:cpu") == 4


def test_orderly_stops_are_no_failed_attempts(store: Store) -> None:
    job_id, workflow_id = enqueue(store)
    for attempt in range(1, 8):
        assert runs.claim_run(store, job_id, workflow_id, "a:cpu") == attempt
        settle(store, job_id, attempt, exit_status=143, is_worker_stopping=True)
        assert state_of(store, job_id)[0] is JobState.QUEUED


def settle(
    store: Store,
    job_id: uuid.UUID,
    attempt: int,
    *,
    exit_status: int,
    is_worker_stopping: bool = False,
) -> str:
    return runs.settle_run(
        store,
        job_id,
        attempt,
        exit_status=exit_status,
        output=["out"],
        is_worker_stopping=is_worker_stopping,
    )


def test_old_workflow_of_a_retried_job_runs_nothing(store: Store) -> None:
    job_id, old_workflow = enqueue(store)
    with store.writing() as db:
        service.cancel_job(db, job_id, actor=SYSTEM)
    assert runs.claim_run(store, job_id, old_workflow, "a:cpu") is None
    with store.writing() as db:
        service.retry_job(db, job_id, actor=SYSTEM)
    assert runs.claim_run(store, job_id, old_workflow, "a:cpu") is None
    assert state_of(store, job_id)[0] is JobState.QUEUED


def test_superseded_attempt_settles_nothing(store: Store) -> None:
    job_id, workflow_id = enqueue(store)
    runs.claim_run(store, job_id, workflow_id, "a:cpu")
    runs.claim_run(store, job_id, workflow_id, "b:cpu")
    assert not runs.is_wanted(store, job_id, 1)
    assert runs.is_wanted(store, job_id, 2)
    assert settle(store, job_id, 1, exit_status=1) == "superseded"
    assert state_of(store, job_id)[0] is JobState.RUNNING


def test_running_job_that_is_canceled_ends_canceled_however_it_ended(store: Store) -> None:
    job_id, workflow_id = enqueue(store)
    with store.writing() as db:
        heartbeats.beat(db, "a:cpu", pid=1, resources=(Resource.CPU,))
    assert runs.claim_run(store, job_id, workflow_id, "a:cpu") == 1
    with store.writing() as db:
        job = service.cancel_job(db, job_id, actor=SYSTEM)
    assert job.state is JobState.RUNNING, "its worker lives and ends it"
    assert not runs.is_wanted(store, job_id, 1)
    assert settle(store, job_id, 1, exit_status=137) == "canceled"


@pytest.mark.parametrize(
    ("exit_status", "words"),
    [
        (137, "SIGKILL: most likely the machine ran out of memory"),
        (139, "SIGSEGV"),
        (-9, "SIGKILL"),
        (1, "exit status 1"),
        (255, "exit status 255"),
    ],
)
def test_exit_status_becomes_a_sentence(exit_status: int, words: str) -> None:
    assert words in runs.describe_exit(exit_status)


def test_worker_is_alive_while_it_beats(store: Store) -> None:
    with store.writing() as db:
        heartbeats.beat(db, "a:cpu", pid=1, resources=(Resource.CPU,))
        heartbeats.beat(db, "b:gpu", pid=2, resources=(Resource.GPU,))
        heartbeats.beat(db, "a:cpu", pid=1, resources=(Resource.CPU,))
    with store.reading() as db:
        assert heartbeats.list_alive_executors(db) == {"a:cpu", "b:gpu"}
        assert heartbeats.find_worker_trouble(db, Resource.CPU) is None
    with store.writing() as db:
        late = heartbeats.database_now(db) - timedelta(seconds=61)
        db.execute(sa.update(Worker).where(Worker.executor_id == "a:cpu").values(seen_at=late))
        heartbeats.forget_worker(db, "b:gpu")
    with store.reading() as db:
        assert heartbeats.list_alive_executors(db) == set()
        trouble = heartbeats.find_worker_trouble(db, Resource.CPU) or ""
    assert "the last was heard of at" in trouble


def test_broken_supervision_ends_its_own_run_only(store: Store) -> None:
    job_id, workflow_id = enqueue(store)
    assert runs.claim_run(store, job_id, workflow_id, "b:cpu") == 1
    assert runs.fail_run(store, job_id, workflow_id, "a:cpu", "broke") == "superseded"
    assert runs.fail_run(store, job_id, "older", "b:cpu", "broke") == "superseded"
    assert state_of(store, job_id)[0] is JobState.RUNNING
    assert runs.fail_run(store, job_id, workflow_id, "b:cpu", "broke") == "failed"
    assert state_of(store, job_id) == (JobState.FAILED, "broke")
