"""Messages on their way: kept in the database, tried until they arrive or are given up.

A message is claimed for some minutes before it is sent, so that of several workers one sends it,
and one whose worker died is sent by another. It can then arrive twice: webhooks carry an id by
which a receiver drops the second.
"""

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.alerts.channels import EMAIL, Channels, count_targets, describe_target
from rlhf_core.alerts.mail import send_mail
from rlhf_core.alerts.messages import write_mail
from rlhf_core.alerts.webhook import send_webhook
from rlhf_core.clock import new_id, utcnow
from rlhf_core.config import Settings, get_settings
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AlertDelivery
from rlhf_core.store.upsert import changed_rows

BACKOFF = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=8),
)
"""Between the tries; after one more it is given up."""
MAX_ATTEMPTS = len(BACKOFF) + 1
HELD_FOR = timedelta(minutes=5)
"""Longer than any try takes: meanwhile nobody else sends it."""
KEPT_FOR = timedelta(days=30)
MAX_A_ROUND = 50
AT_ONCE = 8
MAX_ERROR_CHARS = 500


@dataclass(frozen=True)
class DeliveryView:
    """A message to one address. `is_given_up`: it did not arrive and is not tried again."""

    id: uuid.UUID
    target: str
    event: str
    rule: str
    num_attempts: int
    error: str | None
    created_at: datetime
    sent_at: datetime | None
    next_attempt_at: datetime | None

    @property
    def is_given_up(self) -> bool:
        """Whether nobody tries any more."""
        return self.sent_at is None and self.next_attempt_at is None


@dataclass(frozen=True)
class Sent:
    """What became of a test message; `error` is None where it arrived."""

    target: str
    error: str | None


def queue_messages(
    db: Session,
    targets: Sequence[tuple[str, str]],
    content: dict[str, Any],
    *,
    alert_id: uuid.UUID | None,
    now: datetime,
) -> None:
    """One message to each (channel, address), due now."""
    rows = [
        {
            "id": new_id(),
            "alert_id": alert_id,
            "channel": channel,
            "target": target,
            "content": content,
            "num_attempts": 0,
            "next_attempt_at": now,
            "created_at": now,
        }
        for channel, target in targets
    ]
    if rows:
        db.execute(sa.insert(AlertDelivery), rows)


def send_due(store: Store, *, now: datetime | None = None) -> int:
    """Send what is due, each in transactions of its own; return how many arrived.

    With `now`, the clock stands still: without, each is claimed at the moment it is sent.
    """
    settings = get_settings()
    clock = utcnow if now is None else lambda: now
    with store.reading() as db:
        due = db.execute(
            sa.select(AlertDelivery.id, AlertDelivery.num_attempts)
            .where(AlertDelivery.next_attempt_at <= clock())
            .order_by(AlertDelivery.next_attempt_at)
            .limit(MAX_A_ROUND)
        ).all()
    if not due:
        return 0
    # One that hangs until its time is up does not hold up all others.
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        sent = [
            pool.submit(_send_claimed, store, settings, row.id, row.num_attempts, clock)
            for row in due
        ]
    return sum(one.result() for one in sent)


def send_test(
    store: Store, channels: Channels, content: dict[str, Any], *, actor: Actor
) -> list[Sent]:
    """Send a message to each address now, once, and say what became of it.

    No transaction is open meanwhile: it may take a while.
    """
    require(actor, Permission.MANAGE_ALERTS)
    targets = channels.targets()
    if not targets:
        raise InvalidInput("Nobody is told: give an e-mail address or a webhook first.")
    settings = get_settings()
    results = []
    for channel, target in targets:
        error = _try(channel, target, content, str(new_id()), settings)
        results.append(Sent(describe_target(channel, target), error))
    with store.writing() as db:
        record_event(
            db, actor=actor, action="alert_rule.test", target_kind="alert_rule",
            target_id=content["rule"], details=dict(count_targets(targets)),
        )  # fmt: skip
    return results


def list_troubled(db: Session, *, actor: Actor, since: datetime) -> list[DeliveryView]:
    """Messages made since then that failed at least once and have not arrived, newest first."""
    require(actor, Permission.READ_ANALYTICS)
    rows = db.scalars(
        sa.select(AlertDelivery)
        .where(
            AlertDelivery.sent_at.is_(None),
            AlertDelivery.error.is_not(None),
            AlertDelivery.created_at >= since,
        )
        .order_by(AlertDelivery.created_at.desc())
        .limit(MAX_A_ROUND)
    )
    return [
        DeliveryView(
            id=row.id,
            target=describe_target(row.channel, row.target),
            event=str(row.content.get("event", "")),
            rule=str(row.content.get("rule", "")),
            num_attempts=row.num_attempts,
            error=row.error,
            created_at=row.created_at,
            sent_at=row.sent_at,
            next_attempt_at=row.next_attempt_at,
        )
        for row in rows
    ]


def _send_claimed(
    store: Store,
    settings: Settings,
    delivery_id: uuid.UUID,
    seen: int,
    clock: Callable[[], datetime],
) -> bool:
    now = clock()  # it may have waited for others of the round
    this = AlertDelivery.id == delivery_id
    is_due = sa.and_(this, AlertDelivery.num_attempts == seen, AlertDelivery.next_attempt_at <= now)
    if seen >= MAX_ATTEMPTS:  # its worker died in the last try
        with store.writing() as db:
            db.execute(sa.update(AlertDelivery).where(is_due).values(next_attempt_at=None))
        return False
    attempt = seen + 1
    with store.writing() as db:
        claimed = db.execute(
            sa.update(AlertDelivery)
            .where(is_due)
            .values(num_attempts=attempt, next_attempt_at=now + HELD_FOR)
        )
        if not changed_rows(claimed):
            return False
        columns = (AlertDelivery.channel, AlertDelivery.target, AlertDelivery.content)
        row = db.execute(sa.select(*columns).where(this)).one()
    error = _try(row.channel, row.target, row.content, str(delivery_id), settings)
    which = sa.and_(this, AlertDelivery.sent_at.is_(None))
    values: dict[str, Any] = {"error": None, "next_attempt_at": None, "sent_at": clock()}
    if error is not None:
        again_at = now + BACKOFF[seen] if seen < len(BACKOFF) else None
        values = {"error": error, "next_attempt_at": again_at}
        which = sa.and_(which, AlertDelivery.num_attempts == attempt)  # still ours
    with store.writing() as db:
        db.execute(sa.update(AlertDelivery).where(which).values(values))
    return error is None


def prune_deliveries(store: Store, *, now: datetime) -> int:
    """Delete what was sent or given up more than `KEPT_FOR` ago; return how many."""
    old = sa.func.coalesce(AlertDelivery.sent_at, AlertDelivery.created_at) < now - KEPT_FOR
    is_done = sa.and_(AlertDelivery.next_attempt_at.is_(None), old)
    with store.reading() as db:  # most rounds find none, and need not write
        if not db.scalar(sa.select(sa.exists().where(is_done))):
            return 0
    with store.writing() as db:
        return changed_rows(db.execute(sa.delete(AlertDelivery).where(is_done)))


def _try(
    channel: str, target: str, content: dict[str, Any], delivery: str, settings: Settings
) -> str | None:
    """Send it once; why it did not arrive, or None."""
    try:
        if channel == EMAIL:
            subject, text = write_mail(content)
            send_mail(target, subject, text, settings=settings)
        else:
            send_webhook(target, content, delivery=delivery, settings=settings)
    except (Unavailable, InvalidInput) as error:
        return _fit(str(error), target)
    return None


def _fit(said: str, target: str) -> str:
    """A sentence without what a webhook's address may keep secret."""
    path = urlsplit(target).path if "://" in target else ""
    return (said.replace(path, "/...") if len(path) > 1 else said)[:MAX_ERROR_CHARS]
