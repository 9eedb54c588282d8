"""Real worker processes for tests, and waiting for what they do."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.jobs import service
from rlhf_core.jobs.service import JobView
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import JobKind, JobState

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CHILD = HERE / "child.py"
PATIENCE_S = 60.0


def until(what: str, is_so: Callable[[], Any]) -> Any:
    """Poll until `is_so()` is true and return it; fail with `what` after a minute."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if value := is_so():
            return value
        time.sleep(0.03)
    raise AssertionError(f"never happened: {what}")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class World:
    """One database with its workers. `stop_all` ends what is left."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.journal = folder / "journal"
        self.journal.mkdir()
        self._folder = folder
        self._workers: list[subprocess.Popen[str]] = []

    def start_worker(
        self, executor: str = "test:cpu", *, child: Path = CHILD, is_ready: bool = True
    ) -> subprocess.Popen[str]:
        return self.start(
            [str(HERE / "worker_process.py"), executor, str(child)], is_ready=is_ready
        )

    def freeze(self, worker: subprocess.Popen[str]) -> None:
        """Stop a worker's clock, at a moment when it holds no lock of the database."""
        for _ in range(100):
            worker.send_signal(signal.SIGSTOP)
            if not self.store.is_sqlite or self._can_write():
                return
            worker.send_signal(signal.SIGCONT)
        raise AssertionError("the worker holds the database's lock all the time")

    def _can_write(self) -> bool:
        path = self.store.engine.url.database or ""
        with closing(sqlite3.connect(path, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            return True

    def start(self, arguments: list[str], *, is_ready: bool = True) -> subprocess.Popen[str]:
        errors = self._folder / f"worker-{len(self._workers)}.err"
        with errors.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self._workers.append(process)
        if is_ready:
            assert process.stdout is not None
            assert process.stdout.readline(), errors.read_text()
        return process

    def stop_all(self) -> None:
        for process in self._workers:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()
        pids = {pid for path in self.journal.iterdir() for pid in self.pids_of(path.name)}
        until("all children gone", lambda: not any(is_alive(pid) for pid in pids))

    def enqueue(self, **params: Any) -> uuid.UUID:
        params["journal"] = str(self.journal)
        with self.store.writing() as db:
            kind = JobKind.TRAIN_SBERT
            return service.enqueue_job(db, actor=SYSTEM, kind=kind, params=params).id

    def job(self, job_id: uuid.UUID) -> JobView:
        with self.store.reading() as db:
            return service.get_job(db, job_id)

    def cancel(self, job_id: uuid.UUID) -> JobView:
        with self.store.writing() as db:
            return service.cancel_job(db, job_id, actor=SYSTEM)

    def retry(self, job_id: uuid.UUID) -> JobView:
        with self.store.writing() as db:
            return service.retry_job(db, job_id, actor=SYSTEM)

    def log(self, job_id: uuid.UUID) -> list[str]:
        with self.store.reading() as db:
            return [line.text for line in service.read_log(db, job_id)]

    def wait_for(self, job_id: uuid.UUID, *states: JobState) -> JobView:
        """Wait until the job is in one of the states; without states: until it has ended."""

        def reached() -> JobView | None:
            job = self.job(job_id)
            return job if (job.state in states or (not states and job.state.is_final)) else None

        job: JobView = until(f"{job_id} is {states or 'ended'}", reached)
        return job

    def wait_for_step(self, job_id: uuid.UUID, attempt: int = 1) -> None:
        """Wait until this attempt has reported something."""

        def reported() -> bool:
            job = self.job(job_id)
            return job.attempt == attempt and (job.message or "").startswith("step")

        until(f"attempt {attempt} of {job_id} reports", reported)

    def starts_of(self, job_id: uuid.UUID | str) -> list[int]:
        """The attempts that began, in order."""
        path = self.journal / str(job_id)
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(line.split()[0]) for line in lines]

    def pids_of(self, job_id: uuid.UUID | str) -> list[int]:
        """Every process that the job's runs started."""
        path = self.journal / str(job_id)
        lines = path.read_text().splitlines() if path.exists() else []
        return [int(pid) for line in lines for pid in line.split()[1:]]

    def is_running(self, job_id: uuid.UUID) -> bool:
        return any(is_alive(pid) for pid in self.pids_of(job_id))
