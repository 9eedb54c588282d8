"""Several runs on one chart, and what they were told differently."""

import uuid
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.charts import draw_runs
from pages._ui.curves import thin
from pages._ui.job_panel import STATE_NAMES, describe_duration
from pages._ui.measures import JOB_KIND_NAMES, NONE_THERE, name_metric, sort_metrics
from pages._ui.run_advice import LABELS
from rlhf_core.jobs import service
from rlhf_core.jobs.service import JobView
from rlhf_core.store.engine import get_store

MAX_RUNS = 8
STEP, KL = "the steps", "the KL to the reference"
FIRST_METRICS = ("reward", "accuracy", "loss")
LAST_POINTS = 10
NO_CURVES = "Choose runs that report numbers on their way: a waiting one has none yet."


def show_comparison(jobs: list[JobView], first: JobView) -> None:
    """Choose runs and a number; the chart, the last values, and the parameters that differ."""
    by_id = {str(job.id): job for job in jobs if job.attempt}
    chosen = st.multiselect(
        "Runs",
        list(by_id),
        default=[str(job.id) for job in find_alike(list(by_id.values()), first)],
        format_func=lambda run: name_run(by_id[run]),
        max_selections=MAX_RUNS,
        key="compared_runs",
    )
    runs = [by_id[run] for run in chosen]
    names = {job.id: f"{number}. {name_run(job)}" for number, job in enumerate(runs, 1)}
    if show_run_curves(runs, names):
        _show_differences(runs, names)


def show_run_curves(
    runs: list[JobView], names: dict[uuid.UUID, str], *, otherwise: str = NO_CURVES
) -> bool:
    """A number of the runs on one chart, and its last values; False where they report none."""
    points = _read_points(runs)
    if points.empty:
        st.caption(otherwise)
        return False
    metric, across = _ask_axes(points)
    lines = _join_axes(points, metric, across)
    lines = lines.assign(run=lines["run"].map(names))
    if lines.groupby("run")["x"].nunique().max() < 2:
        st.caption("Each run reported it once: there is no curve to draw.")
        _show_values(runs, names, points, metric)
        return True
    with st.container(border=True, key="comparison"):
        st.plotly_chart(
            draw_runs(lines, title=name_metric(metric), across=_name_axis(across)),
            key="comparison_chart",
            config={"displayModeBar": False},
            alt=f"{name_metric(metric)} of {len(runs)} runs over {across}",
        )
    _show_values(runs, names, points, metric)
    return True


def find_alike(jobs: list[JobView], first: JobView) -> list[JobView]:
    """Two of the jobs to begin with: of the kind of `first`, else of one that was run twice."""
    kinds = [first.kind, *(job.kind for job in jobs)]
    alike = [[job for job in jobs if job.kind is kind] for kind in kinds]
    return next((found for found in alike if len(found) > 1), jobs)[:2]


def name_run(job: JobView) -> str:
    """`Policy (PPO) · 05-04 16:20 · 1f3a`: kind, start, and the end of its id."""
    moment = job.started_at or job.created_at
    return f"{JOB_KIND_NAMES[job.kind]} · {moment:%m-%d %H:%M} · {job.id.hex[-4:]}"


def find_differences(params: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The parameters that are not the same in all runs, by name; None where a run has none."""
    flat = [_flatten(one) for one in params]
    names = sorted({name for one in flat for name in one})
    found = {name: [one.get(name) for one in flat] for name in names}
    return {name: values for name, values in found.items() if any(v != values[0] for v in values)}


def _flatten(plain_json: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain_json.items():
        if isinstance(value, dict):
            found |= _flatten(value, f"{path}{name}.")
        else:
            found[path + name] = value
    return found


def _read_points(runs: list[JobView]) -> pd.DataFrame:
    rows = []
    with get_store().reading() as db:
        for run in runs:
            rows += [(run.id, p.name, p.step, p.value) for p in service.list_metrics(db, run.id)]
    return pd.DataFrame(rows, columns=["run", "metric", "step", "value"])


def _ask_axes(points: pd.DataFrame) -> tuple[str, str]:
    names = sort_metrics(points["metric"].unique())
    steps = points.groupby("metric")["step"].nunique()
    curves = [name for name in names if steps[name] > 1] or names
    usual = next((name for name in FIRST_METRICS if name in curves), curves[0])
    left, right = st.columns(2, vertical_alignment="bottom")
    metric = left.selectbox(
        "Number",
        names,
        index=names.index(usual),
        format_func=name_metric,
        key="compared_metric",
    )
    across = STEP
    if "kl" in names and metric != "kl":
        across = right.segmented_control(
            "Over",
            [STEP, KL],
            default=STEP,
            required=True,
            key="compared_across",
            help="Over the KL, two ways are compared at the same distance from the reference.",
        )
    return metric, across or STEP


def _join_axes(points: pd.DataFrame, metric: str, across: str) -> pd.DataFrame:
    """The columns `run`, `x`, `value`: the number over the steps, or over the KL at them."""
    lines = thin(points[points["metric"] == metric])
    if across == STEP:
        return lines.assign(x=lines["step"])
    kl = points[points["metric"] == "kl"].rename(columns={"value": "x"})
    joined = lines.merge(kl[["run", "step", "x"]], on=["run", "step"])
    return joined.sort_values(["run", "step"])


def _name_axis(across: str) -> str:
    return "step" if across == STEP else name_metric("kl")


def _show_values(
    runs: list[JobView], names: dict[uuid.UUID, str], points: pd.DataFrame, metric: str
) -> None:
    rows = []
    for run in runs:
        of_run = points[(points["run"] == run.id) & (points["metric"] == metric)]
        values = of_run.sort_values("step")["value"]
        rows.append(
            {
                "Run": names[run.id],
                "State": STATE_NAMES[run.state][0],
                "First": values.iloc[0] if len(values) else None,
                f"Mean of the last {LAST_POINTS}": values.tail(LAST_POINTS).mean(),
                "Highest": values.max(),
                "Lowest": values.min(),
                "Took": describe_duration(run.duration_s),
            }
        )
    frame = pd.DataFrame(rows)
    figures = [name for name in frame.columns if name not in ("Run", "State", "Took")]
    st.dataframe(
        frame,
        hide_index=True,
        column_config={
            "Run": st.column_config.TextColumn(width="medium"),
            **{name: st.column_config.NumberColumn(format="%.4g") for name in figures},
        },
        placeholder=NONE_THERE,
        key="comparison_values",
        alt=f"{name_metric(metric)} of the compared runs",
    )


def _show_differences(runs: list[JobView], names: dict[uuid.UUID, str]) -> None:
    differences = find_differences([run.params for run in runs])
    if len(runs) < 2:
        return
    if not differences:
        st.caption("These runs were started with equal parameters.")
        return
    st.markdown("**Parameters that differ**")
    frame = pd.DataFrame(
        {
            "Parameter": [_name_parameter(name) for name in differences],
            **{
                names[run.id]: [_show(values[place]) for values in differences.values()]
                for place, run in enumerate(runs)
            },
        }
    )
    st.dataframe(
        frame,
        hide_index=True,
        placeholder=NONE_THERE,
        key="comparison_params",
        alt="Parameters of the compared runs that are not the same",
    )
    st.caption(f"{NONE_THERE} is the method's own default.")


def _name_parameter(path: str) -> str:
    """`options.lr` is what the launch page calls the learning rate."""
    name = path.removeprefix("options.")
    return LABELS.get(name, name) if name != path else path


def _show(value: Any) -> str | None:
    return None if value is None else str(value)
