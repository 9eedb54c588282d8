"""What happened at a moment and may explain a turn of a trend: releases and alerts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics.filters import EVERYTHING, Filters, start_of_day
from rlhf_core.store.tables import Alert, AlertRule, Model, ModelAliasChange, ModelVersion
from rlhf_core.vocabulary import Alias

MAX_MARKS = 200
"""More cannot be told apart on an axis: the newest ones are kept."""
ROLLED_BACK = "rolled_back"
"""The registry's word for it in the evidence of a move."""


class MarkKind(StrEnum):
    """What happened: an alias was moved forward, back or away, or an alert was opened."""

    PROMOTION = "promotion"
    ROLL_BACK = "roll_back"
    TAKEN_DOWN = "taken_down"
    ALERT = "alert"


@dataclass(frozen=True)
class TimeMark:
    """One of them. `text` names it for people; names in it are of others."""

    at: datetime
    kind: MarkKind
    text: str


def list_marks(db: Session, *, actor: Actor, filters: Filters = EVERYTHING) -> list[TimeMark]:
    """The newest `MAX_MARKS` of the period, in the order of time."""
    require(actor, Permission.READ_ANALYTICS)
    marks = [*_list_releases(db, filters), *_list_alerts(db, filters)]
    return sorted(marks, key=lambda mark: mark.at)[-MAX_MARKS:]


def _list_releases(db: Session, filters: Filters) -> list[TimeMark]:
    change = ModelAliasChange
    rows = db.execute(
        sa.select(change.changed_at, change.alias, change.evidence, Model.name, ModelVersion.number)
        .join(Model, Model.id == change.model_id)
        .outerjoin(ModelVersion, ModelVersion.id == change.to_version_id)
        .where(*_in_period(filters, change.changed_at))
        .order_by(change.changed_at.desc())
        .limit(MAX_MARKS)
    )
    return [_release(row) for row in rows]


def _release(row: Any) -> TimeMark:
    place = "" if row.alias is Alias.PRODUCTION else f" ({row.alias.value})"
    if row.number is None:
        return TimeMark(row.changed_at, MarkKind.TAKEN_DOWN, f"{row.name} taken down{place}")
    is_back = (row.evidence or {}).get(ROLLED_BACK, False)
    text = f"{row.name} {'back to ' if is_back else ''}v{row.number}{place}"
    kind = MarkKind.ROLL_BACK if is_back else MarkKind.PROMOTION
    return TimeMark(row.changed_at, kind, text)


def _list_alerts(db: Session, filters: Filters) -> list[TimeMark]:
    rows = db.execute(
        sa.select(Alert.opened_at, AlertRule.name, Alert.slice_key)
        .join(AlertRule, AlertRule.id == Alert.rule_id)
        .where(*_in_period(filters, Alert.opened_at))
        .order_by(Alert.opened_at.desc())
        .limit(MAX_MARKS)
    )
    return [
        TimeMark(at, MarkKind.ALERT, f"{rule}: {slice_key}" if slice_key else rule)
        for at, rule, slice_key in rows
    ]


def _in_period(
    filters: Filters, moment: sa.orm.InstrumentedAttribute[datetime]
) -> list[sa.ColumnElement[bool]]:
    where = []
    if filters.since is not None:
        where.append(moment >= start_of_day(filters.since))
    if filters.until is not None and filters.until < filters.until.max:
        where.append(moment < start_of_day(filters.until + timedelta(days=1)))
    return where
