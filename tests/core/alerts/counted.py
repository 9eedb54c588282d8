"""Counted feedback for the rules' tests: rows of the daily counts, as the rebuild writes them."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.store.base import table_of
from rlhf_core.store.tables import FeedbackHourRollup, FeedbackRollup
from rlhf_core.vocabulary import RaterKind

TODAY = date(2026, 11, 20)
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def add_day(
    db: Session,
    day: date,
    good: int,
    bad: int,
    *,
    hour: int | None = None,
    action_type: str = "",
    model_name: str = "",
    source: str = "app",
) -> None:
    """Thumbs of end users on a day; with `hour`, in that hour only."""
    row: dict[str, Any] = {column.name: 0 for column in table_of(FeedbackRollup).columns}
    row |= {
        "day": day, "rater_kind": RaterKind.END_USER, "source": source,
        "action_type": action_type, "model_name": model_name,
        "num_feedback": good + bad, "num_thumbs_up": good, "num_thumbs_down": bad,
        "num_good": good, "num_bad": bad,
    }  # fmt: skip
    if hour is None:
        db.execute(sa.insert(FeedbackRollup).values(row))
    else:
        db.execute(sa.insert(FeedbackHourRollup).values({**row, "hour": hour}))


def add_days(db: Session, first: int, last: int, good: int, bad: int, **slices: Any) -> None:
    """The same on each day from `first` to `last` days ago."""
    for days in range(last, first + 1):
        add_day(db, ago(days), good, bad, **slices)
