"""Parts of pages that show figures over time: the grain, the marks, and the way to the rows."""

import calendar
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import streamlit as st

from pages._ui.insight_filters import read_filter_choices
from pages._ui.insight_rows import link_to_rows
from pages._ui.insight_tables import name_slice, table_of_marks
from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.action_summary import ActionSummary
from rlhf_core.analytics.filters import Filters, today
from rlhf_core.analytics.time_marks import TimeMark
from rlhf_core.analytics.trends import MAX_DAYS_BY_HOUR, OTHERS, Grain, Split, TrendPoint
from rlhf_core.vocabulary import RaterKind

MAX_DAYS_BY_DAY = 120
MAX_DAYS_BY_WEEK = 3 * 365
MAX_MARKS_SAID = 6
SPLIT_FILTERS = {
    Split.ACTION_TYPE: "action_types",
    Split.MODEL_NAME: "model_names",
    Split.SOURCE: "sources",
    Split.RATER_KIND: "rater_kinds",
}


def count_days(actor: Actor, filters: Filters) -> int:
    """How many days the period has; where it has no beginning, from the first with data."""
    choices = read_filter_choices(actor)
    since = filters.since or choices.first_day or today()
    until = filters.until or max(today(), choices.last_day or today())
    return max(1, (until - since).days + 1)


def choose_grain(filters: Filters, num_days: int) -> Grain:
    """A grain that the period allows and that gives neither a handful of points nor hundreds."""
    if num_days <= 2 and Grain.HOUR in list_grains(filters, num_days):
        return Grain.HOUR
    if num_days <= MAX_DAYS_BY_DAY:
        return Grain.DAY
    return Grain.WEEK if num_days <= MAX_DAYS_BY_WEEK else Grain.MONTH


def list_grains(filters: Filters, num_days: int) -> list[Grain]:
    """The grains that the period allows."""
    is_short = filters.since is not None and num_days <= MAX_DAYS_BY_HOUR
    return list(Grain) if is_short else [Grain.DAY, Grain.WEEK, Grain.MONTH]


def show_marks(marks: Sequence[TimeMark], *, key: str) -> None:
    """What the numbers on the time axis stand for."""
    if not marks:
        return
    if len(marks) <= MAX_MARKS_SAID:
        said = [f"**{number}** {mark.at:%Y-%m-%d} {plain(mark.text)}"
                for number, mark in enumerate(marks, 1)]  # fmt: skip
        st.caption("On the time axis: " + " · ".join(said))
        return
    with st.expander(f"{len(marks)} releases and alerts on the time axis", key=f"{key}_marks"):
        st.dataframe(
            table_of_marks(marks),
            hide_index=True,
            key=f"{key}_marks_rows",
            alt="Releases and alerts, numbered as on the time axis",
        )


def link_to_point(
    point: TrendPoint, filters: Filters, grain: Grain, split: Split | None = None
) -> None:
    """A link to the rows of a point of a trend."""
    first, last = days_of_point(point.start.date(), grain)
    where: dict[str, Any] = {
        "since": max(first, filters.since or first),
        "until": min(last, filters.until or last),
    }
    if split is not None and point.name != OTHERS:
        value = RaterKind(point.name) if split is Split.RATER_KIND else point.name
        where[SPLIT_FILTERS[split]] = (value,)
    period = str(where["since"])
    if where["until"] != where["since"]:
        period += f" to {where['until']}"
    part = plain(name_slice(point.name, split))
    link_to_rows(f"Rows of {period}{', ' if part else ''}{part}", replace(filters, **where))


def link_to_action(action: ActionSummary, filters: Filters) -> None:
    """A link to the rows of an action type."""
    part = plain(name_slice(action.action_type, Split.ACTION_TYPE))
    link_to_rows(f"Rows of {part}", replace(filters, action_types=(action.action_type,)))


def days_of_point(first: date, grain: Grain) -> tuple[date, date]:
    """The first and the last day of what begins on this day."""
    match grain:
        case Grain.WEEK:
            return first, first + timedelta(days=6)
        case Grain.MONTH:
            return first, first.replace(day=calendar.monthrange(first.year, first.month)[1])
        case _:
            return first, first
