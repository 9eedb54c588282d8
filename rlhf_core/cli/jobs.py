"""`jobs list | show | cancel | retry | log | wait`."""

import uuid

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, say, to_json, writing
from rlhf_core.demo.marks import find_marks
from rlhf_core.errors import InvalidInput, NotFound, TrainingFailed
from rlhf_core.jobs import service
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.service import JobView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobState

FOLLOW_EVERY_S = 0.5


@click.group(name="jobs", help="List, follow, cancel and retry background jobs.")
def command() -> None:
    """Choose what to do."""


@command.command(name="list", help="The newest jobs.")
@click.option("--state", type=click.Choice([state.value for state in JobState]))
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def list_(state: str | None, limit: int, as_json: bool) -> None:
    """Print one line a job."""
    with reading() as db:
        jobs = service.list_jobs(db, states=[JobState(state)] if state else [], limit=limit)
        marked = find_marks(db).jobs
    shown = [{**to_json(job), "is_demo": job.id in marked} for job in jobs]
    lines = [one_line(job) + "  demo" * (job.id in marked) for job in jobs]
    emit(shown, as_json=as_json, text="\n".join(lines) or "There are no jobs.")


@command.command(help="Everything about one job.")
@click.argument("job_id")
@json_option
def show(job_id: str, as_json: bool) -> None:
    """Print the job with the last value of each of its metrics."""
    with reading() as db:
        job = service.get_job(db, parse_job_id(job_id))
        last = {point.name: point.value for point in service.list_metrics(db, job.id)}
        told = {**to_json(job), "is_demo": job.id in find_marks(db).jobs}
    emit({"job": told, "metrics": last}, as_json=as_json)


@command.command(help="Cancel a queued or running job.")
@click.argument("job_id")
@json_option
def cancel(job_id: str, as_json: bool) -> None:
    """Ask for the end; `jobs wait` waits for it."""
    with writing() as db:
        job = service.cancel_job(db, parse_job_id(job_id), actor=SYSTEM)
    emit(job, as_json=as_json, text=one_line(job))


@command.command(help="Start a failed or canceled job again.")
@click.argument("job_id")
@json_option
def retry(job_id: str, as_json: bool) -> None:
    """Queue it again."""
    with writing() as db:
        job = service.retry_job(db, parse_job_id(job_id), actor=SYSTEM)
    emit(job, as_json=as_json, text=one_line(job))


@command.command(help="The log of a job.")
@click.argument("job_id")
@click.option("--after", type=click.IntRange(0), default=0, help="Only lines above this number.")
@json_option
def log(job_id: str, after: int, as_json: bool) -> None:
    """Print all lines."""
    lines: list[service.LogLine] = []
    with reading() as db:
        wanted = service.get_job(db, parse_job_id(job_id)).id
        while page := service.read_log(db, wanted, lines[-1].number if lines else after):
            lines += page
    emit(lines, as_json=as_json, text="\n".join(line.text for line in lines))


@command.command(help="Wait until a job has ended; exit code 1 unless it succeeded.")
@click.argument("job_id")
@click.option("--timeout", "timeout_s", type=float, help="Seconds; the job goes on after them.")
@json_option
def wait(job_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Follow the job on stderr, print it at the end."""
    job = follow_job(parse_job_id(job_id), timeout_s=timeout_s)
    emit(job, as_json=as_json, text=one_line(job))
    if job.state is not JobState.SUCCEEDED:
        raise TrainingFailed(f"The job {job.id} {job.state.value}: {job.message or 'no reason'}")


def follow_job(job_id: uuid.UUID, *, timeout_s: float | None = None) -> JobView:
    """Wait for a job's end, saying on stderr what happens; also a missing worker."""
    with reading() as db:
        job = service.get_job(db, job_id)
        trouble = None if job.state.is_final else find_worker_trouble(db, job.resource)
    if trouble:
        say(trouble)
    return service.wait_for_job(
        get_store(),
        job_id,
        timeout_s=timeout_s,
        poll_s=FOLLOW_EVERY_S,
        on_change=lambda job: say(one_line(job)),
    )


def one_line(job: JobView) -> str:
    """A job in one line."""
    parts = [str(job.id), f"{job.state.value:9}", job.kind.value, f"{job.progress:4.0%}"]
    if job.duration_s is not None:
        parts.append(f"{job.duration_s:.0f} s")
    return "  ".join([*parts, job.message or ""]).rstrip()


def parse_job_id(text: str) -> uuid.UUID:
    """A job's id, or the start of one that only one job has."""
    try:
        return uuid.UUID(text)
    except ValueError:
        pass
    if not text or any(sign not in "0123456789abcdef-" for sign in text.lower()):
        raise InvalidInput(f"{text!r} is no job id; `python -m rlhf_core jobs list` shows them.")
    with reading() as db:
        found = [job.id for job in service.list_jobs(db, limit=1000)]
    matches = [job_id for job_id in found if str(job_id).startswith(text.lower())]
    if len(matches) != 1:
        count = "no job" if not matches else f"{len(matches)} jobs"
        raise NotFound(f"{count} of the last 1000 begin with {text!r}: give more of the id.")
    return matches[0]
