"""Schedules: when they start, on whose behalf, and that two workers start one job."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.jobs import schedules, service
from rlhf_core.jobs.retrain_params import RetrainParams
from rlhf_core.jobs.schedules import ScheduleView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Account, Alert, AlertRule, Job, Schedule
from rlhf_core.vocabulary import AlertState, JobKind, JobState, Role, ScheduleTrigger
from tests.builders import make_actor
from tests.core.jobs.trained import add_ratings
from tests.core.jobs.world import World, until

SUNDAY = datetime(2026, 3, 8, 1, 0, tzinfo=UTC)


def create(store: Store, name: str = "nightly", **fields: Any) -> ScheduleView:
    with store.writing() as db:
        return schedules.create_schedule(
            db, actor=SYSTEM, name=name, **({"is_enabled": True} | fields)
        )


def set_back(store: Store, moment: datetime, **values: Any) -> None:
    """As if all schedules had been switched on at this moment."""
    with store.writing() as db:
        db.execute(sa.update(Schedule).values(effective_at=moment, **values))


def run_due(store: Store, now: datetime | None = None) -> list[service.JobView]:
    with store.writing() as db:
        return schedules.run_due(db, now=now)


def the_schedule(store: Store, name: str = "nightly") -> ScheduleView:
    with store.reading() as db:
        return schedules.get_schedule(db, name, actor=SYSTEM)


def end_jobs(store: Store) -> None:
    with store.writing() as db:
        db.execute(sa.update(Job).values(state=JobState.SUCCEEDED, message="done"))


def open_alert(db: Session, *, kind: str = "drift", at: datetime) -> None:
    rule = AlertRule(name=f"{kind} {at}", kind=kind, params={})
    db.add(rule)
    db.flush()
    db.add(Alert(rule_id=rule.id, opened_at=at, state=AlertState.OPEN))


def test_default_is_weekly_on_sunday_at_one_and_off(store: Store) -> None:
    with store.reading() as db:
        (default,) = schedules.list_schedules(db, actor=SYSTEM)
    assert (default.name, default.cron, default.is_enabled) == ("weekly", "0 1 * * 0", False)
    assert run_due(store, utcnow() + timedelta(days=8)) == []
    with store.writing() as db:
        on = schedules.set_schedule(db, "weekly", actor=SYSTEM, is_enabled=True)
    assert on.next_at is not None
    assert (on.next_at.isoweekday(), on.next_at.hour, on.next_at.minute) == (7, 1, 0)
    (job,) = run_due(store, utcnow() + timedelta(days=8))
    assert (job.kind, job.priority) == (JobKind.RETRAIN, 100)


def test_tick_starts_one_job_and_missed_ticks_are_made_up_for_once(store: Store) -> None:
    create(store, cron="0 1 * * 0")
    set_back(store, SUNDAY - timedelta(days=1))
    assert run_due(store, SUNDAY - timedelta(seconds=1)) == []
    (job,) = run_due(store, SUNDAY + timedelta(days=21, seconds=5))
    assert the_schedule(store).last_job_id == job.id
    assert "due at 2026-03-08 01:00" in (the_schedule(store).last_outcome or "")
    end_jobs(store)
    assert run_due(store, SUNDAY + timedelta(days=22)) == []
    assert len(run_due(store, SUNDAY + timedelta(days=28))) == 1


def test_ticks_from_before_it_was_switched_on_or_changed_do_not_count(store: Store) -> None:
    create(store, is_enabled=False)
    set_back(store, utcnow() - timedelta(days=30))
    with store.writing() as db:
        schedules.set_schedule(db, "nightly", actor=SYSTEM, is_enabled=True)
    assert run_due(store) == []
    set_back(store, utcnow() - timedelta(days=30))
    with store.writing() as db:
        schedules.set_schedule(db, "nightly", actor=SYSTEM, cron="* * * * *")
    assert run_due(store) == []
    assert len(run_due(store, utcnow() + timedelta(minutes=1))) == 1


def test_never_two_retrainings_at_once_and_the_reason_is_kept(store: Store) -> None:
    create(store, "first", cron="0 1 * * 0")
    create(store, "second", cron="0 1 * * 0")
    set_back(store, SUNDAY - timedelta(days=1))
    assert len(run_due(store, SUNDAY)) == 1
    assert "is queued" in (the_schedule(store, "second").last_outcome or "")
    assert run_due(store, SUNDAY + timedelta(minutes=1)) == [], "that tick is over"
    end_jobs(store)
    assert len(run_due(store, SUNDAY + timedelta(days=7))) == 1


def test_workers_that_ask_at_the_same_time_start_one_job(store: Store) -> None:
    for number in range(3):
        create(store, f"s{number}", cron="0 1 * * 0")
    set_back(store, SUNDAY - timedelta(days=1))
    started: list[service.JobView] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        started.extend(run_due(store, SUNDAY))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(started) == 1
    with store.reading() as db:
        assert len(service.list_jobs(db)) == 1


def test_ratings_start_it_once_enough_are_new(store: Store) -> None:
    create(store, trigger=ScheduleTrigger.RATINGS, params=RetrainParams(min_new=10))
    with store.writing() as db:
        add_ratings(db, 2)  # 8 ratings
    assert run_due(store) == []
    with store.writing() as db:
        add_ratings(db, 1, seed=1)
    (job,) = run_due(store)
    assert job.params["min_new"] == 10
    end_jobs(store)
    assert run_due(store) == [], "the same ratings start it no second time"
    with store.writing() as db:
        add_ratings(db, 3, seed=2)
    assert len(run_due(store)) == 1
    assert "12 new ratings" in (the_schedule(store).last_outcome or "")


def test_drift_alert_starts_it_and_other_alerts_do_not(store: Store) -> None:
    create(store, trigger=ScheduleTrigger.DRIFT)
    with store.writing() as db:
        open_alert(db, at=utcnow() - timedelta(hours=1))
        open_alert(db, kind="approval", at=utcnow() + timedelta(seconds=1))
    later = utcnow() + timedelta(minutes=1)
    assert run_due(store, later) == [], "one from before it was switched on is old news"
    with store.writing() as db:
        open_alert(db, at=utcnow() + timedelta(seconds=2))
    assert len(run_due(store, later)) == 1
    end_jobs(store)
    assert run_due(store, later + timedelta(minutes=1)) == []


def test_drift_waits_for_the_retraining_that_is_under_way(store: Store) -> None:
    create(store, trigger=ScheduleTrigger.DRIFT)
    with store.writing() as db:
        job = schedules.enqueue_schedule(db, "weekly", actor=SYSTEM)
        open_alert(db, at=utcnow() + timedelta(seconds=1))
    later = utcnow() + timedelta(minutes=1)
    assert run_due(store, later) == []
    assert str(job.id) in (the_schedule(store).last_outcome or "")
    end_jobs(store)
    assert len(run_due(store, later)) == 1


def test_closed_account_starts_nothing_and_the_schedule_says_so(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db, Role.TRAINER, name="gone")
        schedules.create_schedule(db, actor=actor, name="hers", is_enabled=True)
    set_back(store, SUNDAY - timedelta(days=1))
    with store.writing() as db:
        db.execute(sa.update(Account).where(Account.name == "gone").values(disabled_at=utcnow()))
    create(store, "ours")
    set_back(store, SUNDAY - timedelta(days=1))
    assert len(run_due(store, SUNDAY)) == 1, "the others go on"
    assert "account gone" in (the_schedule(store, "hers").last_outcome or "")


def test_job_runs_on_behalf_of_whoever_set_it(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db, Role.TRAINER, name="setter")
        schedules.set_schedule(db, "weekly", actor=actor, is_enabled=True)
    (job,) = run_due(store, utcnow() + timedelta(days=8))
    assert job.created_by == "setter"


def test_rater_may_neither_make_nor_see_one(store: Store) -> None:
    with store.writing() as db:
        rater = make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            schedules.create_schedule(db, actor=rater, name="mine")
        with pytest.raises(Forbidden):
            schedules.set_schedule(db, "weekly", actor=rater, is_enabled=True)
        with pytest.raises(Forbidden):
            schedules.list_schedules(db, actor=rater)


def test_wrong_schedules_are_refused_with_a_sentence(store: Store) -> None:
    create(store)
    with pytest.raises(Conflict, match="already"):
        create(store)
    with pytest.raises(InvalidInput, match="five fields"):
        create(store, "a", cron="every day")
    with pytest.raises(InvalidInput, match="never comes"):
        create(store, "a", cron="0 0 30 2 *")
    with pytest.raises(InvalidInput, match="after how many"):
        create(store, "a", trigger=ScheduleTrigger.RATINGS, params=RetrainParams(min_new=0))
    with pytest.raises(NotFound, match="no schedule 'b'"):
        the_schedule(store, "b")


def test_removed_default_is_off_again(store: Store) -> None:
    with store.writing() as db:
        schedules.set_schedule(db, "weekly", actor=SYSTEM, is_enabled=True, cron="0 2 * * 1")
        schedules.delete_schedule(db, "weekly", actor=SYSTEM)
    again = the_schedule(store, "weekly")
    assert (again.is_enabled, again.cron) == (False, "0 1 * * 0")


def test_two_real_workers_start_what_is_due_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_DEAD_AFTER_S", "3")  # workers look every half second
    create(world.store)
    set_back(world.store, utcnow() - timedelta(days=8))
    for executor in ("a:cpu", "b:cpu"):
        world.start_worker(executor)
    job_id = until("a worker started it", lambda: the_schedule(world.store).last_job_id)
    ended = world.wait_for(job_id)
    assert "KeyError" in (ended.message or ""), "the child of the tests knows no retraining"
    with world.store.reading() as db:
        assert len(service.list_jobs(db)) == 1
