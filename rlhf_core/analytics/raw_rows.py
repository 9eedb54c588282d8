"""The viewers' filters on the rows themselves, for what is not read from daily counts."""

from collections.abc import Collection
from dataclasses import replace
from datetime import date, timedelta

import sqlalchemy as sa

from rlhf_core.analytics.filters import Filters, start_of_day
from rlhf_core.analytics.rollup_days import given
from rlhf_core.store.base import table_of
from rlhf_core.store.queries.verdicts import FEEDBACK, is_counted
from rlhf_core.store.tables import Interaction, Rater
from rlhf_core.vocabulary import RaterKind

_INTERACTION = table_of(Interaction)

SLICES = sa.select(
    _INTERACTION.c.id,
    _INTERACTION.c.prompt_hash,
    _INTERACTION.c.source,
    given(_INTERACTION.c.action_type).label("action_type"),
    given(_INTERACTION.c.model_name).label("model_name"),
).subquery("slices")
"""Interactions with the columns that filters look at, named as in the daily counts."""


def is_by(kinds: Collection[RaterKind]) -> sa.ColumnElement[bool]:
    """Whether feedback came from raters of these kinds: looked up a row, for they may be many."""
    rater = table_of(Rater).alias("by")
    return (
        sa.exists()
        .where(rater.c.id == FEEDBACK.c.rater_id, rater.c.rater_kind.in_(kinds))
        .correlate(FEEDBACK)
    )


def row_conditions(filters: Filters) -> list[sa.ColumnElement[bool]]:
    """What counts, of the filters: conditions on feedback joined with `SLICES`."""
    moment = FEEDBACK.c.occurred_at
    where = [is_counted(FEEDBACK)]
    if filters.since is not None:
        where.append(moment >= start_of_day(filters.since))
    if filters.until is not None and filters.until < date.max:
        where.append(moment < start_of_day(filters.until + timedelta(days=1)))
    if filters.rater_kinds:
        where.append(is_by(filters.rater_kinds))
    of_slices = replace(filters, since=None, until=None)  # they have no day
    return [*where, *of_slices.conditions(SLICES)]
