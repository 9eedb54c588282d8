"""What a model changes in how users behave, against another model, with an interval."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval
from rlhf_core.analytics.differences import TERMS, compare_ratios, product_names
from rlhf_core.analytics.filters import EVERYTHING, Filters, today
from rlhf_core.analytics.sessions import SESSIONS, sample_users
from rlhf_core.errors import InvalidInput

RETURN_DAYS = 7
"""A user came back who was seen again within so many days after first meeting the model."""
MIN_USERS = 10
"""With fewer on a side there is no interval: a normal approximation would promise too much."""


class Outcome(StrEnum):
    """What a model may change."""

    SATISFACTION = "satisfaction"
    SPEAKING = "speaking"
    RETURN = "return"
    DURATION = "duration"


@dataclass(frozen=True)
class Effect:
    """`value` of the model's users and `baseline`'s, and the difference with a 95 % interval.

    Satisfaction: the mean of good (1), neutral (0.5) and bad (0). Speaking: the share of answers
    with the user's feedback. Return: the share of users who came back. Duration: seconds a
    session. None where there is nothing to tell it from. The interval is clustered by user.
    """

    outcome: Outcome
    value: float | None
    baseline: float | None
    num_users: int
    num_baseline_users: int
    difference: Interval | None


def read_effects(
    db: Session, *, actor: Actor, model: str, baseline: str, filters: Filters = EVERYTHING
) -> list[Effect]:
    """Each outcome of sessions that began with the model, against those with the baseline.

    Nobody drew who met which: what else differs between the two (when, whom) is in the difference.
    Of many sessions, those of a part of the users are read (`sample_users`).

    Raises:
        InvalidInput: both are the same model.
    """
    require(actor, Permission.READ_ANALYTICS)
    if model == baseline:
        raise InvalidInput(f"{model!r} against itself: choose two models.", field="baseline")
    sample, _ = sample_users(db, replace(filters, model_names=(), action_types=()))
    asked = replace(filters, model_names=(model, baseline))
    where = [sample, *asked.conditions(SESSIONS)]
    return [
        _measure(db, Outcome.SATISFACTION, _by_user(
            where, model, SESSIONS.c.num_good + SESSIONS.c.num_neutral * 0.5,
            SESSIONS.c.num_good + SESSIONS.c.num_neutral + SESSIONS.c.num_bad,
        )),
        _measure(db, Outcome.SPEAKING, _by_user(
            where, model, SESSIONS.c.num_feedback, SESSIONS.c.num_interactions
        )),
        _measure(db, Outcome.RETURN, _by_return(db, sample, asked, model, baseline)),
        _measure(db, Outcome.DURATION, _by_user(
            where, model, SESSIONS.c.duration_s, sa.literal(1)
        )),
    ]  # fmt: skip


def _by_user(where: list[Any], model: str, x: Any, n: Any) -> sa.Subquery:
    """xa, na, xb, nb a user: sums over the sessions with the model (a) and the baseline (b)."""
    is_model = SESSIONS.c.model_name == model
    sums = {
        "xa": sa.case((is_model, x), else_=0),
        "na": sa.case((is_model, n), else_=0),
        "xb": sa.case((is_model, 0), else_=x),
        "nb": sa.case((is_model, 0), else_=n),
    }
    return (
        sa.select(*(_double(sa.func.sum(value)).label(name) for name, value in sums.items()))
        .where(*where)
        .group_by(SESSIONS.c.user_pseudonym)
        .subquery()
    )


def _by_return(
    db: Session, sample: sa.ColumnElement[bool], asked: Filters, model: str, baseline: str
) -> sa.Subquery:
    """The same of users whose first model of the two was met early enough to see them return.

    Who met both on their first day is left out. Returns with whatever model count.
    """
    until = min(asked.until or date.max, today()) - timedelta(days=RETURN_DAYS)
    is_asked = sa.and_(*replace(asked, model_names=()).conditions(SESSIONS))
    first_of: dict[str, Any] = {}
    for name, own in (("a", SESSIONS.c.model_name == model),
                      ("b", SESSIONS.c.model_name == baseline)):  # fmt: skip
        day = sa.case((sa.and_(own, is_asked), SESSIONS.c.day))
        met = sa.func.min(day).over(partition_by=SESSIONS.c.user_pseudonym)
        first_of[name] = sa.type_coerce(met, sa.Date).label(name)
    everything = replace(asked, model_names=(), action_types=())
    visits = (
        sa.select(SESSIONS.c.user_pseudonym, SESSIONS.c.day, *first_of.values())
        .where(sample, *everything.conditions(SESSIONS))
        .subquery("visits")
    )
    is_a = sa.or_(visits.c.b.is_(None), visits.c.a < visits.c.b)
    first = sa.case((is_a, visits.c.a), else_=visits.c.b)
    is_return = sa.and_(visits.c.day > first, visits.c.day <= _days_after(db, first))
    users = (
        sa.select(
            sa.case((is_a, 1), else_=0).label("is_a"),
            sa.func.max(sa.case((is_return, 1), else_=0)).label("came_back"),
        )
        .where(
            first <= until,
            sa.or_(visits.c.a.is_(None), visits.c.b.is_(None), visits.c.a != visits.c.b),
        )
        .group_by(visits.c.user_pseudonym, visits.c.a, visits.c.b)
        .subquery("users")
    )
    is_b = 1 - users.c.is_a
    terms = {
        "xa": users.c.is_a * users.c.came_back,
        "na": users.c.is_a,
        "xb": is_b * users.c.came_back,
        "nb": is_b,
    }
    return sa.select(*(_double(term).label(name) for name, term in terms.items())).subquery()


def _measure(db: Session, outcome: Outcome, users: sa.Subquery) -> Effect:
    columns = [sa.func.sum(users.c[name]).label(name) for name in TERMS]
    columns += [
        sa.func.sum(users.c[one] * users.c[other]).label(name)
        for name, one, other in product_names()
    ]
    met = [sa.func.count().filter(users.c[name] > 0).label(f"num_{name}") for name in ("na", "nb")]
    both = sa.func.count().filter(users.c.na + users.c.nb > 0).label("num_users")
    row = db.execute(sa.select(both, *met, *columns)).one()
    moments = {column.name: float(getattr(row, column.name) or 0) for column in columns}
    is_enough = min(row.num_na, row.num_nb) >= MIN_USERS
    return Effect(
        outcome=outcome,
        value=moments["xa"] / moments["na"] if moments["na"] else None,
        baseline=moments["xb"] / moments["nb"] if moments["nb"] else None,
        num_users=row.num_na,
        num_baseline_users=row.num_nb,
        difference=compare_ratios(row.num_users, moments) if is_enough else None,
    )


def _double(value: Any) -> Any:
    return sa.cast(value, sa.Double)


def _days_after(db: Session, day: Any) -> Any:
    if db.get_bind().dialect.name == "sqlite":
        return sa.func.date(day, sa.literal_column(f"'+{RETURN_DAYS} days'"))
    return day + sa.literal_column(str(RETURN_DAYS))
