"""Following a job that a command has just queued, also on a machine where nothing else runs."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from rlhf_core.cli.jobs import FOLLOW_EVERY_S, one_line
from rlhf_core.cli.output import emit, reading, say
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.errors import TrainingFailed
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.service import JobView
from rlhf_core.vocabulary import JobKind, JobState, Resource

LOOK_FOR_WORKER_EVERY_S = 5.0

wait_option = click.option(
    "--wait",
    "is_waiting",
    is_flag=True,
    help="Follow the run to its end; where no worker is alive, one runs until then.",
)


def report_job(job: JobView, *, is_waiting: bool, as_json: bool) -> None:
    """Print the queued job or, with `is_waiting`, what became of it.

    Raises TrainingFailed where it was waited for and did not succeed.
    """
    if is_waiting:
        job = wait_with_worker(job.id, on_change=lambda job: say(one_line(job)))
    else:
        with reading() as db:
            trouble = find_worker_trouble(db, job.resource)
        if trouble:
            say(trouble)
    emit(job, as_json=as_json, text=one_line(job))
    if is_waiting and job.state is not JobState.SUCCEEDED:
        raise TrainingFailed(f"The run {job.state.value}: {job.message or 'no reason given'}")


def wait_with_worker(job_id: uuid.UUID, *, on_change: Callable[[JobView], None]) -> JobView:
    """Follow the job to its end. While no worker is alive, one runs as a child of this process.

    So a schedule on a bare machine needs nothing else running. Killed, this process takes the
    child with it, and the run goes on when the next worker starts.
    """
    seen: tuple[object, ...] = ()
    next_look = 0.0
    with _children() as start_worker:
        while True:
            with reading() as db:
                job = service.get_job(db, job_id)
                must_look = not job.state.is_final and time.monotonic() >= next_look
                needed = _find_resources(job) if must_look else ()
                lacks = any(find_worker_trouble(db, resource) for resource in needed)
            if (now := (job.state, job.progress, job.message)) != seen:
                on_change(job)
                seen = now
            if job.state.is_final:
                return job
            if must_look:
                next_look = time.monotonic() + LOOK_FOR_WORKER_EVERY_S
            if lacks:
                start_worker(_find_resources(job))
            time.sleep(FOLLOW_EVERY_S)


def _find_resources(job: JobView) -> tuple[Resource, ...]:
    """What the job needs workers for: a retraining's parts wait in other queues than it does."""
    return tuple(Resource) if job.kind is JobKind.RETRAIN else (job.resource,)


@contextmanager
def _children() -> Iterator[Callable[[tuple[Resource, ...]], None]]:
    """Yields what starts a worker unless one of ours runs; afterwards it is ended in order."""
    children: list[subprocess.Popen[bytes]] = []

    def start(resources: tuple[Resource, ...]) -> None:
        if any(child.poll() is None for child in children):
            return  # it is starting up
        say("No worker is alive: starting one for this run.")
        names = [resource.value for resource in resources]
        executor = f"{socket.gethostname()}:train-{'-'.join(names)}"
        arguments = ["--executor", executor, "--resources", ",".join(names), "--exit-with-parent"]
        paths = [str(SOURCE_ROOT), os.environ.get("PYTHONPATH", "")]
        children.append(
            subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "rlhf_core", "worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
                start_new_session=True,  # Ctrl-C ends us, and we end it in order
            )
        )

    try:
        yield start
    finally:
        for child in children:
            if child.stdin is not None:
                child.stdin.close()
            child.wait()
