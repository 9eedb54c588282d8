"""A worker's round and the command line: alerts open and resolve, messages and reports go out."""

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.alerts import service
from rlhf_core.alerts.channels import Channels
from rlhf_core.alerts.digest import last_monday
from rlhf_core.alerts.digest_mail import set_plan
from rlhf_core.alerts.params import ApprovalBelow
from rlhf_core.cli.main import main
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.jobs import schedules
from rlhf_core.jobs.upkeep import DUTIES
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AlertRule
from rlhf_core.vocabulary import AlertState
from tests.builders import make_feedback, make_interaction
from tests.core.alerts.listeners import Hook, MailServer, listening
from tests.databases import only_sqlite


def add_bad(store: Store, number: int) -> None:
    with store.writing() as db:
        for _ in range(number):
            make_feedback(db, make_interaction(db).id, rating=1)


def make_rule(store: Store, **fields: Any) -> None:
    with store.writing() as db:
        params = ApprovalBelow(min_n=5)
        service.create_rule(db, actor=SYSTEM, name="too low", params=params, **fields)


def states(store: Store) -> list[AlertState]:
    with store.reading() as db:
        return [one.state for one in service.list_alerts(db, actor=SYSTEM)]


def test_a_round_counts_looks_and_sends(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(Hook()) as hook, listening(MailServer()) as mail:
        for name, value in {
            "WEBHOOK_SECRET": "key", "WEBHOOK_ALLOW_PRIVATE": "1", "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(mail.port), "SMTP_SECURITY": "none", "SMTP_FROM": "a@b.example",
        }.items():  # fmt: skip
            monkeypatch.setenv(f"RLHF_{name}", value)
        get_settings.cache_clear()
        make_rule(store, channels=Channels(webhooks=(hook.url,)))
        add_bad(store, 6)
        with store.writing() as db:
            set_plan(
                db, actor=SYSTEM, emails=("c@d.example",), is_enabled=True, hour=0,
                now=utcnow() - timedelta(days=7),
            )  # fmt: skip
        for _ in range(2):
            for duty in DUTIES:
                duty(store)
        assert states(store) == [AlertState.OPEN]
        ((_, _, body),) = hook.got
        assert json.loads(body)["event"] == "alert.opened"
        ((address, text),) = mail.messages
    assert address == "c@d.example"
    assert f"{last_monday():%-d}" in text


@only_sqlite
def test_command_looks_at_once_and_lists(store: Store) -> None:
    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(main, ["alerts", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "No rule is switched on" in run("check")
    assert "No alert is open" in run("list")
    make_rule(store)
    add_bad(store, 6)
    assert "too low: 1 firing, 1 opened" in run("check")
    assert "too low: 1 firing\n" in run("check"), "it is looked at again without waiting"
    assert "open          too low  Approval 0.0% of 6" in run("list")
    assert json.loads(run("list", "--json"))[0]["kind"] == "approval_below"
    with store.writing() as db:
        (alert,) = service.list_alerts(db, actor=SYSTEM)
        service.resolve_alert(db, alert.id, actor=SYSTEM)
    assert "No alert is open" in run("list")
    assert "resolved" in run("list", "--all")


@only_sqlite
def test_command_fails_where_a_rule_could_not_be_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.alerts import checks
    from rlhf_core.errors import Unavailable

    def fail(*_: Any) -> Any:
        raise Unavailable("The disk is gone.")

    make_rule(store)
    monkeypatch.setattr(checks, "watch", fail)
    done = CliRunner().invoke(main, ["alerts", "check"])
    assert done.exit_code == 1
    assert "too low: The disk is gone." in done.stdout


@only_sqlite
def test_drift_rule_is_of_the_kind_that_starts_a_retraining(store: Store) -> None:
    with store.writing() as db:
        service.create_usual_rules(db, actor=SYSTEM)
        kinds = set(db.scalars(sa.select(AlertRule.kind)))
    assert schedules.DRIFT_RULE in kinds
