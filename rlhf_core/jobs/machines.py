"""Which workers take part in a run on several machines, where they meet, and who was lost.

The run is machine 0. Each other machine is a job of its own (`JobKind.JOIN`) in the same queue,
made in the transaction in which a worker claims the run. Nothing waits for ever:
- a worker runs one job of that queue at a time, so no machine takes two parts;
- the keys of these jobs let one run at a time have them, so two never hold half the machines each:
  the second goes back into the queue, and its worker is free;
- who runs on one machine only always ends.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict
from rlhf_core.jobs.heartbeats import list_workers
from rlhf_core.jobs.queue import new_workflow_id, put_in_queue
from rlhf_core.jobs.service import UNFINISHED, cancel_job, enqueue_job
from rlhf_core.store.tables import Job, Worker
from rlhf_core.vocabulary import JobKind, JobState, Resource

LOOK_AGAIN_S = 10.0
FIRST = 1  # before all that waits: a worker stands still until the others join it


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a run meet: `address` and `port` of its first machine.

    `folder` holds what they work on; every machine sees it under this path.
    """

    address: str
    port: int
    num_machines: int
    num_processes: int
    folder: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Machine:
    """One of the other machines of a run, by its job. `number` from 1."""

    job_id: uuid.UUID
    number: int
    state: JobState
    executor_id: str | None
    host: str | None
    message: str | None

    @property
    def name(self) -> str:
        """`machine 1 (gpu-7:gpu0 on gpu-7)`."""
        where = f"{self.executor_id} on {self.host}" if self.host else self.executor_id
        return f"machine {self.number} ({where or 'nobody yet'})"


def count_machines(params: Mapping[str, Any]) -> int:
    """How many machines a job with these parameters asks for."""
    asked = params.get("num_machines", 1)
    return asked if isinstance(asked, int) else 1


def count_workers(db: Session, resource: Resource) -> int:
    """The living workers that take such jobs."""
    return sum(one.is_alive and resource in one.resources for one in list_workers(db))


def reserve_machines(
    db: Session, job_id: uuid.UUID, *, attempt: int, num_machines: int, resource: Resource
) -> bool:
    """Queue the parts of this attempt; False where another run, or an earlier attempt, has them."""
    try:
        with db.begin_nested():
            for number in range(1, num_machines):
                part = enqueue_job(
                    db,
                    actor=SYSTEM,
                    kind=JobKind.JOIN,
                    params={"run": str(job_id), "attempt": attempt, "number": number},
                    resource=resource,
                    dedup_key=f"machine:{number}",
                    priority=FIRST,
                )
                # A part that lost its worker is no use to the attempt that it belongs to.
                values = {"parent_job_id": job_id, "max_attempts": 1}
                db.execute(sa.update(Job).where(Job.id == part.id).values(values))
    except Conflict:
        return False
    return True


def put_back(db: Session, job_id: uuid.UUID, resource: Resource, priority: int) -> None:
    """Let the run wait in the queue until the machines of another one are free."""
    workflow_id = new_workflow_id(job_id)
    values = {
        "state": JobState.QUEUED,
        "workflow_id": workflow_id,
        "message": "Waits until the other run on several machines has ended.",
    }
    db.execute(sa.update(Job).where(Job.id == job_id).values(values))
    put_in_queue(db, job_id, workflow_id, resource, priority, delay_s=LOOK_AGAIN_S)


def list_machines(db: Session, job_id: uuid.UUID, attempt: int) -> list[Machine]:
    """The other machines of this attempt, by number."""
    query = (
        sa.select(Job.id, Job.params, Job.state, Job.executor_id, Worker.host, Job.message)
        .outerjoin(Worker, Worker.executor_id == Job.executor_id)
        .where(Job.parent_job_id == job_id, Job.kind == JobKind.JOIN)
    )
    found = [
        Machine(row.id, row.params["number"], *row[2:])
        for row in db.execute(query)
        if row.params["attempt"] == attempt
    ]
    return sorted(found, key=lambda machine: machine.number)


def call_together(db: Session, machines: list[Machine], meeting: Meeting) -> None:
    """Tell the others where to go."""
    for machine in machines:
        params = db.scalar(sa.select(Job.params).where(Job.id == machine.job_id)) or {}
        told = {**params, "meeting": meeting.to_json()}
        db.execute(sa.update(Job).where(Job.id == machine.job_id).values(params=told))


def dismiss(db: Session, job_id: uuid.UUID) -> None:
    """End what is left of the parts of a run, of whichever attempt."""
    parts = sa.select(Job.id).where(
        Job.parent_job_id == job_id, Job.kind == JobKind.JOIN, Job.state.in_(UNFINISHED)
    )
    for part in db.scalars(parts).all():
        try:
            cancel_job(db, part, actor=SYSTEM)
        except Conflict:  # it has just ended
            continue
