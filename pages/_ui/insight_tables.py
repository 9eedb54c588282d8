"""Figures over time and by slice as DataFrames: for charts, and as people read them in tables.

No Streamlit here. Rates are 0 to 1 for charts and percent in tables.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from pages._ui.insight_filters import RATER_KIND_NAMES, name_value
from rlhf_core.analytics.action_summary import ActionSummary
from rlhf_core.analytics.feedback_counts import FeedbackCounts
from rlhf_core.analytics.time_marks import TimeMark
from rlhf_core.analytics.trends import OTHERS, AspectFigures, Grain, Split, TrendPoint
from rlhf_core.vocabulary import RaterKind

SPLIT_NAMES = {
    Split.ACTION_TYPE: "Action type",
    Split.MODEL_NAME: "Model",
    Split.SOURCE: "Source",
    Split.RATER_KIND: "Raters",
}
THUMB_NAMES = {1: "Up", 0: "Neutral", -1: "Down"}


def points_of(trend: Sequence[TrendPoint], split: Split | None, *, of_ratings: bool = False) -> Any:
    """For `draw_lines`: approval with its interval, or the mean rating; the most feedback first."""
    rows = []
    total: Counter[str] = Counter()
    for point in trend:
        total[point.name] += point.num_feedback
    for point in sorted(trend, key=lambda one: (one.name == OTHERS, -total[one.name], one.name)):
        row: dict[str, Any] = {"x": point.start, "name": name_slice(point.name, split)}
        if of_ratings:
            row |= {"value": point.mean_rating, "n": point.num_ratings}
        else:
            row |= {**_interval(point), "n": point.num_good + point.num_bad}
        rows.append(row)
    frame = pd.DataFrame(rows, columns=["x", "name", "value", "low", "high", "n"])
    if of_ratings:
        frame = frame.drop(columns=["low", "high"])
    # without the zone: Plotly shows days as they are, not as the viewer's zone would have them
    return frame.assign(x=pd.to_datetime(frame["x"], utc=True).dt.tz_localize(None))


def table_of_trend(trend: Sequence[TrendPoint], split: Split | None, grain: Grain) -> pd.DataFrame:
    """A line a point."""
    form = "%Y-%m-%d %H:00" if grain is Grain.HOUR else "%Y-%m-%d"
    rows = []
    for point in trend:
        row: dict[str, Any] = {"From (UTC)": point.start.strftime(form)}
        if split is not None:
            row[SPLIT_NAMES[split]] = name_slice(point.name, split)
        rows.append(row | _counts(point))
    return pd.DataFrame(rows)


def bars_of_actions(actions: Iterable[ActionSummary]) -> pd.DataFrame:
    """For `draw_bars`: approval by action type; those without a verdict are left out."""
    rows = [
        {
            "name": name_value(one.action_type),
            **_interval(one),
            "n": one.num_good + one.num_bad,
        }
        for one in actions
        if one.approval is not None
    ]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "n"])


def table_of_actions(actions: Iterable[ActionSummary]) -> pd.DataFrame:
    """A line an action type, with the thumbs alone too."""
    return pd.DataFrame(
        [
            {
                "Action type": name_value(one.action_type),
                "Total": one.num_feedback,
                "Up": one.thumbs_up,
                "Down": one.thumbs_down,
                "Thumbs up (%)": one.approval_rate,
                **{
                    name: value
                    for name, value in _counts(one).items()
                    if name not in ("Feedback", "Up", "Down")
                },
            }
            for one in actions
        ]
    )


def columns_of_ratings(counts: FeedbackCounts) -> pd.DataFrame:
    """For `draw_columns`: how often each rating was given."""
    rows = [{"x": str(value), "name": "", "value": n} for value, n in counts.ratings.items()]
    return pd.DataFrame(rows)


def columns_of_thumbs(counts: FeedbackCounts) -> pd.DataFrame:
    """For `draw_columns`: how often each thumb was given."""
    rows = [
        {"x": name, "name": "", "value": counts.thumbs[thumb]}
        for thumb, name in THUMB_NAMES.items()
    ]
    return pd.DataFrame(rows)


def table_of_columns(columns: pd.DataFrame, name: str) -> pd.DataFrame:
    """The same for people, with shares."""
    total = columns["value"].sum()
    share = 100 * columns["value"] / total if total else None
    table = pd.DataFrame({name: columns["x"], "Number": columns["value"], "Share (%)": share})
    return table.round({"Share (%)": 1})


def bars_of_aspects(aspects: Iterable[AspectFigures]) -> pd.DataFrame:
    """For `draw_bars`: the mean rating of each aspect."""
    rows = [
        {"name": one.name, "value": one.mean_rating, "n": one.num_ratings}
        for one in aspects
        if one.num_ratings
    ]
    return pd.DataFrame(rows, columns=["name", "value", "n"])


def table_of_aspects(aspects: Iterable[AspectFigures]) -> pd.DataFrame:
    """A line an aspect."""
    return pd.DataFrame(
        [
            {
                "Aspect": one.name,
                "Ratings": one.num_ratings,
                "Mean": _round(one.mean_rating, 2),
                **{str(value): n for value, n in one.ratings.items()},
            }
            for one in aspects
            if one.num_ratings
        ]
    )


def table_of_marks(marks: Iterable[TimeMark]) -> pd.DataFrame:
    """A line a mark, numbered as in the chart."""
    return pd.DataFrame(
        [
            {"No.": number, "When (UTC)": f"{mark.at:%Y-%m-%d %H:%M}", "What": mark.text}
            for number, mark in enumerate(marks, 1)
        ]
    )


def name_slice(name: str, split: Split | None) -> str:
    """The name of a part of a split, as shown; '' where nothing is split."""
    if split is None:
        return ""
    if split is Split.RATER_KIND and name in set(RaterKind):
        return RATER_KIND_NAMES[RaterKind(name)]
    return name_value(name)


def _counts(counts: FeedbackCounts) -> dict[str, Any]:
    known = _interval(counts)
    return {
        "Feedback": counts.num_feedback,
        "Good": counts.num_good,
        "Bad": counts.num_bad,
        "Approval (%)": _percent(known["value"]),
        "from": _percent(known["low"]),
        "to": _percent(known["high"]),
        "Mean rating": _round(counts.mean_rating, 2),
        **{f"Rated {value}": n for value, n in counts.ratings.items()},
        "Up": counts.thumbs[1],
        "Down": counts.thumbs[-1],
    }


def _interval(counts: FeedbackCounts) -> dict[str, float | None]:
    known = counts.approval
    if known is None:
        return {"value": None, "low": None, "high": None}
    return {"value": known.value, "low": known.low, "high": known.high}


def _percent(share: float | None) -> float | None:
    return _round(None if share is None else 100 * share, 1)


def _round(value: float | None, decimals: int) -> float | None:
    return None if value is None else round(value, decimals)
