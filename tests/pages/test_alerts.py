"""The page of alerts: what an analyst sees, acknowledges, resolves, tries, adds and changes."""

import html
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from streamlit.testing.v1 import AppTest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.alerts import service
from rlhf_core.alerts.channels import Channels
from rlhf_core.alerts.checks import check_rules
from rlhf_core.alerts.params import AgreementBelow, ApprovalBelow
from rlhf_core.alerts.service import AlertView, RuleView
from rlhf_core.clock import utcnow
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.jobs.heartbeats import beat
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AlertDelivery, AlertRule, FeedbackRollup, InteractionRollup
from rlhf_core.vocabulary import AlertKind, AlertState, Resource, Role
from tests.core.alerts.counted import add_day
from tests.databases import only_sqlite

PAGE = SOURCE_ROOT / "pages" / "analyse" / "alerts.py"
pytestmark = only_sqlite


@pytest.fixture
def analyst(sign_in_as: Callable[[Role], Actor]) -> Actor:
    return sign_in_as(Role.ANALYST)


def page() -> AppTest:
    test = AppTest.from_file(PAGE, default_timeout=30).run()
    assert not test.exception
    return test


def texts(elements: Any) -> str:
    """What a person reads: character references resolved, joiners left out."""
    said = "\n".join(str(element.value) for element in elements)
    return html.unescape(said).replace("\u2060", "")


def rules(store: Store) -> list[RuleView]:
    with store.reading() as db:
        return service.list_rules(db, actor=SYSTEM)


def alerts(store: Store) -> list[AlertView]:
    with store.reading() as db:
        return service.list_alerts(db, actor=SYSTEM)


def make_alert(store: Store, *, action_type: str = "", **fields: Any) -> None:
    params = ApprovalBelow(split="action_type" if action_type else "")
    with store.writing() as db:
        service.create_rule(db, actor=SYSTEM, name="too low", params=params, **fields)
        for days in range(30):
            day = utcnow().date() - timedelta(days=days)
            good = 10 if days < 3 else 95
            add_day(db, day, good, 100 - good, action_type=action_type)
            db.add(
                InteractionRollup(
                    day=day, source="app", action_type=action_type, model_name="",
                    num_interactions=100, num_with_feedback=100,
                )
            )  # fmt: skip
    assert check_rules(store)[0].num_opened == 1


def test_rater_does_not_get_in(sign_in_as: Callable[[Role], Actor]) -> None:
    sign_in_as(Role.RATER)
    assert "may not read" in texts(page().error)


def test_empty_page_offers_the_usual_rules(analyst: Actor, store: Store) -> None:
    test = page()
    test.button(key="usual_rules").click().run()
    assert not test.exception
    assert len(rules(store)) == len(AlertKind)
    assert {rule.created_by for rule in rules(store)} == {analyst.name}
    assert "Approval under 80% over 7 days" in texts(test.markdown)
    assert "No alert is open." in texts(test.caption)
    assert "No worker is alive" in texts(test.warning)
    with store.writing() as db:
        beat(db, "host:cpu", pid=1, resources=(Resource.CPU,))
    test.run()
    assert "All is well" in texts(test.success)
    assert not test.warning


def test_alert_is_told_acknowledged_and_resolved(analyst: Actor, store: Store) -> None:
    make_alert(store, action_type="<b>refund</b> ![x](http://evil)")
    (alert,) = alerts(store)
    test = page()
    assert "<b>refund</b> ![x](http://evil)" in texts(test.markdown)
    assert not any("![x]" in str(one.value) for one in test.markdown), "it is no Markdown"
    test.button(key=f"acknowledge_{alert.id}").click().run()
    assert alerts(store)[0].acknowledged_by == analyst.name
    assert f"Acknowledged by {analyst.name}" in texts(test.caption)
    test.button(key=f"resolve_{alert.id}").click().run()
    assert not test.exception
    assert alerts(store)[0].state is AlertState.RESOLVED
    assert test.dataframe[0].value["By"].tolist() == [analyst.name]


def test_alert_that_somebody_else_resolved_meanwhile_is_said(analyst: Actor, store: Store) -> None:
    make_alert(store)
    test = page()
    with store.writing() as db:
        service.resolve_alert(db, alerts(store)[0].id, actor=SYSTEM)
    test.button(key=f"acknowledge_{alerts(store)[0].id}").click().run()
    assert "not open any more" in texts(test.toast)


def test_new_rule_is_tried_on_the_past_before_it_is_saved(analyst: Actor, store: Store) -> None:
    make_alert(store)
    test = page()
    test.session_state["add_rule_new0"] = True
    test.run()
    assert "It would have fired once in the last 90 days." in texts(test.markdown)
    test.number_input(key="new0_approval_below_level").set_value(5).run()
    assert "It would not have fired in the last 90 days." in texts(test.markdown)
    test.number_input(key="new0_approval_below_level").set_value(60)
    test.selectbox(key="new0_approval_below_split").set_value("model_name")
    test.text_input(key="new0_approval_below_name").set_value("mine")
    test.text_input(key="new0_approval_below_emails").set_value("no address").run()
    assert "is no e-mail address" in texts(test.caption)
    assert test.button(key="save_new").disabled
    test.text_input(key="new0_approval_below_emails").set_value("a@example.org").run()
    assert "RLHF_SMTP_HOST" in texts(test.caption)
    test.button(key="save_new").click().run()
    assert not test.exception
    made = next(rule for rule in rules(store) if rule.name == "mine")
    assert made.params == ApprovalBelow(level=0.6, split="model_name")
    assert made.channels == Channels(emails=("a@example.org",))


def test_form_of_every_kind_can_be_drawn_and_stored(analyst: Actor, store: Store) -> None:
    test = page()
    for number, kind in enumerate(AlertKind):
        test.session_state[f"add_rule_new{number}"] = True
        test.run()
        test.selectbox(key=f"new{number}_kind").set_value(kind).run()
        test.button(key="save_new").click().run()
        assert not test.exception
    made = rules(store)
    assert {rule.kind for rule in made} == set(AlertKind)
    assert all(rule.params == type(rule.params)() for rule in made)


def test_what_reads_rows_is_tried_only_when_asked(analyst: Actor, store: Store) -> None:
    with store.writing() as db:
        rule = service.create_rule(db, actor=SYSTEM, name="agree", params=AgreementBelow())
    test = page()
    test.button(key=f"change_{rule.id}").click().run()
    assert "Nothing can be said" not in texts(test.markdown)
    test.button(key="change_past").click().run()
    assert "Nothing can be said of the last 90 days" in texts(test.markdown)


def test_rule_is_switched_changed_and_removed(analyst: Actor, store: Store) -> None:
    make_alert(store)
    (rule,) = rules(store)
    test = page()
    test.toggle(key=f"on_{rule.id}").set_value(False).run()
    assert not rules(store)[0].is_enabled
    test.button(key=f"change_{rule.id}").click().run()
    test.text_input(key="change_approval_below_name").set_value("renamed").run()
    test.button(key="save_change").click().run()
    assert not test.exception
    assert (rules(store)[0].name, rules(store)[0].is_enabled) == ("renamed", False)
    test.button(key=f"remove_{rule.id}").click().run()
    assert rules(store) == []


def test_test_button_says_what_became_of_each_message(analyst: Actor, store: Store) -> None:
    channels = Channels(emails=("a@example.org",), webhooks=("https://example.org/secret",))
    make_alert(store, channels=channels)
    (rule,) = rules(store)
    test = page()
    assert "Tells a@example.org, webhook example.org" in texts(test.caption)
    test.button(key=f"test_{rule.id}").click().run()
    said = texts(test.toast)
    assert "E-mail is not set up" in said
    assert "RLHF_WEBHOOK_SECRET is not set" in said


def test_messages_that_do_not_arrive_are_on_the_page(analyst: Actor, store: Store) -> None:
    make_alert(store, channels=Channels(webhooks=("https://example.org/secret",)))
    with store.writing() as db:
        db.execute(sa.update(AlertDelivery).values(error="down", num_attempts=2))
    test = page()
    assert "too low to webhook example.org, try 2" in texts(test.caption)
    assert "secret" not in texts(test.caption)


def test_alert_of_a_rule_without_counts_any_more_still_shows(analyst: Actor, store: Store) -> None:
    make_alert(store)
    with store.writing() as db:
        db.execute(sa.delete(FeedbackRollup))
    assert "too low" in texts(page().markdown)


def test_rule_that_cannot_be_read_is_said_and_can_be_removed(analyst: Actor, store: Store) -> None:
    make_alert(store)
    with store.writing() as db:
        for name, kind, params in (
            ("<b>odd</b>", "approval_below", {"level": "often"}),
            ("listed", "approval_below", ["no", "numbers"]),
            ("newer", "kind_of_tomorrow", {}),
        ):
            db.add(AlertRule(name=name, kind=kind, params=params))
    test = page()
    said = texts(test.caption)
    assert "too low" in texts(test.markdown)
    assert "<b>odd</b>" in texts(test.markdown)
    assert "Kind approval_below: level is 'often'" in said
    assert "Kind kind_of_tomorrow" in said
    with store.reading() as db:
        unreadable = service.list_unreadable_rules(db, actor=SYSTEM)
    assert len(unreadable) == 3
    for one in unreadable:
        test.button(key=f"remove_{one.id}").click().run()
        assert not test.exception
    with store.reading() as db:
        assert service.list_unreadable_rules(db, actor=SYSTEM) == []
    assert [one.name for one in rules(store)] == ["too low"]
