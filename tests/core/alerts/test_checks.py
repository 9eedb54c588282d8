"""Alerts: opened once, kept, acknowledged, resolved by themselves or by hand; two workers."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.alerts import service
from rlhf_core.alerts.channels import Channels
from rlhf_core.alerts.checks import CheckResult, check_rules, list_due
from rlhf_core.alerts.findings import is_over
from rlhf_core.alerts.params import ApprovalBelow, Drift, RunFailed
from rlhf_core.alerts.service import AlertView, RuleView
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, Forbidden
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AlertDelivery, AlertRule, AuditEvent, FeedbackRollup, Job
from rlhf_core.vocabulary import AlertKind, AlertState, JobKind, JobState, Resource, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.alerts.counted import NOW, TODAY, add_day
from tests.databases import only_sqlite

MINUTE = timedelta(minutes=1)


def make_rule(store: Store, name: str = "approval", **fields: Any) -> RuleView:
    params = fields.pop("params", ApprovalBelow())
    with store.writing() as db:
        return service.create_rule(db, actor=SYSTEM, name=name, params=params, **fields)


def set_today(store: Store, good: int, bad: int) -> None:
    with store.writing() as db:
        db.execute(sa.delete(FeedbackRollup))
        add_day(db, TODAY, good, bad)


def check(store: Store, now: datetime = NOW) -> CheckResult:
    (result,) = check_rules(store, now=now)
    return result


def alerts(store: Store) -> list[AlertView]:
    with store.reading() as db:
        return service.list_alerts(db, actor=SYSTEM)


def messages(store: Store) -> list[dict[str, Any]]:
    with store.reading() as db:
        return list(db.scalars(sa.select(AlertDelivery.content).order_by(AlertDelivery.id)))


def an_analyst(store: Store) -> Actor:
    with store.writing() as db:
        return make_actor(db, Role.ANALYST)


def test_opens_once_and_resolves_by_itself(store: Store) -> None:
    make_rule(store, channels=Channels(emails=("ops@example.org",)))
    set_today(store, 10, 90)
    assert check(store).num_opened == 1
    assert check(store, NOW + MINUTE) == CheckResult("approval", num_firing=1)
    set_today(store, 11, 89)
    check(store, NOW + 2 * MINUTE)
    (alert,) = alerts(store)
    assert (alert.state, alert.value, alert.opened_at) == (AlertState.OPEN, 0.1, NOW)
    assert alert.said.startswith("Approval 10.0%")
    assert (alert.said_last or "").startswith("Approval 11.0%")
    set_today(store, 90, 10)
    assert check(store, NOW + 3 * MINUTE).num_resolved == 1
    (alert,) = alerts(store)
    assert (alert.state, alert.resolved_by) == (AlertState.RESOLVED, None)
    assert alert.resolved_at == alert.ended_at == NOW + 3 * MINUTE
    assert [one["event"] for one in messages(store)] == ["alert.opened", "alert.resolved"]
    set_today(store, 10, 90)
    assert check(store, NOW + 4 * MINUTE).num_opened == 1, "a new fall is a new alert"


@only_sqlite
def test_real_feedback_reaches_the_rule_through_the_rollups(store: Store) -> None:
    make_rule(store, params=ApprovalBelow(min_n=4))
    with store.writing() as db:
        for thumb in (1, -1, -1, -1):
            make_feedback(db, make_interaction(db).id, thumb=thumb)
        refresh_rollups(db)
    assert check(store, utcnow()).num_opened == 1
    assert alerts(store)[0].value == 0.25


@only_sqlite
def test_acknowledged_alert_still_resolves_by_itself(store: Store) -> None:
    make_rule(store)
    set_today(store, 10, 90)
    check(store)
    analyst = an_analyst(store)
    (alert,) = alerts(store)
    with store.writing() as db:
        service.acknowledge_alert(db, alert.id, actor=analyst)
    with store.writing() as db, pytest.raises(Conflict, match="faster"):
        service.acknowledge_alert(db, alert.id, actor=SYSTEM)
    (alert,) = alerts(store)
    assert (alert.state, alert.acknowledged_by) == (AlertState.ACKNOWLEDGED, analyst.name)
    assert check(store, NOW + MINUTE).num_opened == 0
    set_today(store, 90, 10)
    assert check(store, NOW + 2 * MINUTE).num_resolved == 1


def test_resolved_by_hand_stays_quiet_until_it_was_well_once(store: Store) -> None:
    make_rule(store, channels=Channels(webhooks=("https://example.org/hook",)))
    set_today(store, 10, 90)
    check(store)
    (alert,) = alerts(store)
    with store.writing() as db:
        service.resolve_alert(db, alert.id, actor=SYSTEM)
    with store.writing() as db, pytest.raises(Conflict, match="already"):
        service.resolve_alert(db, alert.id, actor=SYSTEM)
    assert check(store, NOW + MINUTE).num_opened == 0
    set_today(store, 90, 10)
    assert check(store, NOW + 2 * MINUTE).num_resolved == 0, "nobody is told a second time"
    assert alerts(store)[0].ended_at == NOW + 2 * MINUTE
    set_today(store, 10, 90)
    assert check(store, NOW + 3 * MINUTE).num_opened == 1
    assert [one["event"] for one in messages(store)] == ["alert.opened", "alert.opened"]


@only_sqlite
def test_several_slices_are_one_message_and_one_alert_each(store: Store) -> None:
    params = ApprovalBelow(split="action_type")
    make_rule(store, params=params, channels=Channels(emails=("a@b.example", "c@d.example")))
    with store.writing() as db:
        for number in range(25):
            add_day(db, TODAY, 5, 95, action_type=f"action {number}")
    assert check(store).num_opened == 25
    first, second = messages(store)
    assert first == second
    assert (first["num_slices"], len(first["slices"])) == (25, 20)


@only_sqlite
def test_rule_is_looked_at_once_a_minute_and_rows_once_an_hour(store: Store) -> None:
    make_rule(store)
    make_rule(store, "drift", params=Drift())
    assert len(check_rules(store, now=NOW)) == 2
    assert check_rules(store, now=NOW + MINUTE / 2) == []
    assert [one.rule for one in check_rules(store, now=NOW + MINUTE)] == ["approval"]
    assert len(check_rules(store, now=NOW + 60 * MINUTE)) == 2
    assert len(check_rules(store, now=NOW + 60.5 * MINUTE, only_due=False)) == 2


def test_two_workers_check_a_rule_once_and_open_one_alert(store: Store) -> None:
    for number in range(3):
        make_rule(store, f"rule {number}", channels=Channels(emails=("a@b.example",)))
    set_today(store, 10, 90)
    results: list[CheckResult] = []
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        results.extend(check_rules(store, now=NOW))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.rule for one in results) == ["rule 0", "rule 1", "rule 2"]
    assert len(alerts(store)) == 3
    assert len(messages(store)) == 3


@only_sqlite
def test_what_a_check_found_is_dropped_where_the_rule_changed_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.alerts import checks

    rule = make_rule(store)
    set_today(store, 10, 90)
    real = checks.watch

    def look_slowly(*args: Any) -> Any:
        found = real(*args)
        with store.writing() as db:
            service.set_rule(db, rule.id, actor=SYSTEM, params=ApprovalBelow(level=0.05))
        return found

    monkeypatch.setattr(checks, "watch", look_slowly)
    assert check(store).problem is not None
    assert alerts(store) == []


@only_sqlite
def test_switched_off_rule_is_not_looked_at_and_its_alert_is_resolved(store: Store) -> None:
    rule = make_rule(store)
    set_today(store, 10, 90)
    check(store)
    with store.writing() as db:
        service.set_rule(db, rule.id, actor=SYSTEM, is_enabled=False)
    assert check_rules(store, now=NOW + MINUTE) == []
    assert alerts(store)[0].state is AlertState.RESOLVED
    with store.writing() as db:
        service.set_rule(db, rule.id, actor=SYSTEM, is_enabled=True)
    assert check(store, NOW + 2 * MINUTE).num_opened == 1


@only_sqlite
def test_rule_that_cannot_be_read_stops_no_other(store: Store) -> None:
    make_rule(store, "broken")
    make_rule(store, "fine")
    set_today(store, 10, 90)
    with store.writing() as db:
        broken = sa.update(AlertRule).where(AlertRule.name == "broken")
        db.execute(broken.values(params={"level": "often"}))
    assert [one.rule for one in check_rules(store, now=NOW)] == ["fine"]


@only_sqlite
def test_deeds_of_people_are_in_the_audit_and_addresses_are_not(store: Store) -> None:
    analyst = an_analyst(store)
    with store.writing() as db:
        rule = service.create_rule(
            db, actor=analyst, name="mine", params=ApprovalBelow(),
            channels=Channels(webhooks=("https://example.org/secret",)),
        )  # fmt: skip
    set_today(store, 10, 90)
    check(store)
    with store.writing() as db:
        service.resolve_alert(db, alerts(store)[0].id, actor=analyst)
        service.delete_rule(db, rule.id, actor=analyst)
    with store.reading() as db:
        events = list(db.scalars(sa.select(AuditEvent).order_by(AuditEvent.at, AuditEvent.id)))
    assert [one.action for one in events] == [
        "alert_rule.create", "alert.resolve", "alert_rule.delete",
    ]  # fmt: skip
    assert {one.account_id for one in events} == {analyst.account_id}
    assert (events[0].details or {})["channels"] == {"webhook": 1}
    assert "secret" not in str([one.details for one in events])


@only_sqlite
def test_raters_neither_see_nor_make_rules_and_analysts_do(store: Store) -> None:
    rule = make_rule(store)
    with store.writing() as db:
        rater = make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            service.list_rules(db, actor=rater)
        with pytest.raises(Forbidden):
            service.create_rule(db, actor=rater, name="a", params=ApprovalBelow())
        with pytest.raises(Forbidden):
            service.set_rule(db, rule.id, actor=rater, is_enabled=False)
        analyst = make_actor(db, Role.ANALYST)
        service.create_rule(db, actor=analyst, name="a", params=ApprovalBelow())
        assert service.create_usual_rules(db, actor=analyst) == 8
        assert service.create_usual_rules(db, actor=analyst) == 0
        with pytest.raises(Conflict, match="already"):
            service.set_rule(db, rule.id, actor=analyst, name="a")


@only_sqlite
def test_too_little_data_leaves_an_alert_as_it_is(store: Store) -> None:
    params = ApprovalBelow(split="action_type")
    make_rule(store, params=params, channels=Channels(emails=("ops@example.org",)))
    with store.writing() as db:
        add_day(db, TODAY, 10, 90, action_type="refund")
    assert check(store).num_opened == 1
    for number, good in enumerate((0, 1), start=1):  # nothing at all, and too few
        with store.writing() as db:
            db.execute(sa.delete(FeedbackRollup))
            add_day(db, TODAY, good, 0, action_type="refund")
        assert check(store, NOW + number * MINUTE).num_resolved == 0
    assert alerts(store)[0].state is AlertState.OPEN
    assert len(messages(store)) == 1
    with store.writing() as db:
        add_day(db, TODAY, 99, 0, action_type="refund", source="more")
    assert check(store, NOW + 3 * MINUTE).num_resolved == 1


def test_absence_ends_only_what_goes_away() -> None:
    ended = {kind for kind in AlertKind if is_over(kind, None)}
    assert ended == {AlertKind.NEW_ACTION_TYPE, AlertKind.CANARY_DUE}


@only_sqlite
def test_rule_that_looks_at_something_else_ends_its_alerts(store: Store) -> None:
    rule = make_rule(store)
    set_today(store, 10, 90)
    check(store)
    with store.writing() as db:
        service.set_rule(db, rule.id, actor=SYSTEM, params=ApprovalBelow(level=0.7))
    assert alerts(store)[0].state is AlertState.OPEN
    with store.writing() as db:
        service.set_rule(db, rule.id, actor=SYSTEM, params=ApprovalBelow(split="model_name"))
    assert alerts(store)[0].state is AlertState.RESOLVED


@only_sqlite
def test_rule_that_breaks_stops_no_other_and_waits_for_its_next_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.alerts import checks

    make_rule(store, "a breaks", params=Drift())
    make_rule(store, "fine")
    set_today(store, 10, 90)
    real = checks.watch

    def look(db: Any, params: Any, moments: Any) -> Any:
        if isinstance(params, Drift):
            raise ZeroDivisionError
        return real(db, params, moments)

    monkeypatch.setattr(checks, "watch", look)
    broken, fine = check_rules(store, now=NOW)
    assert broken == CheckResult("a breaks", problem="It broke: see the log.")
    assert fine.num_opened == 1
    assert [one.rule for one in check_rules(store, now=NOW + MINUTE)] == ["fine"]


@only_sqlite
def test_rule_that_cannot_be_claimed_stops_no_other_and_is_tried_again(store: Store) -> None:
    make_rule(store, "a refused")
    make_rule(store, "fine")
    set_today(store, 10, 90)
    with store.writing() as db:
        db.execute(
            sa.text(
                "CREATE TRIGGER refuse BEFORE UPDATE ON alert_rules WHEN OLD.name = 'a refused' "
                "BEGIN SELECT RAISE(ABORT, 'no room left'); END"
            )
        )
    refused, fine = check_rules(store, now=NOW)
    assert refused == CheckResult("a refused", problem="It broke: see the log.")
    assert fine.num_opened == 1
    with store.writing() as db:
        db.execute(sa.text("DROP TRIGGER refuse"))
    assert check_rules(store, now=NOW)[0].rule == "a refused"


def test_rules_never_looked_at_come_first(store: Store) -> None:
    make_rule(store, "a")
    check(store)
    make_rule(store, "b")
    with store.reading() as db:
        assert [one.name for one in list_due(db, NOW + MINUTE)] == ["b", "a"]


@only_sqlite
def test_failed_run_stays_open_until_a_success_and_one_put_away_may_open_again(
    store: Store,
) -> None:
    def end_run(state: JobState, at: datetime) -> None:
        with store.writing() as db:
            db.add(
                Job(kind=JobKind.IMPORT, state=state, resource=Resource.CPU, params={},
                    created_at=at, finished_at=at)
            )  # fmt: skip

    make_rule(store, params=RunFailed())
    end_run(JobState.FAILED, NOW)
    assert check(store).num_opened == 1
    later = NOW + timedelta(days=30)
    assert check(store, later).num_resolved == 0
    with store.writing() as db:
        service.resolve_alert(db, alerts(store)[0].id, actor=SYSTEM)
    check(store, later + MINUTE)
    end_run(JobState.FAILED, later + MINUTE)
    assert check(store, later + 2 * MINUTE).num_opened == 1
    end_run(JobState.SUCCEEDED, later + 3 * MINUTE)
    assert check(store, later + 3 * MINUTE).num_resolved == 1
