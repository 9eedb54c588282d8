"""The curves of a run: which stand on one chart, which charts make a group, and their numbers."""

import uuid
from dataclasses import dataclass

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._ui.charts import draw_metric_curves
from pages._ui.measures import name_metric, sort_metrics, split_curve_name
from rlhf_core.jobs.service import MetricPoint

MAX_POINTS = 400
"""Of a line; more are seen by nobody, and a page that ticks would send them every time."""


@dataclass(frozen=True)
class CurveChart:
    """A chart of a policy's run: its title, and its lines as metric and name."""

    title: str
    lines: tuple[tuple[str, str], ...]


def _alone(metric: str) -> CurveChart:
    return CurveChart(name_metric(metric), ((metric, ""),))


GROUPS: dict[str, tuple[CurveChart, ...]] = {
    "Reward": (
        CurveChart(
            "Reward of the answers",
            (("reward", "reward model"), ("held_out_reward", "held-out judge")),
        ),
        _alone("kl"),
        _alone("entropy"),
        _alone("length"),
    ),
    "Answers": (
        _alone("eos_share"),
        CurveChart(
            "How various the answers are",
            (("distinct_2", "different pairs of words"), ("opening_share", "commonest opening")),
        ),
    ),
    "Learning": (
        CurveChart("Loss", (("loss", "rows trained on"), ("eval_loss", "rows held out"))),
        _alone("accuracy"),
        _alone("margin"),
        _alone("policy_loss"),
        _alone("value_loss"),
        _alone("explained_variance"),
        _alone("clipfrac"),
        _alone("ratio"),
        _alone("gradient_norm"),
        _alone("kl_coef"),
        _alone("lr"),
    ),
    "Speed": (_alone("tokens_per_s"), _alone("generation_share"), _alone("memory_mb")),
}
"""The curves of policies, the most telling first. What a run does not report is left out."""
REST = "More"
OFTEN_FIXED = ("kl_coef", "lr", "first_ratio")
"""Left out of a policy's curves where they never change."""


def show_curves(points: list[MetricPoint], job_id: uuid.UUID, *, is_policy: bool) -> None:
    """The curves; of a policy, which has some twenty, one group at a time."""
    frame = _to_frame(points)
    if frame.empty:
        return
    if not is_policy:
        _draw_all([_alone(name) for name in sort_metrics(frame["metric"].unique())], frame)
        return
    is_fixed = frame.groupby("metric")["value"].transform("nunique") == 1
    frame = frame[~(is_fixed & frame["metric"].isin(OFTEN_FIXED))]
    groups = {name: list(charts) for name, charts in GROUPS.items()}
    known = {metric for charts in GROUPS.values() for chart in charts for metric, _ in chart.lines}
    groups[REST] = [_alone(name) for name in sort_metrics(set(frame["metric"]) - known)]
    there = {
        name: [chart for chart in charts if _has_lines(chart, frame)]
        for name, charts in groups.items()
    }
    names = [name for name, charts in there.items() if charts]
    group = st.segmented_control(
        "Curves", names, default=names[0], required=True, key=f"curve_group_{job_id}"
    )
    _draw_all(there[group or names[0]], frame)


def tabulate_curve(points: pd.DataFrame) -> pd.DataFrame:
    """A row a step and a column a member, of the points that a chart draws."""
    table = points.pivot_table(index="step", columns="member", values="value", sort=False)
    table = table.sort_index().rename(columns={"": "value"}).reset_index()
    return table.rename(columns={name: str(name).capitalize() for name in table.columns})


def thin(points: pd.DataFrame) -> pd.DataFrame:
    """At most `MAX_POINTS` steps, evenly chosen, the last among them."""
    steps = sorted(points["step"].unique(), reverse=True)
    if len(steps) <= MAX_POINTS:
        return points
    kept = steps[:: -(-len(steps) // MAX_POINTS)]
    return points[points["step"].isin(kept)]


def _to_frame(points: list[MetricPoint]) -> pd.DataFrame:
    """Points of the metrics that have more than one step: a single number is no curve."""
    names = [split_curve_name(point.name) for point in points]
    frame = pd.DataFrame(
        {
            "metric": [name.metric for name in names],
            "member": [name.member for name in names],
            "step": [point.step for point in points],
            "value": [point.value for point in points],
        }
    )
    return frame[frame.groupby("metric")["step"].transform("nunique") > 1]


def _has_lines(chart: CurveChart, frame: pd.DataFrame) -> bool:
    return any((frame["metric"] == metric).any() for metric, _ in chart.lines)


def _draw_all(charts: list[CurveChart], frame: pd.DataFrame) -> None:
    columns: list[DeltaGenerator] = []
    for index, chart in enumerate(charts):
        if index % 2 == 0:
            columns = st.columns(2)  # row by row: on a phone they stand below each other so
        name = chart.lines[0][0]
        points = _points_of(chart, frame)
        with columns[index % 2].container(border=True, key=f"curve_box_{name}"):
            st.plotly_chart(
                draw_metric_curves(thin(points), title=chart.title),
                key=f"curve_{name}",
                config={"displayModeBar": False},
                alt=f"{chart.title} over the steps of the run",
            )
            with st.expander("As a table", key=f"curve_table_{name}"):
                st.dataframe(
                    tabulate_curve(points),
                    hide_index=True,
                    height="content" if points["step"].nunique() < 10 else 240,
                    key=f"curve_values_{name}",
                    alt=f"{chart.title} at each step",
                )


def _points_of(chart: CurveChart, frame: pd.DataFrame) -> pd.DataFrame:
    """The points of the chart's lines, each named after its line, or its model of an ensemble."""
    parts = []
    for metric, name in chart.lines:
        part = frame[frame["metric"] == metric]
        parts.append(part.assign(member=name) if name else part)
    return pd.concat([part for part in parts if not part.empty])
