"""Launch training: choose a learner and rows, see whether they suffice, and press one button."""

import streamlit as st

from pages._ui.data import read_readiness
from pages._ui.guard import require_page
from pages._ui.job_panel import describe_estimate
from pages._ui.launch_choice import (
    Rows,
    choose_learner,
    choose_rows,
    find_recommendation,
    is_empty,
    show_version,
)
from pages._ui.launch_options import ask_ensemble, ask_options
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.readiness_panel import show_data, show_obstacle
from rlhf_core.accounts.permissions import Permission
from rlhf_core.dataset.readiness import MIN_ROWS
from rlhf_core.errors import Conflict
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.kinds import RESOURCES
from rlhf_core.jobs.train_reward import (
    TrainRewardParams,
    enqueue_train_reward,
    estimate_duration_s,
    find_under_way,
)
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind


def ask_params(learner: JobKind, rows: Rows) -> TrainRewardParams:
    """The rest of the parameters; the defaults are what most people want."""
    options = ask_options(learner)
    with st.expander("Ensemble, judge and name", key="ensemble"):
        seeds, with_judge = ask_ensemble()
        model = st.text_input(
            "Name of the model",
            value=REWARD_MODEL,
            key="model_name",
            help=f"The run registers the next version under this name. {REWARD_MODEL} is the one "
            "that ranks for the API once it is promoted.",
        )
    version = rows.version
    return TrainRewardParams(
        learner=learner,
        model=model.strip(),
        dataset="" if version is None else version.dataset,
        number=None if version is None else version.number,
        rows=rows.params,
        options=options,
        seeds=seeds,
        with_judge=with_judge,
        test_percent=rows.test_percent,
    )


def start_run(params: TrainRewardParams) -> None:
    """Queue the run, then go where it can be followed."""
    with reporting():
        try:
            with get_store().writing() as db:
                job = enqueue_train_reward(db, actor=actor, params=params)
        except Conflict:  # another tab was quicker
            st.rerun()
        st.switch_page(RUNS, query_params={"run": str(job.id)})


def show_start(params: TrainRewardParams, num_rows: int, num_prompts: int) -> None:
    """The button, or where the equal run is that is under way."""
    with get_store().reading() as db:
        under_way = find_under_way(db, params)
        trouble = find_worker_trouble(db, RESOURCES[params.learner])
        took_s = estimate_duration_s(db, params, num_rows=num_rows, num_prompts=num_prompts)
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
            f"Takes about {describe_estimate(took_s)} on this machine. It goes on when you close "
            "this page."
        )
    if is_started:
        start_run(params)


actor = require_page(Permission.RUN_JOBS)
RUNS = "pages/train/runs.py"
st.title("Launch training")
st.caption(
    "A reward model learns from feedback which completions people find good. It can then rerank "
    "candidates by how likely they are to please."
)
with reporting():
    learner = choose_learner(find_recommendation(actor))
    rows = choose_rows(actor, learner)
    params = ask_params(learner, rows)
    if rows.version is not None:
        if show_version(rows.version, MIN_ROWS[rows.version.purpose]):
            show_start(params, rows.version.num_rows, rows.version.num_groups)
    else:
        ready = read_readiness(actor, rows.params)
        if is_empty(ready):
            empty_state(
                "No ratings yet" if learner is not JobKind.TRAIN_STEPS else "No step labels yet",
                f"{ready.need} {plain(ready.what)} are needed to train a reward model.",
                page="pages/admin/transfer.py",
                page_label="Import some, or rate",
            )
        else:
            show_data(ready)
            if ready.is_ready:
                show_start(params, ready.have, int(ready.counts.get("prompts", 0)))
            else:
                show_obstacle(ready)
