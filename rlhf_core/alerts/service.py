"""Rules and alerts: what people make, change, acknowledge and resolve."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.alerts.channels import Channels, count_targets, parse_channels
from rlhf_core.alerts.messages import KIND_NAMES
from rlhf_core.alerts.params import (
    PARAMS,
    NegativesSpike,
    Params,
    kind_of,
    params_to_json,
    parse_params,
)
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound, RlhfError
from rlhf_core.store.tables import Account, Alert, AlertRule
from rlhf_core.store.upsert import changed_rows, insert_if_absent
from rlhf_core.vocabulary import AlertKind, AlertState

MAX_NAME_CHARS = 200
KINDS = [kind.value for kind in AlertKind]
GONE = "This rule is not there any more; load the page again."


@dataclass(frozen=True)
class RuleView:
    """A rule. `num_unresolved` counts its alerts that nobody resolved."""

    id: uuid.UUID
    name: str
    kind: AlertKind
    params: Params
    channels: Channels
    is_enabled: bool
    created_by: str
    checked_at: datetime | None
    num_unresolved: int


@dataclass(frozen=True)
class UnreadableRule:
    """A rule that this release cannot read: another one wrote it. Nobody looks at it."""

    id: uuid.UUID
    name: str
    kind: str
    problem: str


@dataclass(frozen=True)
class AlertView:
    """An alert. `said` is what was found when it opened, `said_last` at the last check.

    `resolved_by` is None where it resolved by itself.
    """

    id: uuid.UUID
    rule_id: uuid.UUID
    rule: str
    kind: AlertKind
    slice_key: str
    state: AlertState
    value: float | None
    said: str
    said_last: str | None
    opened_at: datetime
    acknowledged_by: str | None
    acknowledged_at: datetime | None
    resolved_by: str | None
    resolved_at: datetime | None
    ended_at: datetime | None


def create_rule(
    db: Session,
    *,
    actor: Actor,
    name: str,
    params: Params,
    channels: Channels | None = None,
    is_enabled: bool = True,
) -> RuleView:
    """Make a rule. Conflict where the name is taken."""
    require(actor, Permission.MANAGE_ALERTS)
    rule_id = new_id()
    row = {
        "id": rule_id,
        "name": _fit_name(name),
        "kind": kind_of(params).value,
        "params": params_to_json(params),
        "channels": (channels or Channels()).to_json(),
        "is_enabled": is_enabled,
        "created_by": actor.account_id,
        "created_at": utcnow(),
    }
    if not insert_if_absent(db, AlertRule, [row]):
        raise Conflict(f"There is a rule {row['name']!r} already: choose another name.")
    _record(db, actor, "alert_rule.create", rule_id, _describe(row, channels))
    return get_rule(db, rule_id, actor=actor)


def create_usual_rules(db: Session, *, actor: Actor) -> int:
    """One rule of each kind with the usual numbers, where its name is not taken; how many."""
    require(actor, Permission.MANAGE_ALERTS)
    known = set(db.scalars(sa.select(AlertRule.name)))
    made = 0
    for kind, params in PARAMS.items():
        if KIND_NAMES[kind] not in known:
            usual = params()
            if isinstance(usual, NegativesSpike):
                usual = NegativesSpike(split="action_type")
            create_rule(db, actor=actor, name=KIND_NAMES[kind], params=usual)
            made += 1
    return made


def set_rule(
    db: Session,
    rule_id: uuid.UUID,
    *,
    actor: Actor,
    name: str | None = None,
    params: Params | None = None,
    channels: Channels | None = None,
    is_enabled: bool | None = None,
) -> RuleView:
    """Change what is given. The kind stays.

    Switched off, or where it looks at something else, its alerts are resolved.
    """
    require(actor, Permission.MANAGE_ALERTS)
    old = get_rule(db, rule_id, actor=actor)
    values: dict[str, Any] = {"checked_at": None}  # looked at afresh
    if name is not None and name.strip() != old.name:
        values["name"] = _fit_name(name)
        if db.scalar(sa.select(AlertRule.id).where(AlertRule.name == values["name"])):
            raise Conflict(f"There is a rule {values['name']!r} already: choose another name.")
    if params is not None:
        if kind_of(params) is not old.kind:
            raise InvalidInput(f"The rule watches {old.kind.value}: make another one for the rest.")
        values["params"] = params_to_json(params)
    if channels is not None:
        values["channels"] = channels.to_json()
    if is_enabled is not None:
        values["is_enabled"] = is_enabled
    db.execute(sa.update(AlertRule).where(AlertRule.id == rule_id).values(values))
    looks_elsewhere = params is not None and _subject_of(params) != _subject_of(old.params)
    if is_enabled is False or looks_elsewhere:
        _resolve(db, actor, Alert.rule_id == rule_id, is_over=True)
    del values["checked_at"]
    _record(db, actor, "alert_rule.set", rule_id, _describe({"name": old.name} | values, channels))
    return get_rule(db, rule_id, actor=actor)


def delete_rule(db: Session, rule_id: uuid.UUID, *, actor: Actor) -> None:
    """Remove a rule with its alerts, also one that cannot be read."""
    require(actor, Permission.MANAGE_ALERTS)
    name = db.scalar(sa.select(AlertRule.name).where(AlertRule.id == rule_id))
    if name is None:
        raise NotFound(GONE)
    db.execute(sa.delete(AlertRule).where(AlertRule.id == rule_id))
    _record(db, actor, "alert_rule.delete", rule_id, {"name": name})


def list_rules(db: Session, *, actor: Actor) -> list[RuleView]:
    """All rules that can be read, by name."""
    require(actor, Permission.READ_ANALYTICS)
    return [one for one in _load_rules(db) if isinstance(one, RuleView)]


def list_unreadable_rules(db: Session, *, actor: Actor) -> list[UnreadableRule]:
    """The others, by name."""
    require(actor, Permission.READ_ANALYTICS)
    return [one for one in _load_rules(db) if isinstance(one, UnreadableRule)]


def get_rule(db: Session, rule_id: uuid.UUID, *, actor: Actor) -> RuleView:
    """The rule; NotFound where it was removed, InvalidInput where it cannot be read."""
    require(actor, Permission.READ_ANALYTICS)
    found = _load_rules(db, AlertRule.id == rule_id)
    if not found:
        raise NotFound(GONE)
    if isinstance(found[0], UnreadableRule):
        raise InvalidInput(f"The rule cannot be read: {found[0].problem}")
    return found[0]


def list_alerts(
    db: Session,
    *,
    actor: Actor,
    states: Sequence[AlertState] = tuple(AlertState),
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 200,
) -> list[AlertView]:
    """Alerts in these states, opened from `since` (in) to `until` (out), newest first."""
    require(actor, Permission.READ_ANALYTICS)
    by, also_by = aliased(Account), aliased(Account)
    query = (
        sa.select(Alert, AlertRule.name, AlertRule.kind, by.name, also_by.name)
        .join(AlertRule, AlertRule.id == Alert.rule_id)
        .outerjoin(by, by.id == Alert.acknowledged_by)
        .outerjoin(also_by, also_by.id == Alert.resolved_by)
        .where(Alert.state.in_(states), AlertRule.kind.in_(KINDS))
        .order_by(Alert.opened_at.desc(), Alert.id.desc())
        .limit(limit)
    )
    if since is not None:
        query = query.where(Alert.opened_at >= since)
    if until is not None:
        query = query.where(Alert.opened_at < until)
    return [
        AlertView(
            id=row.id,
            rule_id=row.rule_id,
            rule=rule,
            kind=AlertKind(kind),
            slice_key=row.slice_key,
            state=row.state,
            value=row.value,
            said=str((row.details or {}).get("said", "")),
            said_last=(row.details or {}).get("said_last"),
            opened_at=row.opened_at,
            acknowledged_by=acknowledged_by,
            acknowledged_at=row.acknowledged_at,
            resolved_by=resolved_by,
            resolved_at=row.resolved_at,
            ended_at=row.ended_at,
        )
        for row, rule, kind, acknowledged_by, resolved_by in db.execute(query)
    ]


def acknowledge_alert(db: Session, alert_id: uuid.UUID, *, actor: Actor) -> None:
    """Say that somebody looks after it. Conflict where it is not open any more."""
    require(actor, Permission.MANAGE_ALERTS)
    changed = db.execute(
        sa.update(Alert)
        .where(Alert.id == alert_id, Alert.state == AlertState.OPEN)
        .values(
            state=AlertState.ACKNOWLEDGED,
            acknowledged_by=actor.account_id,
            acknowledged_at=utcnow(),
        )
    )
    if not changed_rows(changed):
        raise Conflict("This alert is not open any more: somebody was faster, or it is resolved.")
    record_event(
        db, actor=actor, action="alert.acknowledge", target_kind="alert", target_id=alert_id
    )


def resolve_alert(db: Session, alert_id: uuid.UUID, *, actor: Actor) -> None:
    """Call it resolved. It does not open again before the rule has once found all well.

    Conflict where it is resolved already.
    """
    require(actor, Permission.MANAGE_ALERTS)
    if not _resolve(db, actor, Alert.id == alert_id, is_over=False):
        raise Conflict("This alert is resolved already.")


def _resolve(db: Session, actor: Actor, which: sa.ColumnElement[bool], *, is_over: bool) -> int:
    now = utcnow()
    if is_over:
        db.execute(sa.update(Alert).where(which, Alert.ended_at.is_(None)).values(ended_at=now))
    resolved = db.scalars(
        sa.update(Alert)
        .where(which, Alert.state != AlertState.RESOLVED)
        .values(state=AlertState.RESOLVED, resolved_at=now, resolved_by=actor.account_id)
        .returning(Alert.id)
    ).all()
    for alert_id in resolved:
        record_event(
            db, actor=actor, action="alert.resolve", target_kind="alert", target_id=alert_id
        )
    return len(resolved)


def _load_rules(
    db: Session, *conditions: sa.ColumnElement[bool]
) -> list[RuleView | UnreadableRule]:
    unresolved = (
        sa.select(sa.func.count())
        .where(Alert.rule_id == AlertRule.id, Alert.state != AlertState.RESOLVED)
        .scalar_subquery()
    )
    rows = db.execute(
        sa.select(AlertRule, sa.func.coalesce(Account.name, "system"), unresolved)
        .outerjoin(Account, Account.id == AlertRule.created_by)
        .where(*conditions)
        .order_by(AlertRule.name)
        .execution_options(populate_existing=True)
    )
    return [_read_rule(*row) for row in rows]


def _read_rule(row: AlertRule, created_by: str, num_unresolved: int) -> RuleView | UnreadableRule:
    try:
        kind = AlertKind(row.kind)
        return RuleView(
            id=row.id,
            name=row.name,
            kind=kind,
            params=parse_params(kind, row.params),
            channels=parse_channels(row.channels),
            is_enabled=row.is_enabled,
            created_by=created_by,
            checked_at=row.checked_at,
            num_unresolved=num_unresolved,
        )
    except (RlhfError, ValueError, TypeError, AttributeError) as error:  # not as this writes it
        return UnreadableRule(row.id, row.name, row.kind, str(error))


def _subject_of(params: Params) -> dict[str, Any]:
    """What a rule looks at, beside its numbers: with another one, slices are other ones."""
    plain = params_to_json(params)
    names = ("sources", "action_types", "model_names", "split", "coefficient")
    return {name: plain[name] for name in names if name in plain}


def _fit_name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidInput(f"name: give 1 to {MAX_NAME_CHARS} printable characters.", field="name")
    return name


def _describe(values: dict[str, Any], channels: Channels | None) -> dict[str, Any]:
    """What the audit keeps of a rule: of the channels how many, for an address may be a secret."""
    kept = {key: values[key] for key in ("name", "kind", "params", "is_enabled") if key in values}
    return kept | ({"channels": count_targets(channels.targets())} if channels else {})


def _record(
    db: Session, actor: Actor, action: str, rule_id: uuid.UUID, details: dict[str, Any]
) -> None:
    record_event(
        db, actor=actor, action=action, target_kind="alert_rule", target_id=rule_id, details=details
    )
