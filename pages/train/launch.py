"""Launch training: what there is to learn from, whether it is enough, and one button."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.job_panel import describe_duration
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.readiness_panel import show_data, show_obstacle
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.dataset.builder import ScoresParams, list_sources
from rlhf_core.dataset.readiness import Readiness, check_readiness
from rlhf_core.errors import Conflict
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.train_sbert import (
    TrainSbertParams,
    enqueue_train_sbert,
    estimate_duration_s,
    find_under_way,
)
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Resource


@st.cache_data(ttl=10, max_entries=100, show_spinner=False)
def read_readiness(_actor: Actor, source: str | None, threshold: float) -> tuple[Readiness, float]:
    """What is there, and about how many seconds a run takes. At most 10 s old: it counts all."""
    with get_store().reading() as db:
        ready = check_readiness(
            db, actor=_actor, params=ScoresParams(source=source), threshold=threshold
        )
        counts = ready.counts
        took_s = estimate_duration_s(db, num_rows=counts.num_rows, num_prompts=counts.num_prompts)
    return ready, took_s


@st.cache_data(ttl=30, show_spinner=False)
def read_sources() -> list[str]:
    with get_store().reading() as db:
        return list_sources(db)


def ask_params() -> TrainSbertParams:
    """The parameters; the defaults are what most people want."""
    threshold = st.radio(
        "A completion is good from a mean rating of",
        THRESHOLDS,
        index=THRESHOLDS.index(4.0),
        horizontal=True,
        format_func=lambda value: f"{value:g}",
        key="threshold",
        help="The model learns how likely people are to rate a completion this or better. "
        "A thumb up counts as 5, a thumb down as 1, a neutral one is left out.",
    )
    with st.expander("Advanced", key="advanced"):
        sources = read_sources()
        source = st.selectbox(
            "Learn from",
            [None, *sources],
            format_func=lambda name: "all sources" if name is None else name,
            key="source",
        )
        seed = st.number_input(
            "Seed",
            min_value=0,
            max_value=2**32 - 1,
            value=0,
            key="seed",
            help="Decides which prompts are tested together. The same seed and ratings give the "
            "same model.",
        )
    return TrainSbertParams(threshold=threshold, source=source, seed=int(seed))


def start_run(params: TrainSbertParams) -> None:
    """Queue the run, then go where it can be followed."""
    with reporting():
        try:
            with get_store().writing() as db:
                job = enqueue_train_sbert(db, actor=actor, params=params)
        except Conflict:  # another tab was quicker
            st.rerun()
        st.switch_page(RUNS, query_params={"run": str(job.id)})


def show_start(params: TrainSbertParams, took_s: float) -> None:
    """The button, or where the equal run is that is under way."""
    with get_store().reading() as db:
        under_way = find_under_way(db, params)
        trouble = find_worker_trouble(db, Resource.CPU)
    if under_way is not None:
        st.info(
            f"A run with these parameters is {under_way.state.value} already.",
            icon=":material/hourglass_top:",
        )
        run = {"run": str(under_way.id)}
        st.page_link(RUNS, label="Follow it", icon=":material/monitoring:", query_params=run)
        return
    if trouble:
        st.warning(plain(trouble), icon=":material/cloud_off:")
    with st.container(horizontal=True, vertical_alignment="center"):
        is_started = st.button(
            "Start training", type="primary", icon=":material/rocket_launch:", key="start"
        )
        st.caption(
            f"Takes about {describe_duration(took_s)} on this machine. It goes on when you close "
            "this page."
        )
    if is_started:
        start_run(params)


actor = require_page(Permission.RUN_JOBS)
RUNS = "pages/train/runs.py"
THRESHOLDS = [3.0, 3.5, 4.0, 4.5, 5.0]
st.title("Launch training")
st.caption(
    "A reward model learns from ratings which completions people find good. It can then rerank "
    "candidates by how likely they are to please."
)
with reporting():
    params = ask_params()
    ready, took_s = read_readiness(actor, params.source, params.threshold)
    if ready.have == 0 and not ready.counts.left_out:
        empty_state(
            "No ratings yet",
            f"{ready.need} rated interactions are needed to train a reward model.",
            page="pages/admin/transfer.py",
            page_label="Import some, or rate",
        )
    else:
        show_data(ready)
        if ready.is_ready:
            show_start(params, took_s)
        else:
            show_obstacle(ready)
