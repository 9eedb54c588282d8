"""Which counts a figure is made of: the period and the slices that a viewer chose."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.store.tables import FeedbackRollup, InteractionRollup
from rlhf_core.vocabulary import DEMO_SOURCE, RaterKind


@dataclass(frozen=True)
class Filters:
    """Days are UTC days, both included; None is no limit, an empty tuple is all.

    `''` among action types or models stands for "not given". Demo data is left out wherever there
    is any other, unless `sources` asks for it.
    """

    since: date | None = None
    until: date | None = None
    sources: tuple[str, ...] = ()
    action_types: tuple[str, ...] = ()
    model_names: tuple[str, ...] = ()
    rater_kinds: tuple[RaterKind, ...] = ()

    def __post_init__(self) -> None:
        if self.since is not None and self.until is not None and self.since > self.until:
            raise InvalidInput(
                f"The period begins on {self.since} and ends on {self.until}: "
                "choose an end that is not before the beginning.",
                field="until",
            )

    @property
    def is_sliced(self) -> bool:
        """Whether action types or models are chosen: the totals by source do not tell of them."""
        return bool(self.action_types or self.model_names)

    def conditions(self, table: Any) -> list[sa.ColumnElement[bool]]:
        """The filters on a table of counts (or an alias of one), as far as it has the columns."""
        columns = sa.inspect(table).selectable.c
        where: list[sa.ColumnElement[bool]] = []
        if self.since is not None:
            where.append(columns.day >= self.since)
        if self.until is not None:
            where.append(columns.day <= self.until)
        for name, chosen in (
            ("source", self.sources),
            ("action_type", self.action_types),
            ("model_name", self.model_names),
            ("rater_kind", self.rater_kinds),
        ):
            if chosen and name in columns:
                where.append(columns[name].in_(chosen))
        if not self.sources and "source" in columns:
            where.append(sa.or_(columns.source != DEMO_SOURCE, sa.not_(_is_any_real())))
        return where


EVERYTHING = Filters()


@dataclass(frozen=True)
class FilterChoices:
    """What can be chosen, by name, and the first and last day with data (None: there is none)."""

    sources: tuple[str, ...]
    action_types: tuple[str, ...]
    model_names: tuple[str, ...]
    first_day: date | None
    last_day: date | None


def list_filter_choices(db: Session, *, actor: Actor) -> FilterChoices:
    """What there is to choose from: of all days, whatever the other filters are."""
    require(actor, Permission.READ_ANALYTICS)
    columns = (
        InteractionRollup.source,
        InteractionRollup.action_type,
        InteractionRollup.model_name,
    )
    sources, action_types, model_names = (
        tuple(db.scalars(sa.select(column).distinct().order_by(column))) for column in columns
    )
    days = [
        day
        for table in (InteractionRollup, FeedbackRollup)
        for end in (sa.func.min, sa.func.max)  # one a query: each is a look at the key's end
        if (day := db.scalar(sa.select(end(table.day)))) is not None
    ]
    return FilterChoices(
        sources, action_types, model_names, min(days, default=None), max(days, default=None)
    )


def previous_period(filters: Filters) -> Filters | None:
    """The same filters on as many days right before; None where no first day is chosen.

    A period without an end ends today.
    """
    if filters.since is None:
        return None
    until = filters.until or max(today(), filters.since)
    num_days = (until - filters.since).days + 1
    if (filters.since - date.min).days < num_days:
        return None
    before = filters.since - timedelta(days=1)
    return replace(filters, since=filters.since - timedelta(days=num_days), until=before)


def today() -> date:
    """The UTC day of now."""
    return utcnow().date()


def start_of_day(day: date) -> datetime:
    """The day's first moment, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _is_any_real() -> sa.ColumnElement[bool]:
    """Whether there is any interaction but those of the demo: asked once a statement."""
    counted = sa.inspect(InteractionRollup).selectable.alias("real")
    return sa.exists().where(counted.c.source != DEMO_SOURCE).select_from(counted)
