"""How runs are shown: the table of all, and one of them with its progress, numbers and log."""

import hashlib
import uuid
from contextlib import suppress
from datetime import timedelta
from typing import Literal

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitAPIException

from pages._ui.charts import draw_metric_curve
from pages._ui.messages import plain
from rlhf_core.jobs import heartbeats, service
from rlhf_core.jobs.service import JobView, LogLine, MetricPoint
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind, JobState

KIND_NAMES = {
    JobKind.TRAIN_SBERT: "Reward model (sentence embeddings)",
    JobKind.IMPORT: "Import of a file",
}
BadgeColor = Literal["gray", "blue", "green", "red", "orange"]
STATE_NAMES: dict[JobState, tuple[str, str, BadgeColor]] = {
    JobState.QUEUED: ("Waiting", ":material/schedule:", "gray"),
    JobState.RUNNING: ("Running", ":material/play_arrow:", "blue"),
    JobState.SUCCEEDED: ("Finished", ":material/check:", "green"),
    JobState.FAILED: ("Failed", ":material/error:", "red"),
    JobState.CANCELED: ("Canceled", ":material/block:", "orange"),
}
METRIC_NAMES = {  # also the order in which they are shown
    "auc": "AUC on prompts not seen (0.5 is a coin toss, 1 is perfect)",
    "length_only_auc": "AUC by the length of the text alone",
    "gain_over_length_auc": "AUC gained over length alone",
    "accuracy": "Accuracy (share of right answers)",
    "majority_accuracy": "Accuracy of always giving the more frequent answer",
    "pair_accuracy": "Pairs of one prompt put in the right order",
    "length_only_pair_accuracy": "Pairs put in the right order by length alone",
    "brier": "Brier score (lower is better)",
    "base_rate_brier": "Brier score of always saying the share of good ones",
    "ece": "Calibration error (lower is better)",
    "uncalibrated_ece": "Calibration error before calibration",
    "share_good": "Share of completions rated good",
    "regularisation": "Regularisation, chosen by the prompts left out",
    "temperature": "Temperature of the calibration",
    "loss": "Loss (lower is better)",
}
METRIC_ORDER = {name: place for place, name in enumerate(METRIC_NAMES)}
LOG_LINES = 200


def name_metric(name: str) -> str:
    """A metric's name in words."""
    return METRIC_NAMES.get(name, name.replace("_", " ").strip().capitalize())


def describe_duration(seconds: float | None) -> str:
    """`4 s`, `2 min 5 s`, `3 h 12 min`; empty where the run has not started."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def show_job_table(jobs: list[JobView], selected: uuid.UUID) -> None:
    """All runs, newest first; a click on a row puts its id into the address as `?run=`."""
    frame = pd.DataFrame(
        {
            "State": [STATE_NAMES[job.state][0] for job in jobs],
            "What": [KIND_NAMES[job.kind] for job in jobs],
            "Progress": [job.progress for job in jobs],
            "Started": [job.started_at for job in jobs],
            "Took": [describe_duration(job.duration_s) for job in jobs],
            "By": [job.created_by for job in jobs],
        }
    )
    ids = [job.id for job in jobs]
    # A row is known to the browser by its place only: with the list, the table is a new one.
    key = hashlib.sha256(repr((ids, selected)).encode()).hexdigest()[:12]

    def choose() -> None:
        rows = st.session_state[f"runs_{key}"].selection.rows
        if rows:
            st.query_params["run"] = str(ids[rows[0]])

    st.dataframe(
        frame,
        hide_index=True,
        height="auto" if len(jobs) < 7 else 248,
        column_config={
            "Progress": st.column_config.ProgressColumn(format="percent"),
            "Started": st.column_config.DatetimeColumn(format="distance"),
        },
        on_select=choose,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [ids.index(selected)]}},
        key=f"runs_{key}",
        alt="Runs, newest first",
    )


def show_job_head(job: JobView) -> DeltaGenerator:
    """What the run is and its state; returns the place beside them for buttons."""
    name, icon, color = STATE_NAMES[job.state]
    head = st.container(horizontal=True, vertical_alignment="center", key="run_head")
    head.header(KIND_NAMES[job.kind], width="content")
    head.badge(name, icon=icon, color=color)
    head.space("stretch")
    return head


def show_job(job: JobView) -> None:
    """One run: its sentence, progress, result, curves and log, read from the database now."""
    with get_store().reading() as db:
        points = service.list_metrics(db, job.id)
        lines = service.read_log_tail(db, job.id, limit=LOG_LINES)
        trouble = None if job.state.is_final else heartbeats.find_worker_trouble(db, job.resource)
    if job.message:
        _show_message(job)
    if trouble:
        st.warning(plain(trouble), icon=":material/cloud_off:")
    if job.cancel_requested_at and not job.state.is_final:
        st.info("It was asked to stop and ends within seconds.", icon=":material/hourglass_top:")
    if job.state is JobState.RUNNING:
        st.progress(job.progress, text=f"{job.progress:.0%}")
    _show_result(job)
    _show_curves(points)
    _show_details(job, lines)


def _show_message(job: JobView) -> None:
    text = plain(job.message or "")
    match job.state:
        case JobState.FAILED:
            st.error(text, icon=":material/error:")
        case JobState.SUCCEEDED:
            st.success(text, icon=":material/check:")
        case _:
            st.markdown(text)


def _show_result(job: JobView) -> None:
    metrics = (job.result or {}).get("metrics")
    if not isinstance(metrics, dict) or not metrics:
        return
    names = [name for name, value in metrics.items() if isinstance(value, int | float)]
    names.sort(key=lambda name: (METRIC_ORDER.get(name, len(METRIC_ORDER)), name))
    frame = pd.DataFrame(
        {"Measure": map(name_metric, names), "Value": [metrics[name] for name in names]}
    )
    if "version_id" in (job.result or {}):
        with suppress(StreamlitAPIException):  # raised where this person has no such page
            icon = ":material/deployed_code:"
            st.page_link("pages/models/registry.py", label="Promote it in Models", icon=icon)
    st.dataframe(
        frame,
        hide_index=True,
        width="content",
        column_config={"Value": st.column_config.NumberColumn(format="%.3f")},
        key=f"result_{job.id}",
        alt="Measures of the finished run",
    )


def _show_curves(points: list[MetricPoint]) -> None:
    frame = pd.DataFrame(points, columns=["name", "step", "value"])
    curves = {str(name): group for name, group in frame.groupby("name") if len(group) > 1}
    columns = st.columns(2) if curves else []
    for index, (name, group) in enumerate(curves.items()):
        title = name_metric(name)
        columns[index % 2].plotly_chart(
            draw_metric_curve(group, title=title),
            key=f"curve_{name}",
            config={"displayModeBar": False},
            alt=f"{title} over the steps of the run",
        )


def _show_details(job: JobView, lines: list[LogLine]) -> None:
    label = "Log" if len(lines) < LOG_LINES else f"Log (the last {LOG_LINES} lines)"
    with st.expander(label, expanded=job.state is not JobState.SUCCEEDED, key="run_log"):
        if lines:
            text = "\n".join(f"{line.logged_at:%H:%M:%S}  {line.text}" for line in lines)
            st.code(text, language=None, height=280 if len(lines) > 10 else "content")
        else:
            st.caption("Nothing yet: the run writes here what it does.")
    with st.expander("Parameters and times", key="run_details"):
        moments = {
            "Queued": job.created_at,
            "Started": job.started_at,
            "Last report": job.reported_at,
            "Ended": job.finished_at,
        }
        said = [f"{name} {at:%Y-%m-%d %H:%M:%S} UTC" for name, at in moments.items() if at]
        took = describe_duration(job.duration_s)
        said += [f"Attempt {job.attempt}"] if job.attempt else []
        said += [f"Took {took}"] if took and job.state.is_final else []
        st.caption(" · ".join([*said, f"Run `{job.id}`"]))
        st.json(job.params)


def refresh_interval(jobs: list[JobView]) -> timedelta | None:
    """How often the page looks again: each second while something runs, else never."""
    return timedelta(seconds=1) if any(not job.state.is_final for job in jobs) else None
