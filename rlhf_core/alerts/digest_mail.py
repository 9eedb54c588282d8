"""The weekly report by e-mail: to whom, at which hour of Monday, and once however many workers."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import SYSTEM, Actor, Permission, require
from rlhf_core.alerts.channels import EMAIL, Channels
from rlhf_core.alerts.deliveries import queue_messages
from rlhf_core.alerts.digest import Digest, build_digest, last_monday, monday_of
from rlhf_core.alerts.findings import NOT_GIVEN
from rlhf_core.alerts.messages import DIGEST
from rlhf_core.analytics.filters import start_of_day
from rlhf_core.analytics.key_figures import KeyFigures
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import StoreFact
from rlhf_core.store.upsert import changed_rows, insert_if_absent

FACT = "digest"
USUAL_HOUR = 7


@dataclass(frozen=True)
class DigestPlan:
    """Who gets the report, at which `hour` of Monday, UTC.

    `sent_for`: the Monday of the week that was reported last, or that was the last one over when
    the plan was switched on.
    """

    emails: tuple[str, ...] = ()
    is_enabled: bool = False
    hour: int = USUAL_HOUR
    sent_for: date | None = None

    def next_at(self, now: datetime) -> datetime | None:
        """When the next one goes out; a moment that is past means: at the next look."""
        if not self.is_enabled or not self.emails:
            return None
        week = (self.sent_for or last_monday(now) - timedelta(days=7)) + timedelta(days=14)
        return max(
            start_of_day(week) + timedelta(hours=self.hour),
            start_of_day(monday_of(now.date())) + timedelta(hours=self.hour),
        )


def get_plan(db: Session, *, actor: Actor) -> DigestPlan:
    """Who gets the report; nobody while nobody was named."""
    require(actor, Permission.READ_ANALYTICS)
    return _parse(_read(db))


def set_plan(
    db: Session,
    *,
    actor: Actor,
    emails: tuple[str, ...],
    is_enabled: bool,
    hour: int = USUAL_HOUR,
    now: datetime | None = None,
) -> DigestPlan:
    """Name who gets it. The first goes out after the week that is going on."""
    require(actor, Permission.MANAGE_ALERTS)
    Channels(emails=emails)  # checks the addresses
    if not 0 <= hour <= 23:
        raise InvalidInput(f"hour {hour}: choose 0 to 23.", field="hour")
    if is_enabled and not emails:
        raise InvalidInput("Nobody gets it: give an e-mail address first.", field="emails")
    old = get_plan(db, actor=actor)
    begins = old.sent_for if old.is_enabled else last_monday(now)
    plan = DigestPlan(emails, is_enabled, hour, begins)
    row = {"name": FACT, "value": _dump(plan)}
    if not insert_if_absent(db, StoreFact, [row]):
        db.execute(sa.update(StoreFact).where(StoreFact.name == FACT).values(value=row["value"]))
    record_event(
        db, actor=actor, action="digest.set", target_kind="digest", target_id=FACT,
        details={"num_emails": len(emails), "is_enabled": is_enabled, "hour": hour},
    )  # fmt: skip
    return plan


def queue_due_digest(store: Store, *, now: datetime | None = None) -> bool:
    """Queue the report of the last week where it is due and not sent; whether this one did.

    Weeks that were missed are not made up for. Nothing is due while there is no mail server.
    """
    now = now or utcnow()
    settings = get_settings()
    if not (settings.smtp_host and settings.smtp_from):
        return False
    with store.reading() as db:
        seen = _read(db)
        plan = _parse(seen)
        at = plan.next_at(now)
        if at is None or at > now:
            return False
        digest = build_digest(db, actor=SYSTEM, monday=last_monday(now), now=now)
    subject, text = write_digest(digest)
    sent = replace(plan, sent_for=digest.monday)
    with store.writing() as db:
        claimed = db.execute(
            sa.update(StoreFact)
            .where(StoreFact.name == FACT, StoreFact.value == seen)
            .values(value=_dump(sent))
        )
        if not changed_rows(claimed):
            return False
        content = {"event": DIGEST, "subject": subject, "text": text}
        targets = [(EMAIL, address) for address in plan.emails]
        queue_messages(db, targets, content, alert_id=None, now=now)
    return True


def write_digest(digest: Digest) -> tuple[str, str]:
    """(subject, text) of the report. No prompt and no answer goes by e-mail."""
    now, before = digest.overview.now, digest.overview.before
    lines = [digest.title, "", *_write_figures(now, before or KeyFigures())]
    if digest.worst:
        lines += ["", "Action types with the lowest approval"]
        for one in digest.worst:
            share = one.approval.value if one.approval else 0.0
            num = one.num_good + one.num_bad
            lines.append(f"- {one.action_type or NOT_GIVEN}: {share:.0%} of {num:,}")
    if digest.failures:
        lines += ["", "Answers called bad again and again (their texts: Digest in the dashboard)"]
        lines += [
            f"- {one.action_type or NOT_GIVEN}: {one.num_bad:,} times" for one in digest.failures
        ]
    lines += ["", f"Alerts: {len(digest.alerts)} opened, {digest.num_unresolved} unresolved now"]
    lines += [
        f"- {one.rule}{f' ({one.slice_key})' if one.slice_key else ''}: {one.said}"
        for one in digest.alerts
    ]
    if digest.releases or digest.versions:
        lines += ["", "Versions"]
        lines += [f"- {mark.at:%a %H:%M} {mark.text}" for mark in digest.releases]
        if digest.versions:
            lines.append(f"- registered: {', '.join(digest.versions)}")
    lines += ["", "The report with its charts: Digest in the dashboard.", ""]
    return f"Weekly report: {digest.title}", "\n".join(lines)


def _write_figures(now: KeyFigures, before: KeyFigures) -> list[str]:
    rows = [
        ("Approval", _percent(now.approval), _percent(before.approval)),
        ("Mean rating", _number(now.mean_rating), _number(before.mean_rating)),
        ("Satisfaction of users", _percent(now.satisfaction), _percent(before.satisfaction)),
        ("Feedback", f"{now.num_feedback:,}", f"{before.num_feedback:,}"),
        ("Interactions with feedback", _percent(now.coverage), _percent(before.coverage)),
        ("Raters active", f"{now.num_raters:,}", f"{before.num_raters:,}"),
    ]
    return [f"{name}: {value} (week before: {old})" for name, value, old in rows]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{share:.1%}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def _read(db: Session) -> str | None:
    return db.scalar(sa.select(StoreFact.value).where(StoreFact.name == FACT))


def _parse(text: str | None) -> DigestPlan:
    if text is None:
        return DigestPlan()
    plain: dict[str, Any] = json.loads(text)
    sent_for = plain.get("sent_for")
    return DigestPlan(
        emails=tuple(plain["emails"]),
        is_enabled=bool(plain["is_enabled"]),
        hour=int(plain["hour"]),
        sent_for=date.fromisoformat(sent_for) if sent_for else None,
    )


def _dump(plan: DigestPlan) -> str:
    sent_for = plan.sent_for.isoformat() if plan.sent_for else None
    return json.dumps(asdict(plan) | {"sent_for": sent_for}, sort_keys=True)
