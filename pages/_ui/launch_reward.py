"""Launching the training of a reward model: learner, rows, options, and the button."""

import streamlit as st

from pages._ui.data import read_readiness
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
from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.readiness import MIN_ROWS
from rlhf_core.errors import Conflict
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.kinds import RESOURCES
from rlhf_core.jobs.service import find_unfinished
from rlhf_core.jobs.train_params import LEARNERS
from rlhf_core.jobs.train_reward import (
    TrainRewardParams,
    enqueue_train_reward,
    estimate_duration_s,
)
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind

RUNS = "pages/train/runs.py"


def show_reward_launch(actor: Actor, start: TrainRewardParams | None) -> None:
    """All of it; `start`: what the run that is copied was asked for."""
    learner = choose_learner(find_recommendation(actor), None if start is None else start.learner)
    rows = choose_rows(actor, learner, LEARNERS[learner], start)
    params = _ask_params(learner, rows, start)
    if rows.version is not None:
        if show_version(rows.version, MIN_ROWS[rows.version.purpose]):
            _show_start(actor, params, rows.version.num_rows, rows.version.num_groups)
        return
    ready = read_readiness(actor, rows.params)
    if is_empty(ready):
        empty_state(
            "No ratings yet" if learner is not JobKind.TRAIN_STEPS else "No step labels yet",
            f"{ready.need} {plain(ready.what)} are needed to train a reward model.",
            page="pages/admin/transfer.py",
            page_label="Import some, or rate",
        )
        return
    show_data(ready)
    if ready.is_ready:
        _show_start(actor, params, ready.have, int(ready.counts.get("prompts", 0)))
    else:
        show_obstacle(ready)


def show_under_way(job_id: object, state: str) -> None:
    """Where the equal run is that is under way."""
    st.info(f"A run with these parameters is {state} already.", icon=":material/hourglass_top:")
    st.page_link(
        RUNS,
        label="Follow it",
        icon=":material/monitoring:",
        query_params={"run": str(job_id)},
    )


def _ask_params(learner: JobKind, rows: Rows, start: TrainRewardParams | None) -> TrainRewardParams:
    """The rest of the parameters; the defaults are what most people want."""
    is_alike = start is not None and start.learner is learner
    options = ask_options(learner, start.options if start is not None and is_alike else {})
    begin = start or TrainRewardParams()
    with st.expander("Ensemble, judge and name", key="ensemble"):
        seeds, with_judge = ask_ensemble(begin.seeds, begin.with_judge)
        model = st.text_input(
            "Name of the model",
            value=begin.model,
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


def _show_start(actor: Actor, params: TrainRewardParams, num_rows: int, num_prompts: int) -> None:
    """The button, or where the equal run is that is under way."""
    with get_store().reading() as db:
        under_way = find_unfinished(db, params.dedup_key())
        trouble = find_worker_trouble(db, RESOURCES[params.learner])
        took_s = estimate_duration_s(db, params, num_rows=num_rows, num_prompts=num_prompts)
    if under_way is not None:
        show_under_way(under_way.id, under_way.state.value)
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
        _start_run(actor, params)


def _start_run(actor: Actor, params: TrainRewardParams) -> None:
    """Queue the run, then go where it can be followed."""
    with reporting():
        try:
            with get_store().writing() as db:
                job = enqueue_train_reward(db, actor=actor, params=params)
        except Conflict:  # another tab was quicker
            st.rerun()
        st.switch_page(RUNS, query_params={"run": str(job.id)})
