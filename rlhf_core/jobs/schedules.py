"""Jobs that start by themselves: at a time (cron, UTC), after new ratings, when drift is seen.

The workers ask each minute what is due. Whoever locks a schedule's row first starts its job, in
one transaction with the mark that it did; so two workers start one. A tick that nobody was there
for is made up for once, however many were missed.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission, require
from rlhf_core.clock import new_id
from rlhf_core.dataset.service import is_name
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound, RlhfError
from rlhf_core.jobs.cron import DEFAULT_CRON, describe_cron, find_next_tick, parse_cron
from rlhf_core.jobs.heartbeats import database_now
from rlhf_core.jobs.retrain import RetrainParams, enqueue_retrain, parse_retrain_params
from rlhf_core.jobs.retrain_params import count_new_feedback, find_last_learned
from rlhf_core.jobs.service import JobView
from rlhf_core.store.tables import Account, Alert, AlertRule, Job, Schedule
from rlhf_core.store.upsert import changed_rows, insert_if_absent
from rlhf_core.vocabulary import AlertState, JobKind, JobState, ScheduleTrigger

DEFAULT_NAME = "weekly"
DRIFT_RULE = "drift"
"""The kind of the alert rules whose alerts start a retraining."""
PRIORITY = 100  # people go first


@dataclass(frozen=True)
class ScheduleView:
    """A schedule. `is_stored` is False of the default one while nobody has changed it.

    `next_at` is the next tick of a cron that is switched on. `params` are `RetrainParams`.
    `last_outcome` says why the last try started nothing, else which job it started.
    """

    name: str
    trigger: ScheduleTrigger
    cron: str
    params: dict[str, Any]
    is_enabled: bool
    is_stored: bool
    created_by: str
    next_at: datetime | None = None
    effective_at: datetime | None = None
    last_started_at: datetime | None = None
    last_outcome: str | None = None
    last_job_id: uuid.UUID | None = None
    last_job_state: JobState | None = None
    last_job_message: str | None = None


@dataclass(frozen=True)
class DueSchedule:
    """A schedule that should start now, and why. `seen` is the try before, which fences."""

    id: uuid.UUID
    name: str
    why: str
    seen: datetime | None


def create_schedule(
    db: Session,
    *,
    actor: Actor,
    name: str,
    trigger: ScheduleTrigger = ScheduleTrigger.CRON,
    cron: str = DEFAULT_CRON,
    params: RetrainParams | None = None,
    is_enabled: bool = False,
) -> ScheduleView:
    """Make a schedule; off unless told otherwise.

    Raises Conflict where the name is taken, InvalidInput for a name or a cron that is none.
    """
    require(actor, Permission.RUN_JOBS)
    name = name.strip()
    if not is_name(name):
        raise InvalidInput("name: give 1 to 200 printable characters without /.", field="name")
    wanted = params or RetrainParams()
    cron = _fit_cron(trigger, cron, wanted)
    row = {
        "id": new_id(),
        "name": name,
        "trigger": trigger,
        "cron": cron,
        "job_kind": JobKind.RETRAIN,
        "params": wanted.to_json(),
        "is_enabled": is_enabled,
        "created_by": actor.account_id,
        "effective_at": database_now(db),
        "created_at": database_now(db),
    }
    if not insert_if_absent(db, Schedule, [row]):
        raise Conflict(f"There is a schedule {name!r} already: choose another name, or change it.")
    _record(db, actor, "schedule.create", name, {"trigger": trigger.value, "is_on": is_enabled})
    return get_schedule(db, name, actor=actor)


def set_schedule(
    db: Session,
    name: str,
    *,
    actor: Actor,
    is_enabled: bool | None = None,
    trigger: ScheduleTrigger | None = None,
    cron: str | None = None,
    params: RetrainParams | None = None,
) -> ScheduleView:
    """Change what is given. The default schedule is made where it is not there yet.

    It starts on behalf of whoever changed it last. Ticks and alerts from before do not count.
    """
    require(actor, Permission.RUN_JOBS)
    old = get_schedule(db, name, actor=actor)
    if not old.is_stored:
        create_schedule(db, actor=actor, name=name)
    trigger = trigger or old.trigger
    wanted = params or parse_retrain_params(old.params)
    values: dict[str, Any] = {
        "trigger": trigger,
        "cron": _fit_cron(trigger, cron or old.cron or DEFAULT_CRON, wanted),
        "params": wanted.to_json(),
        "created_by": actor.account_id,
    }
    if is_enabled is not None:
        values["is_enabled"] = is_enabled
    is_switched_on = is_enabled and not old.is_enabled
    if is_switched_on or (values["trigger"], values["cron"]) != (old.trigger, old.cron):
        values["effective_at"] = database_now(db)
    db.execute(sa.update(Schedule).where(Schedule.name == name).values(values))
    is_on = old.is_enabled if is_enabled is None else is_enabled
    _record(db, actor, "schedule.set", name, {"trigger": trigger.value, "is_on": is_on})
    return get_schedule(db, name, actor=actor)


def delete_schedule(db: Session, name: str, *, actor: Actor) -> None:
    """Remove a schedule. Of the default one only the changes go; it is off then."""
    require(actor, Permission.RUN_JOBS)
    if changed_rows(db.execute(sa.delete(Schedule).where(Schedule.name == name))) == 0:
        raise _missing(name)
    _record(db, actor, "schedule.delete", name, {})


def enqueue_schedule(db: Session, name: str, *, actor: Actor) -> JobView:
    """Start a schedule's job now, also of one that is off. Conflict while one is under way."""
    schedule = get_schedule(db, name, actor=actor)
    job = enqueue_retrain(db, actor=actor, params=parse_retrain_params(schedule.params))
    if schedule.is_stored:
        values = _started(database_now(db), job, f"by {actor.name}")
        db.execute(sa.update(Schedule).where(Schedule.name == name).values(values))
    return job


def list_schedules(db: Session, *, actor: Actor) -> list[ScheduleView]:
    """All schedules by name, the default one first."""
    require(actor, Permission.RUN_JOBS)
    found = _load(db)
    if all(schedule.name != DEFAULT_NAME for schedule in found):
        found.append(_default())
    return sorted(found, key=lambda schedule: (schedule.name != DEFAULT_NAME, schedule.name))


def get_schedule(db: Session, name: str, *, actor: Actor) -> ScheduleView:
    """The schedule of this name; NotFound where there is none."""
    require(actor, Permission.RUN_JOBS)
    found = _load(db, Schedule.name == name)
    if found:
        return found[0]
    if name == DEFAULT_NAME:
        return _default()
    raise _missing(name)


def find_due(db: Session, *, now: datetime | None = None) -> list[DueSchedule]:
    """What should start now, by name. `now` is the database's moment."""
    now = now or database_now(db)
    query = sa.select(Schedule).where(Schedule.is_enabled).order_by(Schedule.name)
    due = []
    for row in db.scalars(query):
        why = _find_reason(db, row, now)
        if why is not None:
            due.append(DueSchedule(row.id, row.name, why, row.last_started_at))
    return due


def run_due(db: Session, *, now: datetime | None = None) -> list[JobView]:
    """Start what is due; the caller commits. One that cannot start says why, and others go on."""
    now = now or database_now(db)
    jobs = []
    for due in find_due(db, now=now):
        job = _start(db, due, now)
        if job is not None:
            jobs.append(job)
    return jobs


def describe_trigger(trigger: ScheduleTrigger, cron: str, params: Mapping[str, Any]) -> str:
    """When a schedule starts, in words."""
    match trigger:
        case ScheduleTrigger.CRON:
            return describe_cron(cron)
        case ScheduleTrigger.RATINGS:
            return f"after {int(params.get('min_new', 1)):,} new ratings"
        case ScheduleTrigger.DRIFT:
            return "when a drift alert opens"
        case _:
            assert_never(trigger)


def _find_reason(db: Session, row: Schedule, now: datetime) -> str | None:
    """Why the schedule should start now; None where it should not."""
    since = max(row.effective_at, row.last_started_at or row.effective_at)
    match row.trigger:
        case ScheduleTrigger.CRON:
            tick = find_next_tick(row.cron, since)
            return f"due at {tick:%Y-%m-%d %H:%M} UTC" if tick <= now else None
        case ScheduleTrigger.RATINGS:
            params = parse_retrain_params(row.params)
            # What came since the newest version, or since the last try, which may have failed.
            learned = find_last_learned(db, params.model)
            moments = [moment for moment in (learned, row.last_started_at) if moment]
            num_new = count_new_feedback(db, max(moments) if moments else None)
            return f"{num_new:,} new ratings" if num_new >= params.min_new else None
        case ScheduleTrigger.DRIFT:
            opened = db.execute(
                sa.select(AlertRule.name)
                .join(Alert, Alert.rule_id == AlertRule.id)
                .where(
                    AlertRule.kind == DRIFT_RULE,
                    Alert.opened_at > since,
                    Alert.state != AlertState.RESOLVED,
                )
                .limit(1)
            ).scalar_one_or_none()
            return None if opened is None else f"alert {opened}"
        case _:
            assert_never(row.trigger)


def _start(db: Session, due: DueSchedule, now: datetime) -> JobView | None:
    """Start one, unless another worker has it: its row is locked, or was marked meanwhile."""
    row = db.execute(
        sa.select(Schedule.params, Schedule.trigger, Schedule.created_by, Schedule.last_outcome)
        .where(
            Schedule.id == due.id,
            Schedule.is_enabled,
            Schedule.last_started_at.is_not_distinct_from(due.seen),
        )
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    job = None
    try:
        with db.begin_nested():
            actor = _find_actor(db, row.created_by)
            params = parse_retrain_params(row.params)
            job = enqueue_retrain(db, actor=actor, params=params, priority=PRIORITY)
        values = _started(now, job, due.why)
    except Conflict as error:
        values = {"last_outcome": f"Not started ({due.why}): {error}"}
        if row.trigger is ScheduleTrigger.CRON:
            values["last_started_at"] = now  # the next tick is the next try
    except RlhfError as error:
        values = {"last_outcome": f"Not started ({due.why}): {error}", "last_started_at": now}
    if values.get("last_started_at") or values["last_outcome"] != row.last_outcome:
        db.execute(sa.update(Schedule).where(Schedule.id == due.id).values(values))
    return job


def _started(now: datetime, job: JobView, why: str) -> dict[str, Any]:
    return {
        "last_started_at": now,
        "last_outcome": f"Started: {why}.",
        "last_job_id": job.id,
    }


def _find_actor(db: Session, account_id: uuid.UUID | None) -> Actor:
    """On whose behalf a schedule starts: whoever changed it last."""
    if account_id is None:
        return SYSTEM
    account = db.execute(
        sa.select(Account.name, Account.role, Account.disabled_at).where(Account.id == account_id)
    ).one()
    if account.disabled_at is not None:
        raise Forbidden(
            f"The account {account.name}, which set it, is closed: set it again from another one."
        )
    return Actor(name=account.name, role=account.role, account_id=account_id)


def _fit_cron(trigger: ScheduleTrigger, cron: str, params: RetrainParams) -> str:
    """The cron to store: empty where another trigger starts the schedule."""
    match trigger:
        case ScheduleTrigger.CRON:
            fit = parse_cron(cron)
            find_next_tick(fit, datetime.fromisoformat("2024-01-01T00:00:00+00:00"))
            return fit
        case ScheduleTrigger.RATINGS:
            if params.min_new < 1:
                raise InvalidInput("min_new 0: choose after how many new ratings.", field="min_new")
            return ""
        case ScheduleTrigger.DRIFT:
            return ""
        case _:
            assert_never(trigger)


def _load(db: Session, *conditions: sa.ColumnElement[bool]) -> list[ScheduleView]:
    query = (
        sa.select(
            *(getattr(Schedule, name) for name in _COLUMNS),
            sa.func.coalesce(Account.name, "system").label("created_by"),
            Job.state.label("last_job_state"),
            Job.message.label("last_job_message"),
        )
        .outerjoin(Account, Account.id == Schedule.created_by)
        .outerjoin(Job, Job.id == Schedule.last_job_id)
        .where(*conditions)
    )
    now = database_now(db)
    found = []
    for row in db.execute(query):
        is_cron = row.is_enabled and row.trigger is ScheduleTrigger.CRON
        next_at = find_next_tick(row.cron, now) if is_cron else None
        found.append(ScheduleView(**row._mapping, is_stored=True, next_at=next_at))
    return found


_COLUMNS = (
    "name", "trigger", "cron", "params", "is_enabled", "effective_at", "last_started_at",
    "last_outcome", "last_job_id",
)  # fmt: skip


def _default() -> ScheduleView:
    return ScheduleView(
        name=DEFAULT_NAME,
        trigger=ScheduleTrigger.CRON,
        cron=DEFAULT_CRON,
        params=RetrainParams().to_json(),
        is_enabled=False,
        is_stored=False,
        created_by="system",
    )


def _missing(name: str) -> NotFound:
    return NotFound(
        f"There is no schedule {name!r}; list them with `python -m rlhf_core schedule list`."
    )


def _record(db: Session, actor: Actor, action: str, name: str, details: dict[str, Any]) -> None:
    record_event(
        db, actor=actor, action=action, target_kind="schedule", target_id=name, details=details
    )
