"""Jobs as people see them: enqueue, follow, cancel, retry.

Our row is the truth. The queue (DBOS) only decides who starts a run when; its entry is written in
the same transaction as the row, so that neither exists without the other.
"""

import json
import time
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound, Unavailable
from rlhf_core.jobs.heartbeats import list_alive_executors
from rlhf_core.jobs.kinds import PERMISSIONS, RESOURCES
from rlhf_core.jobs.queue import new_workflow_id, put_in_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Account, Job, JobLogLine, JobMetric
from rlhf_core.store.upsert import changed_rows, insert_if_absent
from rlhf_core.vocabulary import JobKind, JobState, Resource

MAX_ATTEMPTS = 3
MAX_PARAMS_LENGTH = 100_000  # characters of JSON
UNFINISHED = (JobState.QUEUED, JobState.RUNNING)


@dataclass(frozen=True)
class JobView:
    """One job. `message` is the sentence for people; `progress` 0..1."""

    id: uuid.UUID
    kind: JobKind
    state: JobState
    resource: Resource
    params: dict[str, Any]
    priority: int
    dedup_key: str | None
    attempt: int
    executor_id: str | None
    progress: float
    message: str | None
    result: dict[str, Any] | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    reported_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first start to the end, or to now; None before it started."""
        if self.started_at is None:
            return None
        return ((self.finished_at or utcnow()) - self.started_at).total_seconds()


@dataclass(frozen=True)
class MetricPoint:
    """One number of a run at one step."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log; `number` counts on over the attempts."""

    number: int
    attempt: int
    text: str
    logged_at: datetime


def enqueue_job(
    db: Session,
    *,
    actor: Actor,
    kind: JobKind,
    params: dict[str, Any],
    resource: Resource | None = None,
    dedup_key: str | None = None,
    priority: int = 10,
) -> JobView:
    """Queue a job: it exists, and starts, if and only if the caller commits.

    `dedup_key`: Conflict while a job with this key is queued or running. `priority`: 1 is first.
    """
    require(actor, Permission.RUN_JOBS)
    require(actor, PERMISSIONS[kind])
    _check_params(params)
    if priority < 1:
        raise InvalidInput(f"The priority {priority} is below 1, the first.", field="priority")
    job_id, queue = new_id(), resource or RESOURCES[kind]
    workflow_id = new_workflow_id(job_id)
    row = {
        "id": job_id,
        "kind": kind,
        "state": JobState.QUEUED,
        "resource": queue,
        "params": params,
        "priority": priority,
        "dedup_key": dedup_key,
        "workflow_id": workflow_id,
        "attempt": 0,
        "max_attempts": MAX_ATTEMPTS,
        "progress": 0.0,
        "created_by": actor.account_id,
        "created_at": utcnow(),
    }
    if not insert_if_absent(db, Job, [row]):
        raise _duplicate(db, dedup_key)
    put_in_queue(db, job_id, workflow_id, queue, priority)
    record_event(
        db,
        actor=actor,
        action="job.enqueue",
        target_kind="job",
        target_id=job_id,
        details={"kind": kind.value},
    )
    return get_job(db, job_id)


def cancel_job(db: Session, job_id: uuid.UUID, *, actor: Actor) -> JobView:
    """Cancel a queued job at once; ask a running one to end (its worker then kills what is left).

    The jobs that it started, parts of a retraining or on other machines, go with it.
    Asking twice is harmless. Conflict where the job has ended already.
    """
    require(actor, Permission.RUN_JOBS)
    job = get_job(db, job_id)
    now = utcnow()
    asked = {"cancel_requested_at": now}
    ended = asked | {"state": JobState.CANCELED, "finished_at": now}
    is_orphan = job.executor_id not in list_alive_executors(db)
    ways: list[tuple[JobState, bool, dict[str, Any]]] = [
        (JobState.QUEUED, True, ended | {"message": "Canceled before it started."}),
        (JobState.RUNNING, is_orphan, ended | {"message": "Canceled; its worker had died."}),
        (JobState.RUNNING, True, asked),
    ]
    if not any(is_open and _change(db, job_id, state, values) for state, is_open, values in ways):
        raise Conflict(
            f"The job {job_id} is {get_job(db, job_id).state.value} already: nothing to cancel."
        )
    record_event(db, actor=actor, action="job.cancel", target_kind="job", target_id=job_id)
    _cancel_parts(db, job_id, actor)
    return get_job(db, job_id)


def retry_job(db: Session, job_id: uuid.UUID, *, actor: Actor) -> JobView:
    """Queue a failed or canceled job again, with its parameters and checkpoints."""
    require(actor, Permission.RUN_JOBS)
    job = get_job(db, job_id)
    require(actor, PERMISSIONS[job.kind])
    if job.kind is JobKind.JOIN:
        raise Conflict("A part of a run on several machines starts with its run: start that again.")
    workflow_id = new_workflow_id(job_id)
    again = {
        "state": JobState.QUEUED,
        "workflow_id": workflow_id,
        "max_attempts": Job.attempt + MAX_ATTEMPTS,
        "progress": 0.0,
        "message": None,
        "result": None,
        "executor_id": None,
        "started_at": None,
        "finished_at": None,
        "cancel_requested_at": None,
    }
    try:
        with db.begin_nested():
            changed = changed_rows(
                db.execute(
                    sa.update(Job)
                    .where(Job.id == job_id, Job.state.in_([JobState.FAILED, JobState.CANCELED]))
                    .values(again)
                )
            )
    except sa.exc.IntegrityError as error:
        raise _duplicate(db, job.dedup_key) from error
    if not changed:
        raise Conflict(
            f"The job {job_id} is {get_job(db, job_id).state.value}: "
            "only a failed or canceled one can be started again."
        )
    put_in_queue(db, job_id, workflow_id, job.resource, job.priority)
    record_event(db, actor=actor, action="job.retry", target_kind="job", target_id=job_id)
    return get_job(db, job_id)


def set_priority(db: Session, job_id: uuid.UUID, *, actor: Actor, priority: int) -> JobView:
    """Let a queued job start earlier (1 is first) or later. Conflict where it waits no more."""
    require(actor, Permission.RUN_JOBS)
    if priority < 1:
        raise InvalidInput(f"The priority {priority} is below 1, the first.", field="priority")
    job = get_job(db, job_id)
    # A new entry in the queue: the old one finds that it is not the job's any more, and ends.
    workflow_id = new_workflow_id(job_id)
    values = {"priority": priority, "workflow_id": workflow_id}
    if not _change(db, job_id, JobState.QUEUED, values):
        raise Conflict(f"The job {job_id} is {get_job(db, job_id).state.value}: it waits no more.")
    put_in_queue(db, job_id, workflow_id, job.resource, priority)
    record_event(
        db, actor=actor, action="job.set_priority", target_kind="job", target_id=job_id,
        details={"priority": priority},
    )  # fmt: skip
    return get_job(db, job_id)


def get_job(db: Session, job_id: uuid.UUID) -> JobView:
    """The job, as it stands now."""
    row = db.execute(_jobs().where(Job.id == job_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job_id}; list them with `python -m rlhf_core jobs list`.")
    return _view(row)


def find_unfinished(db: Session, dedup_key: str) -> JobView | None:
    """The queued or running job with this key, which an equal one has to wait for."""
    where = sa.and_(Job.dedup_key == dedup_key, Job.state.in_(UNFINISHED))
    row = db.execute(_jobs().where(where)).one_or_none()
    return None if row is None else _view(row)


def list_jobs(
    db: Session,
    *,
    states: Collection[JobState] = (),
    kind: JobKind | None = None,
    limit: int = 50,
) -> list[JobView]:
    """Jobs, newest first; all states where `states` is empty."""
    query = _jobs().order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    if states:
        query = query.where(Job.state.in_(states))
    if kind is not None:
        query = query.where(Job.kind == kind)
    return [_view(row) for row in db.execute(query)]


def list_metrics(db: Session, job_id: uuid.UUID) -> list[MetricPoint]:
    """All numbers of a job, by name and step."""
    query = (
        sa.select(JobMetric.name, JobMetric.step, JobMetric.value)
        .where(JobMetric.job_id == job_id)
        .order_by(JobMetric.name, JobMetric.step)
    )
    return [MetricPoint(*row) for row in db.execute(query)]


def read_log(
    db: Session, job_id: uuid.UUID, after: int = 0, *, limit: int = 1_000
) -> list[LogLine]:
    """The log lines numbered above `after`, in order, at most `limit`."""
    return _log_lines(db, job_id, JobLogLine.number > after, JobLogLine.number.asc(), limit)


def read_log_tail(db: Session, job_id: uuid.UUID, *, limit: int = 200) -> list[LogLine]:
    """The last `limit` log lines, in order."""
    return _log_lines(db, job_id, sa.true(), JobLogLine.number.desc(), limit)[::-1]


def wait_for_job(
    store: Store,
    job_id: uuid.UUID,
    *,
    timeout_s: float | None = None,
    poll_s: float = 0.5,
    on_change: Callable[[JobView], None] | None = None,
) -> JobView:
    """Wait until the job has ended; `on_change` is called at each change that is seen.

    Raises Unavailable after `timeout_s`; the job goes on.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    seen: tuple[Any, ...] = ()
    while True:
        with store.reading() as db:
            job = get_job(db, job_id)
        now = (job.state, job.progress, job.message)
        if on_change is not None and now != seen:
            on_change(job)
        seen = now
        if job.state.is_final:
            return job
        if deadline is not None and time.monotonic() > deadline:
            raise Unavailable(
                f"The job {job_id} is {job.state.value} after {timeout_s:g} s; it goes on."
            )
        time.sleep(poll_s)


def _check_params(params: dict[str, Any]) -> None:
    try:
        text = json.dumps(params, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"The parameters are no JSON: {error}.", field="params") from error
    if "\\u0000" in text:
        raise InvalidInput("The parameters hold a NUL character.", field="params")
    if len(text) > MAX_PARAMS_LENGTH:
        raise InvalidInput(
            f"The parameters have {len(text)} characters, at most {MAX_PARAMS_LENGTH} go in.",
            field="params",
        )


def _cancel_parts(db: Session, job_id: uuid.UUID, actor: Actor) -> None:
    """Cancel the jobs that a job started, with it."""
    query = sa.select(Job.id).where(Job.parent_job_id == job_id, Job.state.in_(UNFINISHED))
    for part in db.scalars(query).all():
        with suppress(Conflict):  # it has just ended
            cancel_job(db, part, actor=actor)


def _duplicate(db: Session, dedup_key: str | None) -> Conflict:
    other = find_unfinished(db, dedup_key) if dedup_key else None
    which = f"job {other.id} is {other.state.value}" if other else "another job has just begun it"
    return Conflict(f"The same work is under way ({which}): wait for it, or cancel it first.")


def _change(db: Session, job_id: uuid.UUID, state: JobState, values: dict[str, Any]) -> bool:
    statement = sa.update(Job).where(Job.id == job_id, Job.state == state).values(values)
    return changed_rows(db.execute(statement)) == 1


def _jobs() -> sa.Select[Any]:
    # Columns, not the entity: a session's identity map would keep showing what it saw first.
    names = [name for name in JobView.__dataclass_fields__ if name != "created_by"]
    created_by = sa.func.coalesce(Account.name, "system").label("created_by")
    columns = [getattr(Job, name) for name in names]
    return sa.select(*columns, created_by).outerjoin(Account, Account.id == Job.created_by)


def _view(row: sa.Row[Any]) -> JobView:
    return JobView(**row._mapping)


def _log_lines(db: Session, job_id: uuid.UUID, where: Any, order: Any, limit: int) -> list[LogLine]:
    query = (
        sa.select(JobLogLine.number, JobLogLine.attempt, JobLogLine.text, JobLogLine.logged_at)
        .where(JobLogLine.job_id == job_id, where)
        .order_by(order)
        .limit(limit)
    )
    return [LogLine(*row) for row in db.execute(query)]
