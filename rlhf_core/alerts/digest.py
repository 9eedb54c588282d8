"""The week at a glance: what people thought, where it failed, what was told, what was released."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.alerts.service import AlertView, list_alerts
from rlhf_core.analytics.action_summary import ActionSummary, summarize_by_action_type
from rlhf_core.analytics.failures import FrequentExchange, list_frequent
from rlhf_core.analytics.filters import Filters, start_of_day
from rlhf_core.analytics.overview import Overview, read_overview
from rlhf_core.analytics.time_marks import MarkKind, TimeMark, list_marks
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.store.tables import Alert, Model, ModelVersion
from rlhf_core.vocabulary import AlertState

WEEK = timedelta(days=7)
NUM_WORST = 5
MIN_JUDGED = 10
"""Good and bad that an action type needs before it is called one of the worst."""


@dataclass(frozen=True)
class Digest:
    """A week, Monday to Sunday (UTC). `is_over` is False of the week that is still going on.

    `worst` are the action types with the lowest approval, if it is under that of all; `failures`
    the exchanges called bad more than twice. `versions` names what was registered, `releases` are
    promotions and the way back. `alerts` opened in the week; `num_unresolved` are those of any week
    that nobody resolved until now.
    """

    monday: date
    is_over: bool
    overview: Overview
    worst: list[ActionSummary]
    failures: list[FrequentExchange]
    alerts: list[AlertView]
    num_unresolved: int
    releases: list[TimeMark]
    versions: list[str]

    @property
    def sunday(self) -> date:
        """Its last day."""
        return self.monday + timedelta(days=6)

    @property
    def title(self) -> str:
        """Such as `Week 47 of 2026, 16 to 22 November`."""
        year, week, _ = self.monday.isocalendar()
        first = f"{self.monday:%-d}"
        if self.monday.month != self.sunday.month:
            first += f" {self.monday:%B}"
        return f"Week {week} of {year}, {first} to {self.sunday:%-d %B}"


def monday_of(day: date) -> date:
    """The Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def last_monday(now: datetime | None = None) -> date:
    """The Monday of the newest week that is over."""
    return monday_of((now or utcnow()).astimezone(UTC).date()) - WEEK


def build_digest(db: Session, *, actor: Actor, monday: date, now: datetime | None = None) -> Digest:
    """The report of a week, by the daily counts as they are. InvalidInput of a week to come."""
    require(actor, Permission.READ_ANALYTICS)
    now = now or utcnow()
    if monday != monday_of(monday) or start_of_day(monday) > now:
        raise InvalidInput(
            f"{monday} is no Monday of a week that began: choose one.", field="monday"
        )
    since = start_of_day(monday)
    until = since + WEEK
    filters = Filters(since=monday, until=monday + timedelta(days=6))
    overview = read_overview(db, actor=actor, filters=filters)
    marks = list_marks(db, actor=actor, filters=filters)
    return Digest(
        monday=monday,
        is_over=until <= now,
        overview=overview,
        worst=_pick_worst(
            summarize_by_action_type(db, actor=actor, filters=filters), overview.now.approval
        ),
        failures=list_frequent(db, actor=actor, filters=filters, limit=NUM_WORST),
        alerts=list_alerts(db, actor=actor, since=since, until=until),
        num_unresolved=db.scalar(
            sa.select(sa.func.count()).where(Alert.state != AlertState.RESOLVED)
        )
        or 0,
        releases=[mark for mark in marks if mark.kind is not MarkKind.ALERT],
        versions=_list_versions(db, since, until),
    )


def _pick_worst(summaries: list[ActionSummary], overall: float | None) -> list[ActionSummary]:
    told = [
        (one.approval.value, one)
        for one in summaries
        if one.approval is not None and one.num_good + one.num_bad >= MIN_JUDGED
    ]
    under = [pair for pair in told if overall is not None and pair[0] < overall]
    return [one for _, one in sorted(under, key=lambda pair: (pair[0], pair[1].action_type))][
        :NUM_WORST
    ]


def _list_versions(db: Session, since: datetime, until: datetime) -> list[str]:
    rows = db.execute(
        sa.select(Model.name, ModelVersion.number)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(
            ModelVersion.created_at >= since,
            ModelVersion.created_at < until,
            ModelVersion.deleted_at.is_(None),
        )
        .order_by(Model.name, ModelVersion.number)
    )
    return [f"{name} v{number}" for name, number in rows]
