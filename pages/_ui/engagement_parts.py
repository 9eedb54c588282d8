"""The page of engagement: its reads, its figures as DataFrames, and its cards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.insight_data import READ_AGAIN_S, fresh_db
from pages._ui.insight_filters import name_value
from pages._ui.insight_words import UNKNOWN, say_share
from pages._ui.sparklines import draw_sparkline
from rlhf_core.accounts.permissions import Actor
from rlhf_core.agreement import Interval
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.funnels import Paths, Stage, read_paths
from rlhf_core.analytics.model_effect import RETURN_DAYS, Effect, Outcome, read_effects
from rlhf_core.analytics.sessions import (
    DaySessions,
    Segment,
    SegmentFigures,
    SessionCounts,
    UserFigures,
    read_segments,
    read_sessions,
    read_users,
)
from rlhf_core.store.engine import get_store

MAX_SPARKS = 60
SEGMENT_NAMES = {Segment.ACTION_TYPE: "Action type", Segment.MODEL_NAME: "Model"}
RANGE_NAMES = {
    "num_single": "one act",
    "num_under_60": "under 1 min",
    "num_under_300": "1-5 min",
    "num_under_900": "5-15 min",
    "num_under_1800": "15-30 min",
    "num_under_3600": "30-60 min",
    "num_longer": "longer",
}
OUTCOME_NAMES = {
    Outcome.SATISFACTION: "Satisfaction",
    Outcome.SPEAKING: "Answers with the user's feedback",
    Outcome.RETURN: f"Users back within {RETURN_DAYS} days",
    Outcome.DURATION: "Length of a session",
}


@dataclass(frozen=True)
class EngagementPage:
    """What the page shows."""

    sessions: SessionCounts
    days: list[DaySessions]
    users: UserFigures
    segments: dict[Segment, list[SegmentFigures]]
    paths: Paths
    num_with_events: int


@st.cache_data(ttl=READ_AGAIN_S, max_entries=100, show_spinner=False)
def read_engagement_page(_actor: Actor, filters: Filters) -> EngagementPage:
    """The figures, at most 10 s old."""
    with fresh_db() as db:
        sessions, days = read_sessions(db, actor=_actor, filters=filters)
        paths, num_with_events = read_paths(db, actor=_actor, filters=filters)
        return EngagementPage(
            sessions=sessions,
            days=days,
            users=read_users(db, actor=_actor, filters=filters),
            segments={
                by: read_segments(db, actor=_actor, by=by, filters=filters) for by in Segment
            },
            paths=paths,
            num_with_events=num_with_events,
        )


@st.cache_data(ttl=READ_AGAIN_S, max_entries=100, show_spinner=False)
def read_effects_of(_actor: Actor, filters: Filters, model: str, baseline: str) -> list[Effect]:
    """What the model changes, at most 10 s old."""
    with get_store().reading() as db:
        return read_effects(db, actor=_actor, model=model, baseline=baseline, filters=filters)


def draw_cards(shown: EngagementPage) -> None:
    """Sessions, their length, users, who comes back and who gives feedback."""
    sessions, users = shown.sessions, shown.users
    about = "" if users.one_in == 1 else "about "
    with st.grid(5, min_column_width=140, key="engagement_cards"):
        with st.container(border=True, height="stretch"):
            st.metric(
                "Sessions",
                f"{sessions.num_sessions:,}",
                help="What one user did with no pause of more than half an hour; midnight (UTC) "
                "ends a session, too.",
            )
            if sparks := _thin([day.counts.num_sessions for day in shown.days]):
                draw_sparkline(sparks, "Sessions over the period", as_bars=True)
        with st.container(border=True, height="stretch"):
            st.metric(
                "Length of a session",
                say_seconds(sessions.mean_duration_s),
                help="The mean, from the first act to the last. Sessions of a single act have no "
                "length and are left out.",
            )
            if sessions.num_single:
                st.caption(f"{_share(sessions.num_single, sessions.num_sessions)} are one act only")
        with st.container(border=True, height="stretch"):
            st.metric("Users", f"{about}{users.num_users:,}")
            if users.one_in > 1:
                st.caption(f"estimated from one user in {users.one_in}")
        with st.container(border=True, height="stretch"):
            st.metric(
                "Came back",
                say_share(users.returning),
                help="Users who were seen on two days or more of the period.",
            )
            st.caption(_range(users.returning))
        with st.container(border=True, height="stretch"):
            st.metric(
                "Gave feedback",
                say_share(users.speaking),
                help="Users who rated an answer of the period at least once.",
            )
            st.caption(_range(users.speaking))


def points_of_days(days: Sequence[DaySessions]) -> pd.DataFrame:
    """For `draw_lines`: the share of sessions with feedback by day, sessions as the volume."""
    rows = [
        {
            "x": pd.Timestamp(day.day),
            "name": "",
            "value": day.counts.with_feedback.value if day.counts.with_feedback else None,
            "low": day.counts.with_feedback.low if day.counts.with_feedback else None,
            "high": day.counts.with_feedback.high if day.counts.with_feedback else None,
            "n": day.counts.num_sessions,
        }
        for day in days
    ]
    return pd.DataFrame(rows, columns=["x", "name", "value", "low", "high", "n"])


def table_of_days(days: Sequence[DaySessions]) -> pd.DataFrame:
    """A line a day."""
    return pd.DataFrame(
        [
            {
                "Day (UTC)": str(day.day),
                "Sessions": day.counts.num_sessions,
                "With feedback": day.counts.num_with_feedback,
                "Interactions": day.counts.num_interactions,
                "Mean length (s)": _rounded(day.counts.mean_duration_s),
            }
            for day in days
        ]
    )


def columns_of_lengths(sessions: SessionCounts) -> pd.DataFrame:
    """For `draw_columns`: how many sessions lasted how long."""
    rows = [(words, "", getattr(sessions, name)) for name, words in RANGE_NAMES.items()]
    return pd.DataFrame(rows, columns=["x", "name", "value"])


def bars_of_segments(segments: Sequence[SegmentFigures]) -> pd.DataFrame:
    """For `draw_bars`: satisfaction with its interval."""
    rows = [
        {
            "name": name_value(one.name),
            "value": one.satisfaction.value,
            "low": one.satisfaction.low,
            "high": one.satisfaction.high,
            "n": one.num_feedback,
        }
        for one in segments
        if one.satisfaction is not None
    ]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "n"])


def table_of_segments(segments: Sequence[SegmentFigures], by: Segment) -> pd.DataFrame:
    """A line a segment."""
    return pd.DataFrame(
        [
            {
                SEGMENT_NAMES[by]: name_value(one.name),
                "Sessions": one.sessions.num_sessions,
                "Mean length (s)": _rounded(one.sessions.mean_duration_s),
                "With feedback (%)": _percent(one.sessions.with_feedback),
                "Feedback of users": one.num_feedback,
                "Satisfaction (%)": _percent(one.satisfaction),
            }
            for one in segments
        ]
    )


def bars_of_funnel(stages: Sequence[Stage]) -> pd.DataFrame:
    """For `draw_bars`: sessions that got so far, as a share of those that began."""
    rows = [
        {
            "name": f"{number}. {stage.name}",
            "value": stage.of_first.value if stage.of_first else 0.0,
            "n": stage.num_sessions,
        }
        for number, stage in enumerate(stages, 1)
    ]
    return pd.DataFrame(rows, columns=["name", "value", "n"])


def table_of_funnel(stages: Sequence[Stage]) -> pd.DataFrame:
    """A line a stage."""
    return pd.DataFrame(
        [
            {
                "Stage": number,
                "Event": stage.name,
                "Sessions": stage.num_sessions,
                "Of the first (%)": _percent(stage.of_first),
                "Of the stage before (%)": _percent(stage.of_previous),
            }
            for number, stage in enumerate(stages, 1)
        ]
    )


def table_of_effects(effects: Sequence[Effect]) -> pd.DataFrame:
    """A line an outcome: both sides, and the difference with its interval."""
    rows = []
    for one in effects:
        say = _say_duration if one.outcome is Outcome.DURATION else _say_rate
        difference = one.difference
        rows.append(
            {
                "Outcome": OUTCOME_NAMES[one.outcome],
                "Model": say(one.value),
                "Baseline": say(one.baseline),
                "Difference": "too few users" if difference is None else _say_gap(one),
                "Says": _judge(difference),
                "Users": one.num_users,
                "Users of the baseline": one.num_baseline_users,
            }
        )
    return pd.DataFrame(rows)


def say_seconds(seconds: float | None) -> str:
    """Such as `42 s` or `3.5 min`."""
    if seconds is None:
        return UNKNOWN
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _say_gap(one: Effect) -> str:
    assert one.difference is not None  # noqa: S101 - asked by the caller
    ends = (one.difference.value, one.difference.low, one.difference.high)
    if one.outcome is Outcome.DURATION:
        middle, low, high = (f"{value:+.0f} s" for value in ends)
    else:
        middle, low, high = (f"{100 * value:+.1f} points" for value in ends)
    return f"{middle} ({low.split()[0]} to {high.split()[0]})"


def _judge(difference: Interval | None) -> str:
    if difference is None:
        return ""
    if difference.low > 0:
        return "higher"
    return "lower" if difference.high < 0 else "no clear difference"


def _say_rate(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1%}"


def _say_duration(value: float | None) -> str:
    return say_seconds(value)


def _thin(values: list[int]) -> list[int] | None:
    size = -(-len(values) // MAX_SPARKS) or 1
    thin = [sum(values[at : at + size]) for at in range(0, len(values), size)]
    return thin if len(thin) > 1 else None


def say_part_of_paths(shown: EngagementPage) -> str:
    """Of how many sessions the funnel is, where it is not of all."""
    num_read = sum(shown.paths.values())
    if num_read == shown.num_with_events:
        return ""
    return (
        f"Of the {num_read:,} sessions on the {len(shown.paths):,} most frequent paths: "
        f"{num_read / shown.num_with_events:.1%} of {shown.num_with_events:,} with events. Rare "
        "paths, mostly of long sessions, are left out: choose fewer days to see more of them."
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else UNKNOWN


def _range(share: Interval | None) -> str:
    return "" if share is None else f"95 %: {share.low:.1%} to {share.high:.1%}"


def _percent(share: Interval | None) -> float | None:
    return None if share is None else round(100 * share.value, 1)


def _rounded(value: float | None) -> Any:
    return None if value is None else round(value, 1)
