"""One attempt of a job, as its worker writes it: claimed, watched, settled.

Each is a conditional update; who finds no row to change has been overtaken and does nothing.
"""

import signal
import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.jobs import machines
from rlhf_core.jobs.tracker import EXIT_SUPERSEDED, clean_text, next_line_number, write_log
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import JobState

SIGNAL_MEANINGS = {
    signal.SIGKILL: "most likely the machine ran out of memory; use less data or a larger machine",
    signal.SIGSEGV: "a library crashed; start the run again, and if it crashes again report it",
    signal.SIGBUS: "the disk or the memory failed; check the free disk space",
    signal.SIGABRT: "a library gave up; the log holds its last words",
}


def claim_run(store: Store, job_id: uuid.UUID, workflow_id: str, executor_id: str) -> int | None:
    """Begin the next attempt and return its number; None where there is nothing to run.

    That is: canceled or finished meanwhile, queued anew under another workflow, given up, or put
    back because another run has the machines that it needs.
    """
    with store.writing() as db:
        row = db.execute(
            sa.select(
                Job.attempt,
                Job.max_attempts,
                Job.cancel_requested_at,
                Job.params,
                Job.resource,
                Job.priority,
            )
            .where(
                Job.id == job_id,
                Job.workflow_id == workflow_id,
                Job.state.in_([JobState.QUEUED, JobState.RUNNING]),
            )
            .with_for_update()
        ).one_or_none()
        if row is None:
            return None
        now = utcnow()
        values: dict[str, Any]
        if row.cancel_requested_at is not None:
            values = {"state": JobState.CANCELED, "message": "Canceled.", "finished_at": now}
        elif row.attempt >= row.max_attempts:
            values = {
                "state": JobState.FAILED,
                "message": f"Given up after {row.attempt} attempts: the worker died during each. "
                "Most likely the run needs more memory than the machine has.",
                "finished_at": now,
            }
        elif not _has_machines(db, job_id, row):
            machines.put_back(db, job_id, row.resource, row.priority)
            return None
        else:
            values = {
                "state": JobState.RUNNING,
                "attempt": row.attempt + 1,
                "executor_id": executor_id,
                "message": None,
                "started_at": sa.func.coalesce(Job.started_at, now),
                "reported_at": now,
            }
        db.execute(sa.update(Job).where(Job.id == job_id).values(values))
        return values.get("attempt")


def _has_machines(db: Session, job_id: uuid.UUID, row: Any) -> bool:
    """Whether the run needs no machine but the worker's, or has the others reserved now."""
    wanted = machines.count_machines(row.params)
    return wanted == 1 or machines.reserve_machines(
        db, job_id, attempt=row.attempt + 1, num_machines=wanted, resource=row.resource
    )


def is_wanted(store: Store, job_id: uuid.UUID, attempt: int) -> bool:
    """Whether this attempt is still the job's, and nobody asked it to end."""
    with store.reading() as db:
        row = db.execute(
            sa.select(Job.state, Job.attempt, Job.cancel_requested_at).where(Job.id == job_id)
        ).one_or_none()
    return (
        row is not None
        and row.state is JobState.RUNNING
        and row.attempt == attempt
        and row.cancel_requested_at is None
    )


def settle_run(
    store: Store,
    job_id: uuid.UUID,
    attempt: int,
    *,
    exit_status: int,
    output: list[str],
    is_worker_stopping: bool,
) -> str:
    """Write the end of an attempt whose process is gone, where it did not do so itself.

    `output`: the last lines of stdout and stderr, kept in the log of a run that broke.
    """
    with store.writing() as db:
        row = db.execute(
            sa.select(Job.state, Job.max_attempts, Job.cancel_requested_at)
            .where(Job.id == job_id, Job.attempt == attempt)
            .with_for_update()
        ).one_or_none()
        if row is None or row.state is not JobState.RUNNING:
            return "superseded" if row is None else row.state.value
        if exit_status == EXIT_SUPERSEDED:
            return "superseded"
        values: dict[str, Any]
        if row.cancel_requested_at is not None:
            values = {
                "state": JobState.CANCELED,
                "message": "Canceled while it ran.",
                "finished_at": utcnow(),
            }
        elif is_worker_stopping:
            values = {
                "state": JobState.QUEUED,
                "message": "The worker was stopped; the run goes on when one starts.",
                "max_attempts": row.max_attempts + 1,  # an orderly stop is no failed attempt
            }
        else:
            values = {
                "state": JobState.FAILED,
                "message": describe_exit(exit_status),
                "finished_at": utcnow(),
            }
            _log_output(db, job_id, attempt, output)
        statement = sa.update(Job).where(
            Job.id == job_id, Job.attempt == attempt, Job.state == JobState.RUNNING
        )
        changed_rows(db.execute(statement.values(values)))
        return str(values["state"])


def fail_run(
    store: Store, job_id: uuid.UUID, workflow_id: str, executor_id: str, message: str
) -> str:
    """End a job whose supervision broke, unless another worker or workflow has it by now."""
    with store.writing() as db:
        statement = sa.update(Job).where(
            Job.id == job_id,
            Job.workflow_id == workflow_id,
            sa.or_(
                Job.state == JobState.QUEUED,  # it could not even be claimed
                sa.and_(Job.state == JobState.RUNNING, Job.executor_id == executor_id),
            ),
        )
        values = {"state": JobState.FAILED, "message": message, "finished_at": utcnow()}
        if changed_rows(db.execute(statement.values(values))) == 1:
            return str(JobState.FAILED)
    return "superseded"


def describe_exit(exit_status: int) -> str:
    """The sentence about a process that ended without one of its own."""
    number = -exit_status if exit_status < 0 else exit_status - 128
    if number in set(signal.Signals):
        ended_by = signal.Signals(number)
        meaning = SIGNAL_MEANINGS.get(ended_by, "somebody or something ended it from outside")
        return f"The run was ended by signal {ended_by.name}: {meaning}."
    return (
        f"The run ended with exit status {exit_status} and left no result; the log holds its last "
        "words. Start it again, and if it fails again report it."
    )


def _log_output(db: Session, job_id: uuid.UUID, attempt: int, output: list[str]) -> None:
    if output:
        now = utcnow()
        lines = [(now, clean_text(line)) for line in ["Last output of the process:", *output]]
        write_log(db, job_id, attempt, next_line_number(db, job_id), lines)
