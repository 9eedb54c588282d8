"""`schedule list | add | on | off | remove | start`: retraining that starts by itself."""

from typing import Any

import click

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.cli.output import emit, json_option, reading, say, writing
from rlhf_core.cli.waiting import report_job, wait_option
from rlhf_core.jobs import schedules
from rlhf_core.jobs.cron import DEFAULT_CRON
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.retrain_params import WHAT, RetrainParams
from rlhf_core.jobs.schedules import ScheduleView
from rlhf_core.vocabulary import JobKind, Resource, ScheduleTrigger


@click.group(name="schedule", help="Retrain by itself: at a time, after new ratings, on drift.")
def command() -> None:
    """Choose what to do."""


@command.command(name="list", help="All schedules.")
@json_option
def list_(as_json: bool) -> None:
    """Print one line a schedule."""
    with reading() as db:
        found = schedules.list_schedules(db, actor=SYSTEM)
    emit(found, as_json=as_json, text="\n".join(map(one_line, found)))


@command.command(help="Make a schedule, switched on.")
@click.argument("name")
@click.option(
    "--trigger",
    type=click.Choice([trigger.value for trigger in ScheduleTrigger]),
    default=ScheduleTrigger.CRON.value,
    show_default=True,
)
@click.option("--cron", default=DEFAULT_CRON, show_default=True, help="Five fields, in UTC.")
@click.option(
    "--what", type=click.Choice(WHAT), default=WHAT[0], show_default=True, help="What is trained."
)
@click.option(
    "--learner",
    type=click.Choice([kind.value for kind in JobKind if kind.value.startswith("train_")]),
    help="How the policy is trained; the data choose where it is left out.",
)
@click.option("--min-new", type=int, default=1, show_default=True, help="Skip below so many.")
@click.option("--off", "is_off", is_flag=True, help="Make it switched off.")
@json_option
def add(
    name: str,
    trigger: str,
    cron: str,
    what: str,
    learner: str | None,
    min_new: int,
    is_off: bool,
    as_json: bool,
) -> None:
    """Store it; a worker starts its jobs."""
    policy: dict[str, Any] | None = {"learner": learner} if learner else None
    with writing() as db:
        made = schedules.create_schedule(
            db,
            actor=SYSTEM,
            name=name,
            trigger=ScheduleTrigger(trigger),
            cron=cron,
            params=RetrainParams(what=what, policy=policy, min_new=min_new),
            is_enabled=not is_off,
        )
    warn_without_worker(made)
    emit(made, as_json=as_json, text=one_line(made))


@command.command(help=f"Switch a schedule on, such as `{schedules.DEFAULT_NAME}`.")
@click.argument("name", default=schedules.DEFAULT_NAME)
@json_option
def on(name: str, as_json: bool) -> None:
    """Switch it on."""
    switch(name, is_enabled=True, as_json=as_json)


@command.command(help="Switch a schedule off.")
@click.argument("name", default=schedules.DEFAULT_NAME)
@json_option
def off(name: str, as_json: bool) -> None:
    """Switch it off."""
    switch(name, is_enabled=False, as_json=as_json)


@command.command(help="Remove a schedule.")
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Remove it; what it has started goes on."""
    with writing() as db:
        schedules.delete_schedule(db, name, actor=SYSTEM)
    emit({"removed": name}, as_json=as_json, text=f"Removed {name}.")


@command.command(help="Start a schedule's job now.")
@click.argument("name", default=schedules.DEFAULT_NAME)
@wait_option
@json_option
def start(name: str, is_waiting: bool, as_json: bool) -> None:
    """Queue it; with --wait exit 0 only if it succeeded."""
    with writing() as db:
        job = schedules.enqueue_schedule(db, name, actor=SYSTEM)
    report_job(job, is_waiting=is_waiting, as_json=as_json)


def switch(name: str, *, is_enabled: bool, as_json: bool) -> None:
    """Switch a schedule on or off."""
    with writing() as db:
        changed = schedules.set_schedule(db, name, actor=SYSTEM, is_enabled=is_enabled)
    warn_without_worker(changed)
    emit(changed, as_json=as_json, text=one_line(changed))


def warn_without_worker(schedule: ScheduleView) -> None:
    """Say so where nobody is there to start what is switched on."""
    if not schedule.is_enabled:
        return
    with reading() as db:
        trouble = find_worker_trouble(db, Resource.CPU)
    if trouble:
        say(trouble)


def one_line(schedule: ScheduleView) -> str:
    """A schedule in one line."""
    when = schedules.describe_trigger(schedule.trigger, schedule.cron, schedule.params)
    state = "on " if schedule.is_enabled else "off"
    parts = [f"{schedule.name:12}", state, f"{schedule.params['what']:6}", when]
    if schedule.next_at:
        parts.append(f"next {schedule.next_at:%Y-%m-%d %H:%M} UTC")
    if schedule.last_outcome:
        parts.append(schedule.last_outcome)
    if schedule.last_job_message:
        parts.append(schedule.last_job_message)
    return "  ".join(parts)
