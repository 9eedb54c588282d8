"""Enqueue, cancel and retry, as rows; no worker needed."""

import threading
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from rlhf_core.jobs import service
from rlhf_core.jobs.service import JobView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, Job
from rlhf_core.vocabulary import JobKind, JobState, Resource, Role


def enqueue(store: Store, **fields: Any) -> JobView:
    fields = {"actor": SYSTEM, "kind": JobKind.TRAIN_SBERT, "params": {}} | fields
    with store.writing() as db:
        return service.enqueue_job(db, **fields)


def set_state(store: Store, job_id: uuid.UUID, state: JobState) -> None:
    with store.writing() as db:
        db.execute(sa.update(Job).where(Job.id == job_id).values(state=state, attempt=2))


def queued_workflows(store: Store) -> list[tuple[str, str, int]]:
    schema = None if store.is_sqlite else "dbos"
    columns = [sa.column(name) for name in ("workflow_uuid", "queue_name", "priority")]
    table = sa.table("workflow_status", *columns, schema=schema)
    with store.reading() as db:
        return [tuple(row) for row in db.execute(sa.select(table))]


def test_job_and_queue_entry_are_written_together(store: Store) -> None:
    job = enqueue(store, params={"seed": 7}, priority=3)
    assert (job.state, job.resource, job.params) == (JobState.QUEUED, Resource.CPU, {"seed": 7})
    assert job.created_by == "system"
    ((workflow_id, queue, priority),) = queued_workflows(store)
    assert workflow_id.startswith(str(job.id))
    assert (queue, priority) == ("cpu", 3)
    with store.reading() as db:
        assert db.scalars(sa.select(AuditEvent.action)).all() == ["job.enqueue"]


def test_enqueue_rolled_back_leaves_nothing(store: Store) -> None:
    def enqueue_and_fail() -> None:
        with store.writing() as db:
            service.enqueue_job(db, actor=SYSTEM, kind=JobKind.TRAIN_SBERT, params={})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        enqueue_and_fail()
    assert queued_workflows(store) == []
    with store.reading() as db:
        assert service.list_jobs(db) == []


def test_same_work_is_queued_once_until_it_has_ended(store: Store) -> None:
    first = enqueue(store, dedup_key="reward")
    with pytest.raises(Conflict, match=f"job {first.id} is queued"):
        enqueue(store, dedup_key="reward")
    enqueue(store, dedup_key="another")
    set_state(store, first.id, JobState.FAILED)
    second = enqueue(store, dedup_key="reward")
    assert len(queued_workflows(store)) == 3
    with pytest.raises(Conflict, match=f"job {second.id} is queued"), store.writing() as db:
        service.retry_job(db, first.id, actor=SYSTEM)


def test_of_many_enqueues_at_once_one_wins(store: Store) -> None:
    outcomes = []

    def try_it() -> None:
        try:
            outcomes.append(enqueue(store, dedup_key="reward").state)
        except Conflict:
            outcomes.append(None)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["None"] * 7 + ["queued"]
    assert len(queued_workflows(store)) == 1


@pytest.mark.parametrize(
    "value",
    [float("nan"), object(), "\x00", "\ud800", "y" * 200_000],
    ids=["nan", "object", "nul", "surrogate", "long"],
)
def test_parameters_that_no_database_keeps_are_refused(store: Store, value: Any) -> None:
    with pytest.raises(InvalidInput):
        enqueue(store, params={"x": value})
    assert queued_workflows(store) == []


def test_canceling_twice_is_harmless_and_an_ended_job_conflicts(store: Store) -> None:
    job = enqueue(store)
    with store.writing() as db:
        canceled = service.cancel_job(db, job.id, actor=SYSTEM)
    assert (canceled.state, canceled.message) == (JobState.CANCELED, "Canceled before it started.")
    with pytest.raises(Conflict, match="is canceled already"), store.writing() as db:
        service.cancel_job(db, job.id, actor=SYSTEM)


def test_only_an_ended_job_starts_again_and_as_a_new_workflow(store: Store) -> None:
    job = enqueue(store)
    with pytest.raises(Conflict, match="is queued"), store.writing() as db:
        service.retry_job(db, job.id, actor=SYSTEM)
    set_state(store, job.id, JobState.SUCCEEDED)
    with pytest.raises(Conflict, match="is succeeded"), store.writing() as db:
        service.retry_job(db, job.id, actor=SYSTEM)
    set_state(store, job.id, JobState.FAILED)
    with store.writing() as db:
        again = service.retry_job(db, job.id, actor=SYSTEM)
    assert (again.state, again.attempt, again.finished_at) == (JobState.QUEUED, 2, None)
    workflows = {workflow_id for workflow_id, _, _ in queued_workflows(store)}
    assert len(workflows) == 2


def test_rater_may_start_cancel_and_retry_nothing(store: Store) -> None:
    rater = Actor(name="someone", role=Role.RATER)
    job = enqueue(store)
    with pytest.raises(Forbidden):
        enqueue(store, actor=rater)
    with store.writing() as db:
        with pytest.raises(Forbidden):
            service.cancel_job(db, job.id, actor=rater)
        with pytest.raises(Forbidden):
            service.retry_job(db, job.id, actor=rater)


def test_list_is_newest_first_and_filters(store: Store) -> None:
    jobs = [enqueue(store).id for _ in range(3)]
    set_state(store, jobs[1], JobState.FAILED)
    with store.reading() as db:
        assert [job.id for job in service.list_jobs(db)] == jobs[::-1]
        assert [job.id for job in service.list_jobs(db, states=[JobState.FAILED])] == [jobs[1]]
        assert service.list_jobs(db, kind=JobKind.IMPORT) == []
        assert len(service.list_jobs(db, limit=2)) == 2


def test_unknown_job_is_not_found(store: Store) -> None:
    with store.reading() as db, pytest.raises(NotFound):
        service.get_job(db, uuid.uuid4())


def test_waiting_ends_with_the_job_or_the_time(store: Store) -> None:
    job = enqueue(store)
    with pytest.raises(Unavailable, match="it goes on"):
        service.wait_for_job(store, job.id, timeout_s=0.0, poll_s=0.01)
    set_state(store, job.id, JobState.SUCCEEDED)
    seen: list[JobState] = []
    ended = service.wait_for_job(store, job.id, on_change=lambda job: seen.append(job.state))
    assert ended.state is JobState.SUCCEEDED
    assert seen == [JobState.SUCCEEDED]
