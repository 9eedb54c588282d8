"""`python -m rlhf_core.jobs.run JOB_ID ATTEMPT`: the child process of one attempt of one job."""

import dataclasses
import errno
import fcntl
import math
import shutil
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, RlhfError, TrainingFailed
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.kinds import KINDS, JobFunction
from rlhf_core.jobs.sinks import RunFacts, SinkTracker, find_openers
from rlhf_core.jobs.tracker import EXIT_SUPERSEDED, JobTracker, clean_text
from rlhf_core.store.engine import Store, get_store
from rlhf_core.store.tables import Account, Job
from rlhf_core.vocabulary import JobKind, JobState

EXIT_STOPPED = 128 + signal.SIGTERM
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def run_job(
    store: Store,
    job_id: uuid.UUID,
    attempt: int,
    *,
    kinds: Mapping[JobKind, JobFunction] = KINDS,
) -> int:
    """Run one attempt and write its end; return the exit status for the worker.

    A run that was asked to stop writes no end: only the worker knows whether it was canceled or
    goes on later.
    """
    with store.reading() as db:
        query = sa.select(Job.kind, Job.params, Job.created_by, Job.state).where(
            Job.id == job_id, Job.attempt == attempt
        )
        job = db.execute(query).one_or_none()
    if job is None or job.state is not JobState.RUNNING:
        return EXIT_SUPERSEDED
    tracker = JobTracker(store, job_id, attempt)
    signal.signal(signal.SIGTERM, lambda *_: tracker.request_stop())
    facts = RunFacts(job_id, attempt, job.kind, job.params)
    told = SinkTracker(tracker, find_openers(facts, get_settings(), tracker))
    work_dir = get_settings().data_dir.resolve() / "work" / str(job_id)
    try:
        with _own_folder(work_dir):
            context = JobContext(
                job_id=job_id,
                attempt=attempt,
                params=job.params,
                actor=_find_actor(store, job.created_by),
                tracker=told,
                store=store,
                work_dir=work_dir,
            )
            result = to_plain(kinds[job.kind](context))
    except Exception as error:  # noqa: BLE001 - the edge where every failure becomes a sentence
        if not isinstance(error, RlhfError):
            tracker.log(traceback.format_exc())
        if tracker.should_stop():
            told.close(None)
            tracker.close()
            return EXIT_STOPPED
        told.close(JobState.FAILED)
        tracker.finish(JobState.FAILED, describe_failure(error))
        return 0
    if tracker.should_stop():
        told.close(None)
        tracker.close()
        return EXIT_STOPPED
    told.close(JobState.SUCCEEDED)
    message = str(result.pop("message", "")) or "Finished."
    tracker.finish(JobState.SUCCEEDED, message, result=result)
    shutil.rmtree(work_dir, ignore_errors=True)
    return 0


def describe_failure(error: BaseException) -> str:
    """One sentence that a person who is no engineer can act on."""
    if isinstance(error, RlhfError):
        return str(error)
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return (
            f"The disk is full: free some space under {get_settings().data_dir.resolve()}, "
            "then start the run again."
        )
    # torch has its own class of this name, for the memory of a GPU
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "The run needed more memory than there is: use less data or a smaller model, "
            "close other programs, or use a larger machine."
        )
    first_line = (str(error).strip().splitlines() or [""])[0]
    return (
        f"The run stopped on an unexpected error ({type(error).__name__}: "
        f"{clean_text(first_line, 200)}). Start it again; if it fails again, give its log to "
        "whoever looks after this installation."
    )


def to_plain(value: Any) -> Any:
    """JSON that both databases store: NaN and infinity become None, objects plain values."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, str):
        return clean_text(value, 1_000_000)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {clean_text(str(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, uuid.UUID | Path):
        return str(value)
    if hasattr(value, "item"):  # a scalar of NumPy or torch
        return to_plain(value.item())
    raise TypeError(f"a result of type {type(value).__name__} has no JSON form")


def _find_actor(store: Store, account_id: uuid.UUID | None) -> Actor:
    if account_id is None:
        return SYSTEM
    with store.reading() as db:
        account = db.get(Account, account_id)
    if account is None or account.disabled_at is not None:
        raise Forbidden("The account that started this run is closed: start it from another one.")
    return Actor(name=account.name, role=account.role, account_id=account.id)


@contextmanager
def _own_folder(work_dir: Path) -> Iterator[None]:
    """Make the work folder and hold it: an earlier attempt may still be in its last seconds."""
    work_dir.mkdir(parents=True, exist_ok=True)
    with (work_dir / ".lock").open("w") as handle:
        deadline = time.monotonic() + get_settings().run_grace_s + 30.0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise TrainingFailed(
                        f"An earlier attempt still holds the folder {work_dir}: end its process, "
                        "then start the run again."
                    ) from error
            time.sleep(0.1)
        yield


if __name__ == "__main__":
    sys.exit(run_job(get_store(), uuid.UUID(sys.argv[1]), int(sys.argv[2])))
