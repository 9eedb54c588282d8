"""How runs are shown: the table of all, and one of them with its progress, numbers and log."""

import hashlib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Literal

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.errors import StreamlitAPIException

from pages._ui.curves import show_curves
from pages._ui.demo_mark import draw_mark, mark_rows, read_marks
from pages._ui.measures import (
    JOB_KIND_NAMES,
    MAIN_METRICS,
    NONE_THERE,
    POLICY_KINDS,
    POLICY_METRICS,
    name_metric,
    sort_metrics,
)
from pages._ui.messages import plain
from pages._ui.run_advice import advise
from pages._ui.run_queue import Place, describe_place, name_ordinal
from pages._ui.run_samples import show_samples
from rlhf_core.accounts.permissions import Actor
from rlhf_core.jobs import heartbeats, service
from rlhf_core.jobs.samples import list_samples
from rlhf_core.jobs.service import JobView, LogLine
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind, JobState

BadgeColor = Literal["gray", "blue", "green", "red", "orange"]
STATE_NAMES: dict[JobState, tuple[str, str, BadgeColor]] = {
    JobState.QUEUED: ("Waiting", ":material/schedule:", "gray"),
    JobState.RUNNING: ("Running", ":material/play_arrow:", "blue"),
    JobState.SUCCEEDED: ("Finished", ":material/check:", "green"),
    JobState.FAILED: ("Failed", ":material/error:", "red"),
    JobState.CANCELED: ("Canceled", ":material/block:", "orange"),
}
LOG_LINES = 200


def describe_duration(seconds: float | None) -> str:
    """`4 s`, `2 min 5 s`, `3 h 12 min`, `3 d 2 h`; empty where the run has not started."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def describe_estimate(seconds: float) -> str:
    """A duration not known exactly: from two minutes on without its seconds."""
    return (
        describe_duration(seconds)
        if seconds < 120
        else describe_duration(60 * round(seconds / 60)).removesuffix(" 0 s")
    )


def name_state(job: JobView, places: Mapping[uuid.UUID, Place]) -> str:
    """`Running`, `Waiting, 2nd`."""
    name = STATE_NAMES[job.state][0]
    return f"{name}, {name_ordinal(places[job.id].number)}" if job.id in places else name


def show_job_table(
    jobs: list[JobView], selected: uuid.UUID, places: Mapping[uuid.UUID, Place]
) -> None:
    """All runs, newest first; a click on a row puts its id into the address as `?run=`."""
    frame = pd.DataFrame(
        {
            "State": [name_state(job, places) for job in jobs],
            "What": [JOB_KIND_NAMES[job.kind] for job in jobs],
            **mark_rows([job.id for job in jobs], read_marks().jobs),
            "Progress": [round(100 * job.progress) for job in jobs],
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
            "Progress": st.column_config.ProgressColumn(format="%d %%", max_value=100),
            "Started": st.column_config.DatetimeColumn(format="distance", width=140),
        },
        placeholder=NONE_THERE,
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
    head.header(JOB_KIND_NAMES[job.kind], width="content")
    head.badge(name, icon=icon, color=color)
    draw_mark(job.id, read_marks().jobs, head)
    head.space("stretch")
    return head


def show_job(job: JobView, actor: Actor, places: Mapping[uuid.UUID, Place]) -> None:
    """One run: its sentence, progress, result, curves and log, read from the database now."""
    is_policy = job.kind in POLICY_KINDS
    with get_store().reading() as db:
        points = service.list_metrics(db, job.id)
        lines = service.read_log_tail(db, job.id, limit=LOG_LINES)
        trouble = None if job.state.is_final else heartbeats.find_worker_trouble(db, job.resource)
        has_samples = is_policy or job.kind is JobKind.EVALUATE_POLICY
        samples = list_samples(db, job.id, actor=actor) if has_samples else []
    if job.message:
        _show_message(job)
    if advice := advise(job):
        st.markdown(f":material/lightbulb: {advice}")
    if place := describe_place(job, places):
        st.caption(place)
    if trouble:
        st.warning(plain(trouble), icon=":material/cloud_off:")
    if job.cancel_requested_at and not job.state.is_final:
        st.info("It was asked to stop and ends within seconds.", icon=":material/hourglass_top:")
    if job.state is JobState.RUNNING:
        st.progress(job.progress, text=f"{job.progress:.0%}")
    _show_result(job)
    show_curves(points, job.id, is_policy=is_policy)
    show_samples(samples, job.id)
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
    """The figures of a finished run, and the way to the version that they are about."""
    result = job.result or {}
    if "version_id" in result and job.state is JobState.SUCCEEDED:
        is_trained = job.kind not in (JobKind.EVALUATE, JobKind.EVALUATE_POLICY, JobKind.SCORE)
        with suppress(StreamlitAPIException):  # raised where this person has no such page
            st.page_link(
                "pages/models/registry.py",
                label="Promote it in Models" if is_trained else "See it in Models",
                icon=":material/deployed_code:",
                query_params={"version": str(result["version_id"])},
            )
    if "comparison_id" in result and job.state is JobState.SUCCEEDED:
        with suppress(StreamlitAPIException):
            st.page_link(
                "pages/models/compare_versions.py",
                label="See it in Compare versions",
                icon=":material/difference:",
                query_params={"comparison": str(result["comparison_id"])},
            )
    of_policies = job.kind in POLICY_KINDS or job.kind is JobKind.EVALUATE_POLICY
    tested, trained = "On the test rows", "On rows left out in training"
    if of_policies:
        tested, trained = "On the test prompts", "In training"
    columns = {
        tested: _numbers(result.get("examination")),
        trained: _numbers(result.get("metrics")),
    }
    columns = {label: numbers for label, numbers in columns.items() if numbers}
    if len(columns) == 1:  # there is nothing to tell apart
        columns = {"Value": next(iter(columns.values()))}
    found = {name for numbers in columns.values() for name in numbers}
    main = POLICY_METRICS if of_policies else MAIN_METRICS
    names = sort_metrics(found.intersection(main) or found)
    if not names:
        return
    frame = pd.DataFrame(
        {
            "Measure": map(name_metric, names),
            **{label: [of.get(name) for name in names] for label, of in columns.items()},
        }
    )
    st.dataframe(
        frame,
        hide_index=True,
        width="content",
        height="content",
        column_config={
            "Measure": st.column_config.TextColumn(width="large"),
            **{label: st.column_config.NumberColumn(format="%.3f") for label in columns},
        },
        placeholder=NONE_THERE,
        key=f"result_{job.id}",
        alt="Measures of the finished run",
    )


def _numbers(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, dict):
        return {}
    return {name: value for name, value in metrics.items() if isinstance(value, int | float)}


def _show_details(job: JobView, lines: list[LogLine]) -> None:
    label = "Log" if len(lines) < LOG_LINES else f"Log (the last {LOG_LINES} lines)"
    with st.expander(label, expanded=job.state is not JobState.SUCCEEDED, key="run_log"):
        if lines:
            text = "\n".join(f"{line.logged_at:%H:%M:%S}  {line.text}" for line in lines)
            st.code(
                text, language=None, wrap_lines=True, height=280 if len(lines) > 10 else "content"
            )
        else:
            ended = "It ended without a line." if job.attempt else "It never started."
            nothing = "Nothing yet: the run writes here what it does."
            st.caption(ended if job.state.is_final else nothing)
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


def refresh_interval(jobs: list[JobView], shown: JobView | None = None) -> timedelta | None:
    """How often the page looks again: each second while the run that is shown goes on.

    Now and then where others go on, never where nothing does.
    """
    if shown is not None and not shown.state.is_final:
        return timedelta(seconds=1)
    return timedelta(seconds=5) if any(not job.state.is_final for job in jobs) else None
