"""Look at the rules, open alerts once, and resolve by itself what is over.

A check claims its rule by moving `checked_at` from the value it saw: of two workers that ask at the
same time, one looks. What it found is kept only where nobody claimed or changed the rule since.
"""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.alerts.channels import parse_channels
from rlhf_core.alerts.deliveries import queue_messages
from rlhf_core.alerts.findings import Finding, is_over
from rlhf_core.alerts.messages import OPENED, RESOLVED, make_content
from rlhf_core.alerts.params import Params, parse_params
from rlhf_core.alerts.service import KINDS
from rlhf_core.alerts.watch import check_interval, watch
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import RlhfError
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Alert, AlertRule
from rlhf_core.store.upsert import changed_rows, insert_if_absent
from rlhf_core.vocabulary import AlertKind, AlertState

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """A rule to look at. `seen` is when it was looked at before."""

    rule_id: uuid.UUID
    name: str
    params: Params
    seen: datetime | None


@dataclass(frozen=True)
class CheckResult:
    """What came of looking at a rule; `problem` says why nothing could be found out."""

    rule: str
    num_firing: int = 0
    num_opened: int = 0
    num_resolved: int = 0
    problem: str | None = None


def check_rules(
    store: Store, *, now: datetime | None = None, only_due: bool = True
) -> list[CheckResult]:
    """Look at the rules whose time has come, or at all that are switched on.

    A rule that another process is looking at is left to it. `now` is the moment of the figures,
    which are those of the daily counts as they are: the caller makes them new before.
    """
    now = now or utcnow()
    with store.reading() as db:
        due = list_due(db, now, only_due=only_due)
    found = (_check(store, claim, now) for claim in due)
    return [result for result in found if result is not None]


def list_due(db: Session, now: datetime, *, only_due: bool = True) -> list[Claim]:
    """The rules to look at, the longest neglected first."""
    rows = db.execute(
        sa.select(AlertRule)
        .where(AlertRule.is_enabled, AlertRule.kind.in_(KINDS))
        .order_by(AlertRule.checked_at.asc().nulls_first(), AlertRule.name)
    ).scalars()
    due = []
    for row in rows:
        try:
            params = parse_params(AlertKind(row.kind), row.params)
        except RlhfError as error:  # one that a newer release wrote
            logger.warning("The rule %s cannot be read: %s", row.name, error)
            continue
        except Exception:  # what is stored may be anything; the others are looked at
            logger.exception("The rule %s cannot be read", row.name)
            continue
        wait = check_interval(params)
        if not only_due or row.checked_at is None or now - row.checked_at >= wait:
            due.append(Claim(row.id, row.name, params, row.checked_at))
    return due


def claim_rule(db: Session, claim: Claim, now: datetime) -> bool:
    """Whether this process is the one that looks at it now."""
    claimed = db.execute(
        sa.update(AlertRule)
        .where(
            AlertRule.id == claim.rule_id,
            AlertRule.is_enabled,
            AlertRule.checked_at.is_not_distinct_from(claim.seen),
        )
        .values(checked_at=now)
    )
    return changed_rows(claimed) == 1


def _check(store: Store, claim: Claim, now: datetime) -> CheckResult | None:
    """What came of a rule, None where another process looks at it."""
    try:
        with store.writing() as db:
            if not claim_rule(db, claim, now):
                return None
        with store.reading() as db:
            (findings,) = watch(db, claim.params, [now])
        with store.writing() as db:
            return apply_findings(db, claim, findings, now)
    except RlhfError as error:
        logger.warning("The rule %s was not looked at: %s", claim.name, error)
        return CheckResult(claim.name, problem=str(error))
    except Exception:  # a rule that breaks stops none of those behind it
        logger.exception("The rule %s broke", claim.name)
        return CheckResult(claim.name, problem="It broke: see the log.")


def apply_findings(
    db: Session, claim: Claim, findings: Sequence[Finding], now: datetime
) -> CheckResult:
    """Open, keep and resolve the alerts of a rule; queue the messages."""
    rule = db.execute(
        sa.select(AlertRule)
        .where(AlertRule.id == claim.rule_id, AlertRule.is_enabled, AlertRule.checked_at == now)
        .with_for_update()
    ).scalar_one_or_none()
    if rule is None:
        return CheckResult(claim.name, problem="Changed or looked at by another meanwhile.")
    firing = {one.slice_key: one for one in findings if one.is_firing}
    rows = db.scalars(sa.select(Alert).where(Alert.rule_id == rule.id, Alert.ended_at.is_(None)))
    known = {row.slice_key: row for row in rows}
    opened = [one for key, one in firing.items() if key not in known]
    ids = [alert_id for one in opened if (alert_id := _open(db, rule.id, one, now))]
    found_of = {one.slice_key: one for one in findings}
    kind = AlertKind(rule.kind)
    over: list[tuple[Alert, Finding]] = []
    for key, row in known.items():
        found = found_of.get(key)
        # A failed run that a person put away is forgotten with its days: the next one is news.
        is_put_away = kind is AlertKind.RUN_FAILED and row.state is AlertState.RESOLVED
        if is_over(kind, found) or (found is None and is_put_away):
            gone = Finding(key, False, None, "The rule no longer finds it")
            if _end(db, row, now):
                over.append((row, found or gone))
        elif found is not None:
            _keep(db, row, found)
    targets = parse_channels(rule.channels).targets()
    for event, told, alert_id in (
        (OPENED, opened, ids[0] if ids else None),
        (RESOLVED, [one for _, one in over], over[0][0].id if over else None),
    ):
        if alert_id is not None:
            content = make_content(event, rule=rule.name, kind=kind, findings=told, at=now)
            queue_messages(db, targets, content, alert_id=alert_id, now=now)
    return CheckResult(claim.name, len(firing), len(ids), len(over))


def _open(db: Session, rule_id: uuid.UUID, finding: Finding, now: datetime) -> uuid.UUID | None:
    alert_id = new_id()
    row: dict[str, Any] = {
        "id": alert_id,
        "rule_id": rule_id,
        "slice_key": finding.slice_key,
        "state": AlertState.OPEN,
        "value": finding.value,
        "details": {"said": finding.said, **finding.details},
        "opened_at": now,
    }
    return alert_id if insert_if_absent(db, Alert, [row]) else None


def _keep(db: Session, row: Alert, finding: Finding) -> None:
    details = row.details or {}
    if finding.said not in (details.get("said_last"), details.get("said")):
        details = details | {"said_last": finding.said}
        db.execute(sa.update(Alert).where(Alert.id == row.id).values(details=details))


def _end(db: Session, row: Alert, now: datetime) -> bool:
    """Note that it is over; whether this resolved it, too: a person may have done so before."""
    this = sa.and_(Alert.id == row.id, Alert.ended_at.is_(None))
    resolved = db.execute(
        sa.update(Alert)
        .where(this, Alert.state != AlertState.RESOLVED)
        .values(state=AlertState.RESOLVED, resolved_at=now, ended_at=now)
    )
    if changed_rows(resolved):
        return True
    db.execute(sa.update(Alert).where(this).values(ended_at=now))
    return False
