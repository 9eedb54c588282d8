"""Which workers are alive, by the database's clock: machines differ, the database is one."""

import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.jobs.devices import Device, devices_to_json, parse_devices
from rlhf_core.store.base import UtcDateTime
from rlhf_core.store.tables import Job, Worker
from rlhf_core.store.upsert import dialect_insert
from rlhf_core.vocabulary import JobState, Resource


@dataclass(frozen=True)
class WorkerView:
    """A worker process. `is_alive`: heard of within `dead_after_s`.

    `devices`: what its runs compute on, as of its last heartbeat.
    """

    executor_id: str
    host: str
    pid: int
    resources: tuple[Resource, ...]
    started_at: datetime
    seen_at: datetime
    is_alive: bool
    devices: tuple[Device, ...] = ()


def database_now(db: Session) -> datetime:
    """The database's moment; an embedded database has the clock of this machine."""
    if db.get_bind().dialect.name == "sqlite":
        return utcnow()
    return db.execute(sa.select(sa.func.clock_timestamp(type_=UtcDateTime()))).scalar_one()


def list_workers(db: Session) -> list[WorkerView]:
    """Every worker that did not say goodbye, by name."""
    alive_from = database_now(db) - timedelta(seconds=get_settings().dead_after_s)
    return [
        WorkerView(
            executor_id=row.executor_id,
            host=row.host,
            pid=row.pid,
            resources=tuple(Resource(name) for name in row.resources),
            started_at=row.started_at,
            seen_at=row.seen_at,
            is_alive=row.seen_at > alive_from,
            devices=parse_devices(row.devices),
        )
        for row in db.scalars(sa.select(Worker).order_by(Worker.executor_id))
    ]


def list_alive_executors(db: Session) -> set[str]:
    """The names of the workers that are alive."""
    return {worker.executor_id for worker in list_workers(db) if worker.is_alive}


def find_worker_trouble(db: Session, resource: Resource) -> str | None:
    """One sentence where no living worker takes jobs of this resource; None where all is well."""
    workers = list_workers(db)
    if any(worker.is_alive and resource in worker.resources for worker in workers):
        return None
    seen = [worker.seen_at for worker in workers if resource in worker.resources]
    last = f", the last was heard of at {max(seen):%Y-%m-%d %H:%M} UTC" if seen else ""
    return (
        f"No worker is alive for {resource.value} jobs{last}: queued runs wait until one starts "
        "(`make run`, or `python -m rlhf_core worker`)."
    )


def beat(
    db: Session,
    executor_id: str,
    *,
    pid: int,
    resources: tuple[Resource, ...],
    devices: Sequence[Device] = (),
) -> None:
    """Write this worker's heartbeat."""
    now = database_now(db)
    row = {
        "executor_id": executor_id,
        "host": socket.gethostname(),
        "pid": pid,
        "resources": [resource.value for resource in resources],
        "devices": devices_to_json(devices),
        "started_at": now,
        "seen_at": now,
    }
    statement = dialect_insert(db, Worker).values(row)
    excluded = statement.excluded
    # Another pid is another start: only then does `started_at` move.
    started_at = sa.case((Worker.pid == excluded.pid, Worker.started_at), else_=excluded.started_at)
    db.execute(
        statement.on_conflict_do_update(
            index_elements=["executor_id"],
            set_={
                "host": excluded.host,
                "pid": excluded.pid,
                "resources": excluded.resources,
                "devices": excluded.devices,
                "started_at": started_at,
                "seen_at": excluded.seen_at,
            },
        )
    )


def forget_worker(db: Session, executor_id: str) -> None:
    """Take a worker that ends in order off the list, so that its runs are taken over at once."""
    db.execute(sa.delete(Worker).where(Worker.executor_id == executor_id))


def release_runs(db: Session, executor_ids: set[str]) -> list[uuid.UUID]:
    """Put the runs of dead workers back to QUEUED; return their ids.

    From here on nothing that such a run still reports is kept: the fence asks for RUNNING.
    """
    return list(
        db.scalars(
            sa.update(Job)
            .where(Job.executor_id.in_(executor_ids), Job.state == JobState.RUNNING)
            .values(
                state=JobState.QUEUED,
                message="The worker died; the run starts again from its last checkpoint.",
            )
            .returning(Job.id)
        )
    )
