"""Runs: what trains now, what trained before, and how it went. A run needs no open browser."""

import uuid
from datetime import timedelta

import streamlit as st

from pages._ui.guard import admit, require_page
from pages._ui.job_panel import (
    refresh_interval,
    show_job,
    show_job_head,
    show_job_table,
)
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.run_actions import ask_what_was_asked, show_actions
from pages._ui.run_compare import show_comparison
from pages._ui.run_queue import Place, find_places
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import NotFound
from rlhf_core.jobs.service import JobView, get_job, list_jobs
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobState


def read_jobs() -> list[JobView]:
    with get_store().reading() as db:
        return list_jobs(db, limit=MAX_SHOWN)


def read_places() -> dict[uuid.UUID, Place]:
    with get_store().reading() as db:
        return find_places(list_jobs(db, states=[JobState.QUEUED], limit=MAX_WAITING))


def find_wanted(jobs: list[JobView]) -> JobView | None:
    """The run of `?run=`, also one that is not in the list; else the newest.

    None where no run has that id.
    """
    wanted = st.query_params.get("run", "")
    for job in jobs:
        if str(job.id) == wanted:
            return job
    try:
        with get_store().reading() as db:
            return get_job(db, uuid.UUID(wanted))
    except ValueError:
        return jobs[0]
    except NotFound:
        return None


def show_runs(interval: timedelta | None) -> None:
    actor = admit(Permission.RUN_JOBS)  # a fragment ticks without the page's guard
    if actor is None:
        return
    with reporting():
        jobs, places = read_jobs(), read_places()
        selected = find_wanted(jobs)
        if selected is None:
            wanted = plain(st.query_params.get("run", ""))
            st.warning(f"There is no run {wanted}: this is the newest.", icon=":material/info:")
            selected = jobs[0]
        show_job_table(jobs if selected in jobs else [*jobs, selected], selected.id, places)
        with show_job_head(selected):
            show_actions(selected, places)
        show_job(selected, actor, places)
        if refresh_interval(jobs, selected) != interval:
            st.rerun()  # another run is shown, or it has ended: tick otherwise


def show_compared(interval: timedelta | None) -> None:
    if admit(Permission.RUN_JOBS) is None:
        return
    with reporting():
        jobs = read_jobs()
        show_comparison(jobs, find_wanted(jobs) or jobs[0])
        if refresh_interval(jobs) != interval:
            st.rerun()


require_page(Permission.RUN_JOBS)
ONE, SEVERAL = "One run", "Compare"
MAX_SHOWN, MAX_WAITING = 100, 1_000
st.title("Runs")
show_notices()
with reporting():
    jobs = read_jobs()
    if not jobs:
        empty_state(
            "Nothing has run yet",
            "A run learns from the ratings: start one, and follow it here.",
            icon=":material/model_training:",
            page="pages/train/launch.py",
            page_label="Launch training",
        )
        st.stop()
    view = ONE
    if len(jobs) > 1:
        view = st.segmented_control(
            "View",
            [ONE, SEVERAL],
            default=ONE,
            required=True,
            key="runs_view",
            label_visibility="collapsed",
        )
    if view == SEVERAL:
        interval = refresh_interval(jobs)
        st.fragment(show_compared, run_every=interval, key="compared")(interval)
    else:
        interval = refresh_interval(jobs, find_wanted(jobs) or jobs[0])
        st.fragment(show_runs, run_every=interval, key="runs")(interval)
        ask_what_was_asked(jobs)
