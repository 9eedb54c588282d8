"""`train sbert`: train the reward model as a background job."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.jobs import FOLLOW_EVERY_S, one_line
from rlhf_core.cli.output import emit, json_option, reading, say, writing
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.errors import TrainingFailed
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.service import JobView
from rlhf_core.jobs.train_sbert import DEFAULT_DATASET, TrainSbertParams, enqueue_train_sbert
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.vocabulary import JobState, Resource

LOOK_FOR_WORKER_EVERY_S = 5.0


@click.group(name="train", help="Train a model as a background job.")
def command() -> None:
    """Choose what to train."""


@command.command(help="Train the reward model: sentence embeddings and a logistic regression.")
@click.option(
    "--threshold",
    type=float,
    default=4.0,
    show_default=True,
    help="A mean rating at or above it is good.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--dataset", default=DEFAULT_DATASET, show_default=True, help="Name of the rows.")
@click.option("--model", default=REWARD_MODEL, show_default=True, help="Name of the model.")
@click.option("--source", help="Learn only from interactions of this source.")
@click.option(
    "--wait",
    "is_waiting",
    is_flag=True,
    help="Follow the run to its end; where no worker is alive, one runs until then.",
)
@json_option
def sbert(
    threshold: float,
    seed: int,
    dataset: str,
    model: str,
    source: str | None,
    is_waiting: bool,
    as_json: bool,
) -> None:
    """Queue the run; with --wait exit 0 only if it succeeded."""
    params = TrainSbertParams(
        dataset=dataset, model=model, source=source, threshold=threshold, seed=seed
    )
    with writing() as db:
        job = enqueue_train_sbert(db, actor=SYSTEM, params=params)
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
                trouble = find_worker_trouble(db, job.resource) if must_look else None
            if (now := (job.state, job.progress, job.message)) != seen:
                on_change(job)
                seen = now
            if job.state.is_final:
                return job
            if must_look:
                next_look = time.monotonic() + LOOK_FOR_WORKER_EVERY_S
            if trouble:
                start_worker(job.resource)
            time.sleep(FOLLOW_EVERY_S)


@contextmanager
def _children() -> Iterator[Callable[[Resource], None]]:
    """Yields what starts a worker unless one of ours runs; afterwards it is ended in order."""
    children: list[subprocess.Popen[bytes]] = []

    def start(resource: Resource) -> None:
        if any(child.poll() is None for child in children):
            return  # it is starting up
        say("No worker is alive: starting one for this run.")
        name = f"{socket.gethostname()}:train-{resource.value}"
        arguments = ["--executor", name, "--resources", resource.value, "--exit-with-parent"]
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
