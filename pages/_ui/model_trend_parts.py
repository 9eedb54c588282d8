"""The page of model trends: its reads, and its figures as DataFrames."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from pages._ui.insight_data import READ_AGAIN_S, fresh_db
from pages._ui.insight_filters import name_value
from pages._ui.insight_words import is_clear, say_change
from pages._ui.measures import name_metric
from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.model_trends import (
    Examination,
    ModelFigures,
    list_examinations,
    read_models,
)
from rlhf_core.analytics.reward_drift import (
    MAX_ROWS_A_WEEK,
    RewardWeek,
    ScoringVersion,
    list_scoring_versions,
    read_reward_drift,
)
from rlhf_core.store.engine import get_store

METRICS = ("pair_accuracy", "auc", "accuracy", "spearman", "first_error_f1")
"""What tells how good a reward model is, the most telling first; others are left to its page."""


def bounds_of(metric: str) -> tuple[float, float]:
    """Between what the figure lies: a correlation may be negative."""
    return (-1, 1) if metric == "spearman" else (0, 1)


@dataclass(frozen=True)
class ModelTrendsPage:
    """What the page shows beside the drift of one version."""

    models: list[ModelFigures]
    examinations: list[Examination]
    versions: list[ScoringVersion]


@st.cache_data(ttl=READ_AGAIN_S, max_entries=100, show_spinner=False)
def read_model_trends_page(_actor: Actor, filters: Filters) -> ModelTrendsPage:
    """The figures, at most 10 s old."""
    with fresh_db() as db:
        return ModelTrendsPage(
            models=read_models(db, actor=_actor, filters=filters),
            examinations=list_examinations(db, actor=_actor),
            versions=list_scoring_versions(db, actor=_actor),
        )


@st.cache_data(ttl=60, max_entries=100, show_spinner=False)
def read_drift_of(_actor: Actor, version_id: uuid.UUID, filters: Filters) -> list[RewardWeek]:
    """The weeks of a version's rewards, at most a minute old: they change slowly."""
    with get_store().reading() as db:
        return read_reward_drift(db, version_id, actor=_actor, filters=filters)


def bars_of_models(models: Sequence[ModelFigures]) -> pd.DataFrame:
    """For `draw_bars`: approval with its interval, in the order in which the models came."""
    rows = [
        {
            "name": name_value(one.name),
            "value": one.approval.value,
            "low": one.approval.low,
            "high": one.approval.high,
            "n": one.num_good + one.num_bad,
        }
        for one in models
        if one.approval is not None
    ]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high", "n"])


def table_of_models(models: Sequence[ModelFigures]) -> pd.DataFrame:
    """A line a model."""
    return pd.DataFrame(
        [
            {
                "Model": name_value(one.name),
                "First seen": "" if one.first_day is None else str(one.first_day),
                "Feedback": one.num_feedback,
                "Approval (%)": None if one.approval is None else round(
                    100 * one.approval.value, 1
                ),
                "Change": "" if one.change is None else say_change(one.change),
                "95 %": "" if one.change is None else say_change(one.change, ends=True),
                "Average rating": None if one.mean_rating is None else round(one.mean_rating, 2),
            }
            for one in models
        ]
    )  # fmt: skip


def say_newest(models: Sequence[ModelFigures]) -> str:
    """What the newest model changed, in a sentence (Markdown); empty where it cannot be told."""
    newest = next((one for one in reversed(models) if one.change is not None), None)
    if newest is None or newest.change is None:
        return ""
    name = plain(name_value(newest.name))
    said = f"{say_change(newest.change)} ({say_change(newest.change, ends=True)})"
    if not is_clear(newest.change):
        return f"**{name}** against the model before it: no clear change of approval, {said}."
    word = "better" if newest.change.value > 0 else "worse"
    return f"**{name}** is {word} than the model before it: approval {said}."


def list_metrics(examinations: Sequence[Examination]) -> list[str]:
    """The metrics that some examination has, the most telling first."""
    return [name for name in METRICS if any(name in one.metrics for one in examinations)]


def points_of_examinations(examinations: Sequence[Examination], metric: str) -> pd.DataFrame:
    """For `draw_lines`: the metric over time, a line a model and the rows it was examined on."""
    rows = []
    for one in examinations:
        if metric not in one.metrics:
            continue
        low, high = one.intervals.get(metric, (None, None))
        rows.append(
            {
                "x": one.examined_at,
                "name": " · ".join(part for part in (one.model, one.dataset, one.split) if part),
                "value": one.metrics[metric],
                "low": low,
                "high": high,
                "n": one.num_rows,
            }
        )
    frame = pd.DataFrame(rows, columns=["x", "name", "value", "low", "high", "n"])
    return frame.assign(x=pd.to_datetime(frame["x"], utc=True).dt.tz_localize(None))


def table_of_examinations(examinations: Sequence[Examination], metric: str) -> pd.DataFrame:
    """A line an examination that has the metric."""
    rows = []
    for one in examinations:
        if metric in one.metrics:
            low, high = one.intervals.get(metric, (None, None))
            rows.append(
                {
                    "Examined (UTC)": f"{one.examined_at:%Y-%m-%d %H:%M}",
                    "Version": f"{one.model} v{one.number}",
                    "Rows of": one.dataset,
                    "Part": one.split,
                    "Rows": one.num_rows,
                    name_metric(metric): round(one.metrics[metric], 4),
                    "from": low,
                    "to": high,
                }
            )
    return pd.DataFrame(rows)


def points_of_drift(weeks: Sequence[RewardWeek]) -> pd.DataFrame:
    """For `draw_lines`: the AUC by week with its interval; the verdicts as the volume."""
    rows = [
        {
            "x": pd.Timestamp(week.start),
            "name": "",
            "value": week.auc.value if week.auc else None,
            "low": week.auc.low if week.auc else None,
            "high": week.auc.high if week.auc else None,
            "n": week.num_good + week.num_bad,
        }
        for week in weeks
    ]
    return pd.DataFrame(rows, columns=["x", "name", "value", "low", "high", "n"])


def table_of_drift(weeks: Sequence[RewardWeek]) -> pd.DataFrame:
    """A line a week."""
    return pd.DataFrame(
        [
            {
                "Week from": str(week.start),
                "Good": week.num_good,
                "Bad": week.num_bad,
                "AUC": None if week.auc is None else round(week.auc.value, 3),
                "from": None if week.auc is None else round(week.auc.low, 3),
                "to": None if week.auc is None else round(week.auc.high, 3),
                "Mean reward": round(week.mean_reward, 3),
                "Approval (%)": None
                if week.approval is None
                else round(100 * week.approval.value, 1),
            }
            for week in weeks
        ]
    )


def name_version(version: ScoringVersion) -> str:
    """Such as `reward v3 (in production)`."""
    return version.name + (" (in production)" if version.is_production else "")


def say_drift(weeks: Sequence[RewardWeek]) -> str:
    """Whether rewards and approval went apart, from the first to the last week; else empty."""
    known = [week for week in weeks if week.auc is not None]
    if len(known) < 2:
        return f"At most {MAX_ROWS_A_WEEK:,} ratings a week are looked at, the latest."
    first, last = known[0], known[-1]
    if first.auc is None or last.auc is None or first.approval is None or last.approval is None:
        return ""
    said = (
        f"AUC {first.auc.value:.2f} in the week of {first.start}, {last.auc.value:.2f} in that of "
        f"{last.start}; the mean reward went from {first.mean_reward:.2f} to "
        f"{last.mean_reward:.2f}, approval from {first.approval.value:.0%} to "
        f"{last.approval.value:.0%}."
    )
    if last.auc.high < first.auc.low:
        said += " It tells good from bad worse than it did: train it on newer ratings."
    return said
