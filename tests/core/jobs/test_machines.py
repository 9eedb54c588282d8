"""Machines of a run: reserved with its claim, for one run at a time, and dismissed with it."""

import uuid

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, InvalidInput, TrainingFailed
from rlhf_core.jobs import machines, runs, service
from rlhf_core.jobs.policy_machines import find_address
from rlhf_core.jobs.policy_params import TrainPolicyParams
from rlhf_core.jobs.train_policy import enqueue_train_policy
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, JobState, Resource
from tests.core.jobs.trained import run
from tests.core.jobs.trained_policies import GOOD
from tests.databases import only_sqlite, postgres_is_slow


def enqueue(store: Store, *, num_machines: int) -> uuid.UUID:
    with store.writing() as db:
        params = {"num_machines": num_machines}
        return service.enqueue_job(db, actor=SYSTEM, kind=JobKind.TRAIN_PPO, params=params).id


def claim(store: Store, job_id: uuid.UUID, executor: str) -> int | None:
    with store.reading() as db:
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id))
    return runs.claim_run(store, job_id, workflow_id or "", executor)


def parts_of(store: Store, job_id: uuid.UUID, attempt: int = 1) -> list[machines.Machine]:
    with store.reading() as db:
        return machines.list_machines(db, job_id, attempt)


@postgres_is_slow
def test_claimed_run_reserves_the_other_machines_and_a_second_run_waits(store: Store) -> None:
    first, second = enqueue(store, num_machines=3), enqueue(store, num_machines=2)
    assert claim(store, first, "a") == 1
    parts = parts_of(store, first)
    assert [(part.number, part.state) for part in parts] == [
        (1, JobState.QUEUED),
        (2, JobState.QUEUED),
    ]
    assert claim(store, second, "b") is None
    with store.reading() as db:
        waiting = service.get_job(db, second)
        assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 0)
        assert "Waits until the other run on several machines" in (waiting.message or "")
        assert service.get_job(db, parts[0].job_id).resource is Resource.GPU
    assert parts_of(store, second) == []

    with store.writing() as db:
        service.cancel_job(db, first, actor=SYSTEM)
    assert {part.state for part in parts_of(store, first)} == {JobState.CANCELED}
    assert claim(store, second, "b") == 1
    assert len(parts_of(store, second)) == 1


@postgres_is_slow
def test_part_that_lost_its_worker_is_given_up(store: Store) -> None:
    from rlhf_core.jobs import heartbeats

    job_id = enqueue(store, num_machines=2)
    claim(store, job_id, "a")
    (part,) = parts_of(store, job_id)
    assert claim(store, part.job_id, "b") == 1
    with store.writing() as db:
        heartbeats.release_runs(db, {"b"})
    assert claim(store, part.job_id, "c") is None
    (part,) = parts_of(store, job_id)
    assert part.state is JobState.FAILED
    with store.writing() as db, pytest.raises(Conflict, match="starts with its run"):
        service.retry_job(db, part.job_id, actor=SYSTEM)


@only_sqlite
def test_part_whose_run_has_ended_does_not_wait_for_it(store: Store) -> None:
    job_id = enqueue(store, num_machines=2)
    claim(store, job_id, "a")
    (part,) = parts_of(store, job_id)
    claim(store, part.job_id, "b")
    with store.writing() as db:
        db.get_one(Job, job_id).state = JobState.FAILED
        job = service.get_job(db, part.job_id)
    with pytest.raises(TrainingFailed, match="has ended on the first machine"):
        run(store, job)
    with pytest.raises(TrainingFailed, match="start its run again"):
        run(store, job, attempt=2)


@only_sqlite
def test_queue_of_the_cpu_is_refused(store: Store) -> None:
    params = TrainPolicyParams(rewards=GOOD, num_machines=2)
    with store.writing() as db, pytest.raises(InvalidInput, match="waits in the GPU's queue"):
        enqueue_train_policy(db, actor=SYSTEM, params=params, resource=Resource.CPU)


def test_machines_of_one_host_meet_on_its_loopback() -> None:
    import socket

    assert find_address([socket.gethostname(), None]) == "127.0.0.1"
    assert find_address(["127.0.0.2"]) == "127.0.0.1"
    assert find_address(["no-such-host.invalid"]) == socket.gethostname()
