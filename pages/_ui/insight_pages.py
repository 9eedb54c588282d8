"""What the pages of overview and trends show, read and drawn once for all who look at the same.

It is shared between sessions and not copied: nobody may change it.
"""

from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from pages._ui.insight_charts import Mark, draw_bars, draw_columns, draw_lines
from pages._ui.insight_data import READ_AGAIN_S, fresh_db
from pages._ui.insight_tables import (
    bars_of_actions,
    bars_of_aspects,
    columns_of_ratings,
    columns_of_thumbs,
    points_of,
    table_of_actions,
    table_of_trend,
)
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.action_summary import ActionSummary, summarize_by_action_type
from rlhf_core.analytics.feedback_counts import FeedbackCounts
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.loop import Loop, read_loop
from rlhf_core.analytics.overview import Overview, read_overview
from rlhf_core.analytics.time_marks import TimeMark, list_marks
from rlhf_core.analytics.trends import (
    AspectFigures,
    Grain,
    Split,
    TrendPoint,
    read_aspects,
    read_ratings,
    read_trend,
)
from rlhf_core.store.engine import get_store

APPROVAL, RATING = "approval", "rating"
MEASURES = {APPROVAL: "Approval", RATING: "Average rating"}
MAX_NAMES = 6  # lines in a chart that can be told apart


@dataclass(frozen=True)
class OverviewPage:
    """What the overview shows."""

    overview: Overview
    loop: Loop
    trend: list[TrendPoint]
    marks: list[TimeMark]
    actions: list[ActionSummary]
    trend_chart: go.Figure
    trend_table: pd.DataFrame
    actions_chart: go.Figure
    actions_table: pd.DataFrame


@st.cache_resource(ttl=READ_AGAIN_S, show_spinner=False)
def _read_loop(_actor: Actor) -> Loop:
    """Where the loop stands, whatever period is looked at."""
    with get_store().reading() as db:
        return read_loop(db, actor=_actor)


@st.cache_resource(ttl=READ_AGAIN_S, max_entries=100, show_spinner=False)
def read_overview_page(_actor: Actor, filters: Filters, grain: Grain) -> OverviewPage:
    """The overview's figures, at most 10 s old."""
    with fresh_db() as db:
        overview = read_overview(db, actor=_actor, filters=filters)
        trend = read_trend(db, actor=_actor, filters=filters, grain=grain)
        marks = list_marks(db, actor=_actor, filters=filters)
        actions = summarize_by_action_type(db, actor=_actor, filters=filters)
    return OverviewPage(
        overview,
        _read_loop(_actor),
        trend,
        marks,
        actions,
        trend_chart=_draw_trend(trend, marks, None, APPROVAL),
        trend_table=table_of_trend(trend, None, grain),
        actions_chart=draw_bars(
            bars_of_actions(actions), title="Approval", as_percent=True, count_word="verdicts"
        ),
        actions_table=table_of_actions(actions),
    )


@dataclass(frozen=True)
class TrendsPage:
    """What the page of trends shows."""

    trend: list[TrendPoint]
    marks: list[TimeMark]
    ratings: FeedbackCounts
    aspects: list[AspectFigures]
    trend_chart: go.Figure
    trend_table: pd.DataFrame
    ratings_chart: go.Figure
    thumbs_chart: go.Figure
    aspects_chart: go.Figure


@st.cache_resource(ttl=READ_AGAIN_S, max_entries=100, show_spinner=False)
def read_trends_page(
    _actor: Actor, filters: Filters, grain: Grain, split: Split | None, measure: str
) -> TrendsPage:
    """The trends' figures, at most 10 s old. `measure` is `APPROVAL` or `RATING`.

    Raises:
        InvalidInput: by hour, of too long a period.
    """
    with fresh_db() as db:
        trend = read_trend(
            db, actor=_actor, filters=filters, grain=grain, split=split, max_names=MAX_NAMES
        )
        marks = list_marks(db, actor=_actor, filters=filters)
        ratings = read_ratings(db, actor=_actor, filters=filters)
        aspects = read_aspects(db, actor=_actor, filters=filters)
    return TrendsPage(
        trend,
        marks,
        ratings,
        aspects,
        trend_chart=_draw_trend(trend, marks, split, measure),
        trend_table=table_of_trend(trend, split, grain),
        ratings_chart=draw_columns(columns_of_ratings(ratings), title="Number", across="Rating"),
        thumbs_chart=draw_columns(columns_of_thumbs(ratings), title="Number", across="Thumb"),
        aspects_chart=draw_bars(bars_of_aspects(aspects), title="Mean rating (1 to 5)"),
    )


def _draw_trend(
    trend: list[TrendPoint], marks: list[TimeMark], split: Split | None, measure: str
) -> go.Figure:
    return draw_lines(
        points_of(trend, split, of_ratings=measure == RATING),
        title=MEASURES[measure],
        as_percent=measure == APPROVAL,
        bounds=(1, 5) if measure == RATING else None,
        with_volume=True,
        marks=[Mark(mark.at, mark.text) for mark in marks],
        count_word="ratings" if measure == RATING else "verdicts",
    )
