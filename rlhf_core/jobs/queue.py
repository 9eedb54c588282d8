"""The queue (DBOS) that hands jobs to workers: its client, and what is put in."""

import uuid
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from rlhf_core.vocabulary import Resource

if TYPE_CHECKING:
    from dbos import DBOSClient, EnqueueOptions

APP_NAME = "rlhf"
APP_VERSION = "jobs-1"
"""Never change it: a queue entry of another version is taken up by nobody."""
WORKFLOW = "run_job"


@lru_cache(maxsize=8)
def queue_client(url: str) -> "DBOSClient":
    """The queue's client. Lazy: it writes through our connections and opens none of its own."""
    from dbos import DBOSClient, DBOSPortableJSONSerializer

    return DBOSClient(
        system_database_url=url,
        application_name=APP_NAME,
        serializer=DBOSPortableJSONSerializer(),
        lazy=True,
        retry_connection_errors=False,
    )


def new_workflow_id(job_id: uuid.UUID) -> str:
    """A fresh name for each enqueue: the queue attaches a used one to what it did before."""
    return f"{job_id}.{uuid.uuid4().hex[:8]}"


def put_in_queue(
    db: Session,
    job_id: uuid.UUID,
    workflow_id: str,
    resource: Resource,
    priority: int,
    *,
    delay_s: float = 0.0,
) -> None:
    """Write the queue's entry in the caller's transaction; nobody takes it before `delay_s`."""
    url = db.get_bind().engine.url.render_as_string(hide_password=False)
    options: EnqueueOptions = {
        "workflow_name": WORKFLOW,
        "queue_name": resource.value,
        "workflow_id": workflow_id,
        "priority": priority,
    }
    if delay_s:
        options["delay_seconds"] = delay_s
    queue_client(url).enqueue_in_transaction(db.connection(), options, str(job_id))
