"""What may be done with a run: stop it, let it go on, put it first, copy it with changes."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from pages._ui.guard import admit
from pages._ui.measures import JOB_KIND_NAMES, POLICY_KINDS
from pages._ui.messages import plain
from pages._ui.run_queue import Place
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.service import JobView, cancel_job, retry_job, set_priority
from rlhf_core.jobs.train_params import LEARNERS
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind, JobState

LAUNCH = "pages/train/launch.py"
_CONFIRM = "run_to_cancel"  # holds the id of the run that the dialog asks about


def show_actions(job: JobView, places: Mapping[uuid.UUID, Place]) -> None:
    """The buttons, in the fragment; the dialog opens outside, where no refresh closes it."""
    is_copied = job.kind in (*LEARNERS, *POLICY_KINDS) and st.button(
        "Copy with changes", icon=":material/content_copy:", key="clone_run"
    )
    if is_copied:
        st.switch_page(LAUNCH, query_params={"copy": str(job.id)})
    place = places.get(job.id)
    can_gain = place is not None and place.number > 1 and place.ahead < job.priority
    if (
        place is not None
        and can_gain
        and st.button("Put first", icon=":material/vertical_align_top:", key="first_run")
    ):
        _act(set_priority, job.id, "It is moved forward.", priority=place.ahead)
    if not job.state.is_final and not job.cancel_requested_at:
        if st.button("Stop", icon=":material/stop:", key="cancel_run"):
            st.session_state[_CONFIRM] = job.id
            st.rerun()
        return
    if job.state in (JobState.FAILED, JobState.CANCELED) and job.kind is not JobKind.JOIN:
        label, icon = ("Resume", "resume") if job.attempt else ("Start again", "replay")
        if st.button(
            label,
            icon=f":material/{icon}:",
            key="retry_run",
            help="The run goes on from its last checkpoint, where it kept one; else it begins "
            "anew. Its parameters stay as they are.",
        ):
            _act(retry_job, job.id, "The run is queued again.")


def ask_what_was_asked(jobs: list[JobView]) -> None:
    """Open the dialog that a button asked for; outside of the fragment."""
    asked = next((job for job in jobs if job.id == st.session_state.get(_CONFIRM)), None)
    if asked and not asked.state.is_final:
        _ask_before_cancel(asked)
    else:
        _forget_question()  # or the question would come back with a second start of that run


def _act(change: Callable[..., JobView], job_id: uuid.UUID, said: str, **values: Any) -> None:
    """Change one run and draw the page anew, which says what came of it.

    Whoever may no longer do so reads that instead.
    """
    actor = admit(Permission.RUN_JOBS)  # fragment and dialog rerun without the page's guard
    if actor is None:
        return
    try:
        with get_store().writing() as db:
            change(db, job_id, actor=actor, **values)
        notify(said)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
    _forget_question()
    st.rerun()


def _forget_question() -> None:
    st.session_state.pop(_CONFIRM, None)


@st.dialog("Stop this run?", on_dismiss=_forget_question)
def _ask_before_cancel(job: JobView) -> None:
    kept = " from its last checkpoint" if job.kind in POLICY_KINDS else ""
    st.write(
        f"**{JOB_KIND_NAMES[job.kind]}** stands at {job.progress:.0%}. It ends without a result; "
        f"you can start it again later{kept}."
    )
    with st.container(horizontal=True):
        if st.button("Stop the run", type="primary", key="confirm_cancel"):
            _act(cancel_job, job.id, "The run was asked to stop.")
        if st.button("Let it go on", key="keep_running"):
            _forget_question()
            st.rerun()
