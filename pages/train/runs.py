"""Runs: what trains now, what trained before, and how it went. A run needs no open browser."""

import uuid
from collections.abc import Callable

import streamlit as st

from pages._ui.guard import admit, require_page
from pages._ui.job_panel import (
    refresh_interval,
    show_job,
    show_job_head,
    show_job_table,
)
from pages._ui.measures import JOB_KIND_NAMES
from pages._ui.messages import empty_state, plain, reporting, show_error
from pages._ui.state import notify, show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import NotFound, RlhfError
from rlhf_core.jobs.service import JobView, cancel_job, get_job, list_jobs, retry_job
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobState


def read_jobs() -> list[JobView]:
    with get_store().reading() as db:
        return list_jobs(db, limit=100)


def choose_job(jobs: list[JobView]) -> JobView:
    """The run of `?run=`, also an old one that is not in the list; else the newest.

    Where no run has that id, it says so.
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
    except NotFound as error:
        show_error(error)
        return jobs[0]


def act(change: Callable[..., JobView], job_id: uuid.UUID, said: str) -> None:
    """Change one run and draw the page anew, which says what came of it.

    Whoever may no longer do so reads that instead.
    """
    actor = admit(Permission.RUN_JOBS)  # fragment and dialog rerun without the page's guard
    if actor is None:
        return
    try:
        with get_store().writing() as db:
            change(db, job_id, actor=actor)
        notify(said)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
    forget_question()
    st.rerun()


def forget_question() -> None:
    st.session_state.pop(CONFIRM, None)


@st.dialog("Stop this run?", on_dismiss=forget_question)
def ask_before_cancel(job: JobView) -> None:
    st.write(
        f"**{JOB_KIND_NAMES[job.kind]}** stands at {job.progress:.0%}. It ends without a result; "
        "you can start it again later."
    )
    with st.container(horizontal=True):
        if st.button("Stop the run", type="primary", key="confirm_cancel"):
            act(cancel_job, job.id, "The run was asked to stop.")
        if st.button("Let it go on", key="keep_running"):
            forget_question()
            st.rerun()


def show_actions(job: JobView) -> None:
    """One button, in the fragment; the dialog opens outside, where no refresh closes it."""
    if not job.state.is_final and not job.cancel_requested_at:
        if st.button("Stop", icon=":material/stop:", key="cancel_run"):
            st.session_state[CONFIRM] = job.id
            st.rerun()
        return
    can_retry = job.state in (JobState.FAILED, JobState.CANCELED)
    if can_retry and st.button("Start again", icon=":material/replay:", key="retry_run"):
        act(retry_job, job.id, "The run is queued again.")


def show_runs(seen: list[JobView]) -> None:
    if admit(Permission.RUN_JOBS) is None:  # a fragment ticks without the page's guard
        return
    with reporting():
        jobs = read_jobs()
        selected = choose_job(jobs)
        show_job_table(jobs if selected in jobs else [*jobs, selected], selected.id)
        with show_job_head(selected):
            show_actions(selected)
        show_job(selected)
        if refresh_interval(jobs) != refresh_interval(seen):
            st.rerun()  # the last run has ended, or the first has begun: tick otherwise


require_page(Permission.RUN_JOBS)
CONFIRM = "run_to_cancel"  # holds the id of the run that the dialog asks about
st.title("Runs")
show_notices()
with reporting():
    jobs = read_jobs()
    if jobs:
        st.fragment(show_runs, run_every=refresh_interval(jobs), key="runs")(jobs)
        asked = next((job for job in jobs if job.id == st.session_state.get(CONFIRM)), None)
        if asked and not asked.state.is_final:
            ask_before_cancel(asked)
        else:
            forget_question()  # or the question would come back with a second start of that run
    else:
        empty_state(
            "Nothing has run yet",
            "A run learns from the ratings: start one, and follow it here.",
            icon=":material/model_training:",
            page="pages/train/launch.py",
            page_label="Launch training",
        )
