"""How the counts of feedback, raters, aspects and interactions are made from the rows.

One statement a table. Withdrawn feedback and the repeats of queues do not count.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.analytics.feedback_counts import RATINGS, THUMBS
from rlhf_core.analytics.rollup_days import day_of, delete_days, given, hour_of, on_days, within
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import is_bad, is_counted, is_good, is_neutral
from rlhf_core.store.tables import (
    AspectRollup,
    AspectTotal,
    Feedback,
    FeedbackAspect,
    FeedbackHourRollup,
    FeedbackHourTotal,
    FeedbackRollup,
    Interaction,
    InteractionRollup,
    Rater,
    RaterDayRollup,
    RaterRollup,
)
from rlhf_core.vocabulary import RaterKind

FEEDBACK = table_of(Feedback)
INTERACTION = table_of(Interaction)
RATER = table_of(Rater)
ASPECT = table_of(FeedbackAspect)
BY_HOUR = table_of(FeedbackHourRollup)
HOUR_TOTALS = table_of(FeedbackHourTotal)
BY_DAY = table_of(FeedbackRollup)
BY_RATER = table_of(RaterRollup)
RATER_DAYS = table_of(RaterDayRollup)
BY_ASPECT = table_of(AspectRollup)
ASPECT_TOTALS = table_of(AspectTotal)
INTERACTIONS = table_of(InteractionRollup)

SLICE = {
    "source": INTERACTION.c.source,
    "action_type": given(INTERACTION.c.action_type),
    "model_name": given(INTERACTION.c.model_name),
}


def rebuild_feedback(db: Session, days: Sequence[date]) -> None:
    """The feedback on completions of these days: by hour, and summed up by day and by source."""
    said_at = FEEDBACK.c.occurred_at
    keys = {"day": day_of(db, said_at), "hour": hour_of(db, said_at), "rater_kind": _KIND, **SLICE}
    _fill(db, BY_HOUR, days, _standing(keys, _verdict_counts()).where(within(said_at, days)))
    for table in (BY_DAY, HOUR_TOTALS):
        _sum_up(db, BY_HOUR, table, days)


def rebuild_raters(db: Session, days: Sequence[date]) -> None:
    """The same by rater. End users are left out: they are as many as their ratings."""
    said_at = FEEDBACK.c.occurred_at
    keys = {"day": day_of(db, said_at), "rater_kind": _KIND, "rater_id": FEEDBACK.c.rater_id}
    counted = _standing(keys | SLICE, {"num_feedback": sa.func.count()})
    experts = _KIND != RaterKind.END_USER
    _fill(db, BY_RATER, days, counted.where(within(said_at, days), experts))
    _sum_up(db, BY_RATER, RATER_DAYS, days)


def rebuild_aspects(db: Session, days: Sequence[date]) -> None:
    """Ratings of aspects in the feedback of these days."""
    said_at = FEEDBACK.c.occurred_at
    keys = {"day": day_of(db, said_at), "rater_kind": _KIND, "name": ASPECT.c.name, **SLICE}
    ratings = {f"num_rating_{n}": count_where(ASPECT.c.rating == n) for n in RATINGS}
    counted = _standing(keys, ratings)
    counted = counted.join(ASPECT, ASPECT.c.feedback_id == FEEDBACK.c.id)
    _fill(db, BY_ASPECT, days, counted.where(within(said_at, days)))
    _sum_up(db, BY_ASPECT, ASPECT_TOTALS, days)


def rebuild_interactions(db: Session, days: Sequence[date]) -> None:
    """Interactions of these days, and how many of them have feedback, of whatever day."""
    happened_at = INTERACTION.c.occurred_at
    has_feedback = (
        sa.exists().where(FEEDBACK.c.interaction_id == INTERACTION.c.id, *_stands())
    ).correlate(INTERACTION)
    counts = {
        "num_interactions": sa.func.count(),
        "num_with_feedback": sa.func.sum(sa.case((has_feedback, 1), else_=0)),
    }
    counted = _counted({"day": day_of(db, happened_at), **SLICE}, counts)
    _fill(db, INTERACTIONS, days, counted.where(within(happened_at, days)))


_KIND = RATER.c.rater_kind


def _stands() -> list[sa.ColumnElement[bool]]:
    return [FEEDBACK.c.step_id.is_(None), is_counted(FEEDBACK)]


def _verdict_counts() -> dict[str, Any]:
    return {
        "num_feedback": sa.func.count(),
        **{f"num_thumbs_{name}": count_where(FEEDBACK.c.thumb == n) for name, n in THUMBS.items()},
        **{f"num_rating_{n}": count_where(FEEDBACK.c.rating == n) for n in RATINGS},
        "num_good": count_where(is_good(FEEDBACK)),
        "num_neutral": count_where(is_neutral(FEEDBACK)),
        "num_bad": count_where(is_bad(FEEDBACK)),
    }


def count_where(condition: sa.ColumnElement[bool]) -> Any:
    """How many rows are so, as a column."""
    return sa.func.count().filter(condition)


def _standing(keys: dict[str, Any], counts: dict[str, Any]) -> sa.Select[Any]:
    return (
        _counted(keys, counts)
        .select_from(FEEDBACK)
        .join(INTERACTION, INTERACTION.c.id == FEEDBACK.c.interaction_id)
        .join(RATER, RATER.c.id == FEEDBACK.c.rater_id)
        .where(*_stands())
    )


def _counted(keys: dict[str, Any], counts: dict[str, Any]) -> sa.Select[Any]:
    columns = [value.label(name) for name, value in (keys | counts).items()]
    return sa.select(*columns).group_by(*keys.values())


def _sum_up(db: Session, counts: sa.Table, table: sa.Table, days: Sequence[date]) -> None:
    """Fill a table with the sums of another one's counts, over the keys that it lacks."""
    keys = {column.name: counts.c[column.name] for column in table.primary_key}
    names = [column.name for column in table.columns if not column.primary_key]
    sums = {name: sa.func.sum(counts.c[name]) for name in names}
    _fill(db, table, days, _counted(keys, sums).where(on_days(counts, days)))


def _fill(db: Session, table: sa.Table, days: Sequence[date], counted: sa.Select[Any]) -> None:
    delete_days(db, table, days)
    names = [column.name for column in counted.selected_columns]
    db.execute(sa.insert(table).from_select(names, counted))
