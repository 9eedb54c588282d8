"""Starting a search for groups of failures, and how far it is."""

import streamlit as st

from pages._ui.failure_groups import ALIKE_NAMES
from pages._ui.guard import admit
from pages._ui.messages import plain, show_error
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.analytics.failure_search import SearchParams
from rlhf_core.analytics.filters import Filters
from rlhf_core.errors import RlhfError
from rlhf_core.jobs.cluster_failures import enqueue_clustering
from rlhf_core.jobs.service import JobView, list_jobs
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AlikeBy, JobKind, JobState

TICK_S = 2.0
DEFAULTS = SearchParams()


def show_search(actor: Actor, filters: Filters, *, is_first: bool) -> None:
    """The form, for those who may start jobs; or the run that is under way."""
    job = _newest()
    if job is not None and not job.state.is_final:
        st.fragment(_watch, run_every=TICK_S, key="failure_search")()
        return
    if job is not None and job.state is JobState.FAILED:
        st.warning(plain(job.message or "The last search failed."), icon=":material/info:")
    if not actor.may(Permission.RUN_JOBS):
        if is_first:
            st.caption("Nobody has searched yet: a trainer or an admin starts the search here.")
        return
    with st.popover("Search again" if not is_first else "Search", icon=":material/search:",
                    key="failure_search_form"):  # fmt: skip
        st.caption(
            "Bad answers of the period and the filters above are grouped by what their sentences "
            "mean: alike prompts show which requests fail, alike answers what is wrong in them. "
            "It runs in the background, seconds to minutes."
        )
        alike_by = st.segmented_control(
            "What is alike",
            list(ALIKE_NAMES),
            format_func=ALIKE_NAMES.__getitem__,
            default=AlikeBy.BOTH,
            required=True,
            key="failure_alike_by",
        )
        min_size = st.number_input(
            "Smallest group",
            min_value=4,
            max_value=1_000,
            value=DEFAULTS.min_size,
            key="failure_min_size",
        )
        st.button(
            "Search",
            type="primary",
            icon=":material/search:",
            key="failure_search_start",
            on_click=_start,
            args=(SearchParams(filters, alike_by=alike_by, min_size=int(min_size)),),
        )


def _start(params: SearchParams) -> None:
    """Queue the search; a callback."""
    actor = admit(Permission.RUN_JOBS)
    if actor is None:
        return
    try:
        with get_store().writing() as db:
            enqueue_clustering(db, actor=actor, params=params)
    except RlhfError as error:
        show_error(error)
    else:
        notify("The search is queued.", icon=":material/search:")


def _watch() -> None:
    if admit(Permission.READ_ANALYTICS) is None:
        return
    job = _newest()
    if job is None or job.state.is_final:
        st.rerun()
    st.progress(job.progress, text=plain(job.message or "Waiting for a worker"))


def _newest() -> JobView | None:
    with get_store().reading() as db:
        return next(iter(list_jobs(db, kind=JobKind.CLUSTER_FAILURES, limit=1)), None)
