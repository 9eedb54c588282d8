"""The worker process: takes jobs from the queue and supervises one child process a run.

Light (no torch). What makes it safe against death at any moment:
- its heartbeat; any worker takes over the runs of one that is silent for `dead_after_s`;
- the shim, which ends the child with all descendants when this process is gone;
- the attempt number, which fences what an older attempt still tries to write.
"""

import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import IO

import sqlalchemy as sa

from rlhf_core.config import SOURCE_ROOT, Settings
from rlhf_core.errors import Conflict, RlhfError, Unavailable
from rlhf_core.jobs import devices, heartbeats, runs, schedules
from rlhf_core.jobs.queue import APP_NAME, APP_VERSION, WORKFLOW, queue_client
from rlhf_core.jobs.release_watch import watch_releases
from rlhf_core.jobs.tracker import clean_text
from rlhf_core.jobs.upkeep import look_after
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Resource

RUNS_AT_ONCE = {Resource.CPU: 2, Resource.GPU: 1}
POLL_S = 0.3
WATCH_EVERY_S = 0.4
SCHEDULES_EVERY_S = 60.0
DEVICES_EVERY_S = 10.0
BEATS_A_LIFE = 6  # heartbeats within `dead_after_s`
OUTPUT_LINES = 100  # of a run that broke, kept in its log

logger = logging.getLogger(__name__)

Command = Callable[[uuid.UUID, int], list[str]]


def child_command(job_id: uuid.UUID, attempt: int) -> list[str]:
    """The child process of a run."""
    return [sys.executable, "-m", "rlhf_core.jobs.run", str(job_id), str(attempt)]


class Worker:
    """One worker. `executor_id` is stable and unique, such as `host:cpu` or `host:gpu0`.

    `owned`: the GPUs that its runs see, as `CUDA_VISIBLE_DEVICES` names them; None: all.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        executor_id: str,
        resources: tuple[Resource, ...],
        owned: tuple[str, ...] | None = None,
        command: Command = child_command,
    ) -> None:
        self._store = store
        self._settings = settings
        self._executor_id = executor_id
        self._resources = resources
        self._owned = owned
        self._command = command
        self._is_stopping = threading.Event()
        self._devices: list[devices.Device] = []
        self._schedules_at = time.monotonic()
        self._running = 0
        self._counting = threading.Condition()

    def stop(self) -> None:
        """End in order: runs are stopped, put back into the queue, and go on in the next worker."""
        self._is_stopping.set()

    def serve(self, *, on_ready: Callable[[], None] = lambda: None) -> None:
        """Work until `stop()`. Raises Conflict where this executor id runs on this machine already.

        Afterwards threads of the queue may still wait: the caller ends the process.
        """
        with self._lock():
            is_known = threading.Event()
            threading.Thread(target=self._watch_devices, args=(is_known,), daemon=True).start()
            is_known.wait(devices.ASK_FOR_S)
            self._beat()
            # Runs of an earlier life of this worker, which the queue is about to hand out again.
            with self._store.writing() as db:
                heartbeats.release_runs(db, {self._executor_id})
            self._launch_queue()
            for duties in (look_after, watch_releases):
                threading.Thread(
                    target=duties, args=(self._store, self._is_stopping), daemon=True
                ).start()
            on_ready()
            beat_at = time.monotonic()
            while not self._is_stopping.wait(self._settings.dead_after_s / BEATS_A_LIFE):
                try:
                    self._beat()
                    # After an outage of the database everybody looks dead: let them beat first.
                    was_late = time.monotonic() - beat_at > self._settings.dead_after_s / 2
                    beat_at = time.monotonic()
                    if not was_late:
                        self._take_over_the_dead()
                    self._start_what_is_due()
                except (RlhfError, sa.exc.SQLAlchemyError) as error:
                    logger.warning("No heartbeat: %s", error)
            self._wait_for_runs()
            try:
                with self._store.writing() as db:
                    heartbeats.forget_worker(db, self._executor_id)
            except RlhfError as error:
                logger.warning("Ended without saying goodbye: %s", error)

    def _lock(self) -> IO[str]:
        """Held until this process dies: a second one of the same name would run every job twice."""
        folder = self._settings.data_dir
        name = re.sub(r"[^\w.-]", "_", self._executor_id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = (folder / f"worker-{name}.lock").open("w")
        except OSError as error:
            raise Unavailable(
                f"Cannot write into the data folder {folder} ({error.strerror}); set RLHF_DATA_DIR."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.close()
            raise Conflict(
                f"A worker {self._executor_id} runs on this machine already: "
                "give this one another name with --executor."
            ) from error
        return handle

    def _launch_queue(self) -> None:
        from dbos import DBOS, DBOSPortableJSONSerializer

        client = queue_client(self._store.url)
        for resource, limit in RUNS_AT_ONCE.items():
            client.register_queue(
                resource.value, worker_concurrency=limit, polling_interval_sec=POLL_S
            )
        DBOS(
            config={
                "name": APP_NAME,
                "system_database_url": self._store.url,
                "application_version": APP_VERSION,
                "executor_id": self._executor_id,
                "serializer": DBOSPortableJSONSerializer(),
                "run_migrations": False,
                "sys_db_pool_size": 5,
                "log_level": "WARNING",
            }
        )

        # One function without steps: an upgrade of this code has no history to be true to. The
        # attempts are counted in our row, so the queue itself never gives up.
        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
        def run_job(job_id: str) -> str:
            return self._work(job_id)

        DBOS.listen_queues([resource.value for resource in self._resources])
        DBOS.launch()

    def _beat(self) -> None:
        with self._store.writing() as db:
            heartbeats.beat(
                db,
                self._executor_id,
                pid=os.getpid(),
                resources=self._resources,
                devices=self._devices,
            )

    def _watch_devices(self, is_known: threading.Event) -> None:
        """Look at the devices now and then. Apart: a driver that hangs holds up no heartbeat."""
        while not self._is_stopping.is_set():
            owned = devices.find_owned() if self._owned is None else self._owned
            self._devices = devices.list_devices(owned)
            is_known.set()
            self._is_stopping.wait(DEVICES_EVERY_S)

    def _take_over_the_dead(self) -> None:
        """Any worker may do this at any time; the queue hands each run to one of them."""
        from dbos import DBOS

        # Computed afresh from what the queue says is running: a failure half-way strands nothing.
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        others = {w.executor_id for w in pending if w.executor_id} - {self._executor_id}
        with self._store.reading() as db:
            if others <= heartbeats.list_alive_executors(db):
                return
        with self._store.writing() as db:
            # Asked again: this process may have been frozen since.
            dead = others - heartbeats.list_alive_executors(db)
            released = heartbeats.release_runs(db, dead)
        if not dead:
            return
        logger.warning("Taking over %d runs of %s.", len(released), ", ".join(sorted(dead)))
        DBOS._recover_pending_workflows(sorted(dead))  # private: a test watches that it is there

    def _start_what_is_due(self) -> None:
        """Every worker asks each minute; the schedule's row decides which of them starts it."""
        if time.monotonic() < self._schedules_at:
            return
        self._schedules_at = time.monotonic() + SCHEDULES_EVERY_S
        with self._store.reading() as db:
            if not schedules.find_due(db):
                return
        with self._store.writing() as db:
            for job in schedules.run_due(db):
                logger.warning("A schedule started job %s.", job.id)

    def _work(self, job_id: str) -> str:
        """The queue's workflow. Never raises and never returns early: an end is an end for good."""
        from dbos import DBOS

        workflow_id = DBOS.workflow_id or ""
        problem: str | None = None
        with self._counting:
            self._running += 1
        try:
            while not self._is_stopping.is_set():
                try:
                    if problem is None:
                        outcome = self._run(uuid.UUID(job_id), workflow_id)
                    else:
                        outcome = runs.fail_run(
                            self._store, uuid.UUID(job_id), workflow_id, self._executor_id, problem
                        )
                    if not self._is_stopping.is_set():
                        return outcome
                except (RlhfError, sa.exc.SQLAlchemyError) as error:
                    logger.warning("Job %s waits for the database: %s", job_id, error)
                    self._is_stopping.wait(2.0)
                except Exception as error:
                    # Raised on, it would end the workflow while our row says RUNNING for ever.
                    logger.exception("The worker could not run job %s", job_id)
                    if problem is not None:
                        return "lost"  # not even its end could be written
                    problem = (
                        f"The worker {self._executor_id} could not run it ({_name(error)}): start "
                        "it again, and if it fails again look into the worker's log."
                    )
        finally:
            with self._counting:
                self._running -= 1
                self._counting.notify_all()
        # Returning would tell the queue that the job is done. Of one that is, the next life of this
        # worker finds nothing to do.
        threading.Event().wait()
        return ""

    def _run(self, job_id: uuid.UUID, workflow_id: str) -> str:
        attempt = runs.claim_run(self._store, job_id, workflow_id, self._executor_id)
        if attempt is None:
            return "nothing to do"
        output: deque[str] = deque(maxlen=OUTPUT_LINES)
        exit_status = self._supervise(job_id, attempt, output)
        while True:
            try:
                return runs.settle_run(
                    self._store,
                    job_id,
                    attempt,
                    exit_status=exit_status,
                    output=list(output),
                    is_worker_stopping=self._is_stopping.is_set(),
                )
            except (RlhfError, sa.exc.SQLAlchemyError) as error:
                logger.warning("The end of job %s is not written yet: %s", job_id, error)
                if self._is_stopping.is_set():
                    raise  # the next start of this worker finds the run and takes it up again
                time.sleep(2.0)

    def _supervise(self, job_id: uuid.UUID, attempt: int, output: deque[str]) -> int:
        """Run the child until it ends, is canceled, is superseded, or this worker stops."""
        grace_s = self._settings.run_grace_s
        shim = [sys.executable, "-m", "rlhf_core.jobs.shim", str(grace_s)]
        paths = [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command
                shim + self._command(job_id, attempt),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
                env={
                    **os.environ,
                    **devices.visible_environment(self._owned),
                    "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                },
            )
        except OSError as error:  # no memory or no process left to fork
            output.append(f"The process could not be started: {error}")
            return os.EX_OSERR
        reader = threading.Thread(target=_keep_tail, args=(process, output), daemon=True)
        try:
            reader.start()
            while process.poll() is None and not self._must_end(job_id, attempt):
                reader.join(WATCH_EVERY_S)  # its end of file is the end of the run
                if not reader.is_alive():
                    break
        finally:
            if process.stdin:
                process.stdin.close()  # tells the shim to end what still runs
            try:
                process.wait(grace_s + 10.0)
            except subprocess.TimeoutExpired:
                process.kill()  # the kernel then kills the child
                process.wait()
        reader.join(2.0)
        return process.returncode

    def _must_end(self, job_id: uuid.UUID, attempt: int) -> bool:
        if self._is_stopping.is_set():
            return True
        try:
            return not runs.is_wanted(self._store, job_id, attempt)
        except (RlhfError, sa.exc.SQLAlchemyError):
            return False  # an outage is no reason to end a training

    def _wait_for_runs(self) -> None:
        with self._counting:
            self._counting.wait_for(
                lambda: self._running == 0, timeout=self._settings.run_grace_s + 15.0
            )


def _name(error: Exception) -> str:
    return f"{type(error).__name__}: {clean_text(str(error))[:200]}"


def _keep_tail(process: subprocess.Popen[str], output: deque[str]) -> None:
    if process.stdout:
        with process.stdout as stream:
            output.extend(line.rstrip("\n") for line in stream)


def run_worker(worker: Worker, *, exit_with_parent: bool, on_ready: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, or until stdin ends; then end the process."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread: a handler that touches the event while the main thread waits for it hangs.
        signal.signal(number, lambda *_: threading.Thread(target=worker.stop).start())
    if exit_with_parent:
        threading.Thread(target=_stop_at_end_of_stdin, args=(worker,), daemon=True).start()
    worker.serve(on_ready=on_ready)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the queue's threads never end by themselves


def _stop_at_end_of_stdin(worker: Worker) -> None:
    while os.read(0, 4096):
        pass
    worker.stop()
