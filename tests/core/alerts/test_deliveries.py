"""Messages on their way: sent once, tried again with patience, given up in the end."""

import email
import email.policy
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.alerts.channels import Channels
from rlhf_core.alerts.deliveries import (
    BACKOFF,
    HELD_FOR,
    MAX_ATTEMPTS,
    DeliveryView,
    list_troubled,
    prune_deliveries,
    queue_messages,
    send_due,
    send_test,
)
from rlhf_core.alerts.findings import Finding
from rlhf_core.alerts.messages import OPENED, make_content, make_test_content
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AlertDelivery, AuditEvent
from rlhf_core.vocabulary import AlertKind, Role
from tests.builders import make_actor
from tests.core.alerts.counted import NOW
from tests.core.alerts.listeners import Hook, MailServer, listening
from tests.databases import only_sqlite

FINDING = Finding("refund\r\nBcc: x@y.example", True, 0.4, "Approval 40.0% of 100")
CONTENT = make_content(
    OPENED, rule="Refunds\nSubject: no", kind=AlertKind.APPROVAL_BELOW, findings=[FINDING], at=NOW
)


@pytest.fixture(autouse=True)
def _may_reach_this_machine(
    settings_for_test: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("RLHF_WEBHOOK_SECRET", "key")
    monkeypatch.setenv("RLHF_WEBHOOK_ALLOW_PRIVATE", "true")
    monkeypatch.setenv("RLHF_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("RLHF_SMTP_FROM", "rlhf@example.org")
    monkeypatch.setenv("RLHF_SMTP_SECURITY", "none")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def queue(store: Store, *targets: tuple[str, str]) -> None:
    with store.writing() as db:
        queue_messages(db, targets, CONTENT, alert_id=None, now=NOW)


def troubled(store: Store) -> list[DeliveryView]:
    with store.reading() as db:
        return list_troubled(db, actor=SYSTEM, since=NOW)


def test_webhook_is_sent_once_by_several_workers(store: Store) -> None:
    with listening(Hook()) as hook:
        queue(store, *[("webhook", hook.url)] * 4)
        barrier = threading.Barrier(3)

        def work() -> None:
            barrier.wait()
            send_due(store, now=NOW)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert send_due(store, now=NOW + timedelta(days=1)) == 0
    assert len(hook.got) == 4
    assert len({headers["x-rlhf-delivery"] for _, headers, _ in hook.got}) == 4
    assert troubled(store) == []


def test_failure_is_tried_again_with_the_same_id_and_then_arrives(store: Store) -> None:
    with listening(Hook(500, 503, 200)) as hook:
        queue(store, ("webhook", hook.url))
        assert send_due(store, now=NOW) == 0
        (view,) = troubled(store)
        assert (view.num_attempts, view.is_given_up) == (1, False)
        assert view.error == "127.0.0.1 answered 500."
        assert view.next_attempt_at == NOW + BACKOFF[0]
        assert send_due(store, now=NOW + BACKOFF[0] / 2) == 0
        assert len(hook.got) == 1, "not before its time"
        assert send_due(store, now=NOW + BACKOFF[0]) == 0
        assert send_due(store, now=NOW + BACKOFF[0] + BACKOFF[1]) == 1
    assert len({headers["x-rlhf-delivery"] for _, headers, _ in hook.got}) == 1
    assert troubled(store) == []


@only_sqlite
def test_it_is_given_up_after_the_last_try(store: Store) -> None:
    now = NOW
    with listening(Hook(500)) as hook:
        queue(store, ("webhook", hook.url))
        for wait in (*BACKOFF, timedelta(0)):
            send_due(store, now=now)
            now += wait
        assert len(hook.got) == MAX_ATTEMPTS
        assert troubled(store)[0].is_given_up
        send_due(store, now=now + timedelta(days=30))
        assert len(hook.got) == MAX_ATTEMPTS


@only_sqlite
def test_message_of_a_worker_that_died_is_sent_by_another_and_not_for_ever(store: Store) -> None:
    with listening(Hook()) as hook:
        queue(store, ("webhook", hook.url), ("webhook", hook.url))
        with store.writing() as db:
            first, second = db.scalars(sa.select(AlertDelivery.id))
            claimed = sa.update(AlertDelivery).where(AlertDelivery.id == first)
            db.execute(claimed.values(num_attempts=1, next_attempt_at=NOW + BACKOFF[0]))
            last = sa.update(AlertDelivery).where(AlertDelivery.id == second)
            db.execute(last.values(num_attempts=MAX_ATTEMPTS, error="died"))
        assert send_due(store, now=NOW) == 0
        assert troubled(store)[0].is_given_up
        assert send_due(store, now=NOW + BACKOFF[0]) == 1
    assert len(hook.got) == 1


@only_sqlite
def test_mail_is_plain_and_its_headers_cannot_be_forged(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(MailServer()) as server:
        monkeypatch.setenv("RLHF_SMTP_PORT", str(server.port))
        get_settings.cache_clear()
        queue(store, ("email", "ops@example.org"))
        assert send_due(store, now=NOW) == 1
        server.refuses = True
        queue(store, ("email", "nobody@example.org"))
        assert send_due(store, now=NOW) == 0
    ((address, raw),) = server.messages
    message = email.message_from_string(raw, policy=email.policy.default)
    assert (address, message["To"]) == ("ops@example.org", "ops@example.org")
    assert message["Subject"] == "Alert: Refunds Subject: no (refund Bcc: x@y.example)"
    assert message["Bcc"] is None
    assert message.get_content_type() == "text/plain"
    assert "Approval 40.0% of 100." in message.get_content()
    assert "no such person" in (troubled(store)[0].error or "")


@only_sqlite
def test_starttls_is_asked_for_and_nothing_is_sent_in_the_clear_without(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(MailServer()) as server:
        monkeypatch.setenv("RLHF_SMTP_PORT", str(server.port))
        monkeypatch.setenv("RLHF_SMTP_SECURITY", "starttls")
        get_settings.cache_clear()
        queue(store, ("email", "ops@example.org"))
        assert send_due(store, now=NOW) == 0
    assert server.messages == []
    assert "STARTTLS" in (troubled(store)[0].error or "")


@only_sqlite
def test_error_does_not_tell_the_secret_path_of_a_webhook(store: Store) -> None:
    queue(store, ("webhook", "ftp://a.example/secret"))
    send_due(store, now=NOW)
    (view,) = troubled(store)
    assert "secret" not in f"{view.error} {view.target}"


@only_sqlite
def test_test_message_goes_out_at_once_and_is_in_the_audit(store: Store) -> None:
    content = make_test_content(rule="mine", kind=AlertKind.DRIFT, at=NOW)
    with listening(Hook()) as hook:
        channels = Channels(webhooks=(hook.url, "http://127.0.0.1:1/"))
        with store.writing() as db:
            rater, analyst = make_actor(db), make_actor(db, Role.ANALYST)
        fine, refused = send_test(store, channels, content, actor=analyst)
        with pytest.raises(Forbidden):
            send_test(store, channels, content, actor=rater)
        with pytest.raises(InvalidInput, match="Nobody is told"):
            send_test(store, Channels(), content, actor=analyst)
    assert fine.error is None
    assert "refused" in (refused.error or "")
    assert len(hook.got) == 1
    with store.reading() as db:
        (event,) = db.scalars(sa.select(AuditEvent))
    assert (event.action, event.details) == ("alert_rule.test", {"webhook": 2})


@only_sqlite
def test_message_is_held_while_it_is_sent_and_one_that_arrived_late_is_sent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.alerts import deliveries

    tries: list[int] = []

    def send_slowly(*_: object) -> str | None:
        tries.append(len(tries))
        if len(tries) == 1:  # so slow that another worker tries too, in vain
            assert send_due(store, now=NOW + HELD_FOR - timedelta(seconds=1)) == 0
            assert len(tries) == 1
            assert send_due(store, now=NOW + HELD_FOR) == 0
            return None
        return "late"

    monkeypatch.setattr(deliveries, "_try", send_slowly)
    queue(store, ("email", "ops@example.org"))
    assert send_due(store, now=NOW) == 1
    assert len(tries) == 2
    assert troubled(store) == [], "it arrived, whatever the other try said"
    assert send_due(store, now=NOW + timedelta(days=1)) == 0
    assert len(tries) == 2


@only_sqlite
def test_claim_begins_when_it_is_sent_and_not_when_the_round_began(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rlhf_core.alerts import deliveries

    moments = iter([NOW, NOW + timedelta(minutes=4), NOW + timedelta(minutes=5)])
    monkeypatch.setattr(deliveries, "utcnow", lambda: next(moments))
    held: list[datetime | None] = []

    def send(*_: object) -> str | None:
        with store.reading() as db:
            held.append(db.scalar(sa.select(AlertDelivery.next_attempt_at)))
        return None

    monkeypatch.setattr(deliveries, "_try", send)
    queue(store, ("email", "ops@example.org"))
    assert send_due(store) == 1
    assert held == [NOW + timedelta(minutes=4) + HELD_FOR]


@only_sqlite
def test_old_messages_are_deleted_and_those_under_way_stay(store: Store) -> None:
    queue(
        store, *[("email", f"{name}@example.org") for name in ("sent", "given-up", "late", "due")]
    )
    with store.writing() as db:
        for name, values in {
            "sent": {"sent_at": NOW, "next_attempt_at": None},
            "given-up": {"error": "down", "next_attempt_at": None},
            "late": {"sent_at": NOW + timedelta(days=2), "next_attempt_at": None},
        }.items():
            this = AlertDelivery.target == f"{name}@example.org"
            db.execute(sa.update(AlertDelivery).where(this).values(values))
    assert prune_deliveries(store, now=NOW + timedelta(days=30)) == 0
    assert prune_deliveries(store, now=NOW + timedelta(days=31)) == 2
    with store.reading() as db:
        left = set(db.scalars(sa.select(AlertDelivery.target)))
    assert left == {"late@example.org", "due@example.org"}
