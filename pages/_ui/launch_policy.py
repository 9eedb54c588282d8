"""Launching the training of a policy: way, rows, base, rewards, what it will cost, the button."""

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from pages._ui.data import (
    read_advice,
    read_model_versions,
    read_num_interactions,
    read_obstacles,
    read_readiness,
)
from pages._ui.job_panel import describe_estimate
from pages._ui.launch_choice import Rows, choose_rows, is_empty, show_version
from pages._ui.launch_policy_choice import (
    choose_base,
    choose_judge,
    choose_method,
    choose_rewards,
    list_rewards,
)
from pages._ui.launch_policy_options import ask_policy_options
from pages._ui.launch_reward import RUNS, show_under_way
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.readiness_panel import show_data
from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.errors import Conflict
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.machines import count_workers
from rlhf_core.jobs.policy_checks import PolicyEstimate, estimate_policy
from rlhf_core.jobs.policy_params import (
    ALONE,
    AUTO,
    MAX_PROCESSES,
    POLICY_LEARNERS,
    REWARDED,
    STARTER,
    RewardPart,
    TrainPolicyParams,
)
from rlhf_core.jobs.policy_rewards import list_rules
from rlhf_core.jobs.service import find_unfinished
from rlhf_core.jobs.train_policy import enqueue_train_policy
from rlhf_core.registry.service import POLICY_MODEL
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, Resource

REWARD_PART, POLICY_PART = "Reward model", "Policy"
PART_KEY = "launch_part"
ABOUT_TEST = "The policy never sees them; it is examined on them."
PRIORITIES = {5: "before others", 10: "in turn", 50: "after others"}
QUEUES = {Resource.GPU: "the GPU's queue", Resource.CPU: "the CPU's queue"}
MIB_A_GIB = 1024


def show_policy_launch(actor: Actor, start: TrainPolicyParams | None) -> None:
    """All of it; `start`: what the run that is copied was asked for."""
    learner = choose_method(read_advice(actor), None if start is None else start.learner)
    versions = read_model_versions(actor)
    rules = list_rules() if learner in REWARDED else {}
    offered = list_rewards(versions, list(rules))
    if learner in REWARDED and not offered:
        _ask_for_reward_model()
        return
    if learner is JobKind.TRAIN_STARTER:
        rows = Rows(DatasetParams(purpose=DatasetPurpose.SFT), test_percent=0.0)
    else:
        rows = choose_rows(actor, learner, [POLICY_LEARNERS[learner]], start, about_test=ABOUT_TEST)
    base, teacher = _ask_bases(learner, versions, start)
    rewards, judge = _ask_rewards(learner, versions, offered, start)
    options = ask_policy_options(learner, start)
    if teacher is not None:
        options["teacher"] = teacher
    where = _ask_where(learner, start)
    version = rows.version
    params = TrainPolicyParams(
        learner=learner,
        model=where.model.strip(),
        base=base,
        dataset="" if version is None else version.dataset,
        number=None if version is None else version.number,
        rows=rows.params,
        options=options,
        rewards=rewards,
        held_out=judge,
        num_processes=where.num_processes,
        num_machines=where.num_machines,
        test_percent=rows.test_percent,
    )
    num_rows = _show_rows(actor, rows, learner)
    if num_rows is not None:
        _show_start(actor, params, num_rows, where.resource, where.priority)


def _ask_for_reward_model() -> None:
    def go_there() -> None:
        st.session_state[PART_KEY] = REWARD_PART

    empty_state(
        "No reward model yet",
        "This method learns from a reward: train a reward model first. DPO and KTO need none.",
        icon=":material/trophy:",
    )
    st.button("Train a reward model", key="go_to_reward", on_click=go_there)


def _ask_bases(
    learner: JobKind, versions: Sequence[ModelVersionView], start: TrainPolicyParams | None
) -> tuple[str, str | None]:
    """The base, and of a distillation its teacher."""
    if learner is JobKind.TRAIN_STARTER:
        return STARTER, None
    begun = STARTER if start is None else start.base
    if learner is not JobKind.DISTIL:
        return choose_base(versions, begun), None
    left, right = st.columns(2)
    teacher = STARTER if start is None else str(start.options.get("teacher", STARTER))
    with left:
        teacher = choose_base(versions, teacher, label="Teacher", key="teacher")
    with right:
        return choose_base(versions, begun, label="Student"), teacher


def _ask_rewards(
    learner: JobKind,
    versions: Sequence[ModelVersionView],
    offered: dict[str, str],
    start: TrainPolicyParams | None,
) -> tuple[tuple[RewardPart, ...], str]:
    if learner not in REWARDED:
        return (), AUTO
    left, right = st.columns(2)
    with left:
        rewards = choose_rewards(versions, offered, () if start is None else start.rewards)
    with right:
        judge = choose_judge(versions, offered, rewards, AUTO if start is None else start.held_out)
    return rewards, judge


@dataclass(frozen=True)
class Where:
    """Under which name a run trains, where, and when its turn comes."""

    model: str
    resource: Resource
    priority: int
    num_processes: int
    num_machines: int


def _ask_where(learner: JobKind, start: TrainPolicyParams | None) -> Where:
    """Name, queue, turn, processes; machines where there are several."""
    with get_store().reading() as db:
        num_workers = count_workers(db, Resource.GPU)
    with st.expander("Name, queue and devices", key="where"):
        left, middle, right, last = st.columns(4, vertical_alignment="bottom")
        model = left.text_input(
            "Name of the policy",
            value=POLICY_MODEL if start is None else start.model,
            key="policy_name",
            help="The run registers the next version under this name. "
            f"{POLICY_MODEL} is the one that answers once it is promoted.",
        )
        resource = middle.selectbox(
            "Waits in",
            list(QUEUES),
            format_func=lambda each: QUEUES[each],
            key="resource",
            help="Where no GPU is free, a run waits for it, or trains on a CPU: slower, at once.",
        )
        priority = right.selectbox(
            "Its turn",
            list(PRIORITIES),
            index=1,
            format_func=lambda each: PRIORITIES[each],
            key="priority",
        )
        begun = 1 if learner in ALONE or start is None else start.num_processes
        processes = last.number_input(
            "Processes",
            min_value=1,
            max_value=1 if learner in ALONE else MAX_PROCESSES,
            value=begun,
            disabled=learner in ALONE,
            key=f"num_processes_{learner.value}",
            help="One for each GPU of the machine; they learn together.",
        )
        machines = 1
        if num_workers > 1 and learner not in ALONE and resource is Resource.GPU:
            machines = _ask_machines(num_workers, start)
    return Where(model, resource or Resource.GPU, int(priority or 10), int(processes), machines)


def _ask_machines(num_workers: int, start: TrainPolicyParams | None) -> int:
    machines = st.columns(4)[0].number_input(
        f"Machines (of {num_workers} workers)",
        min_value=1,
        max_value=num_workers,
        value=1 if start is None else min(num_workers, start.num_machines),
        key="num_machines",
        help="Workers that train together, with as many processes each. They share one "
        "RLHF_DATA_DIR. The run waits until all are free; one such run trains at a time.",
    )
    return int(machines)


def _show_rows(actor: Actor, rows: Rows, learner: JobKind) -> int | None:
    """What there is to learn from, and how many rows; None where there is nothing at all."""
    if rows.version is not None:
        show_version(rows.version, 1)
        return rows.version.num_rows
    if learner is JobKind.TRAIN_STARTER:  # it takes all of them, good and bad alike
        num_interactions = read_num_interactions(actor)
        st.metric("Interactions", f"{num_interactions:,}", border=True)
        return num_interactions
    ready = read_readiness(actor, rows.params)
    if is_empty(ready):
        empty_state(
            "Nothing to learn from yet",
            f"{ready.need} {plain(ready.what)} are needed to train a policy so.",
            page="pages/admin/transfer.py",
            page_label="Import some, or rate",
        )
        return None
    show_data(ready)
    return ready.have


def _show_start(
    actor: Actor, params: TrainPolicyParams, num_rows: int, resource: Resource, priority: int
) -> None:
    """The estimate, what stands in the way, and the button; or the equal run under way."""
    obstacles = read_obstacles(actor, params)
    with get_store().reading() as db:
        under_way = find_unfinished(db, params.dedup_key())
        trouble = find_worker_trouble(db, resource)
        estimate = None if obstacles else estimate_policy(db, params, num_rows=num_rows)
    if under_way is not None:
        show_under_way(under_way.id, under_way.state.value)
        return
    for obstacle in obstacles:
        st.warning(plain(obstacle), icon=":material/info:")
    if estimate is None:
        return
    _show_estimate(estimate)
    if trouble:
        st.warning(plain(trouble), icon=":material/cloud_off:")
    with st.container(horizontal=True, vertical_alignment="center"):
        is_started = st.button(
            "Start training", type="primary", icon=":material/rocket_launch:", key="start"
        )
        st.caption("It goes on when you close this page.")
    if is_started:
        _start_run(actor, params, resource, priority)


def _show_estimate(estimate: PolicyEstimate) -> None:
    with st.container(horizontal=True, key="estimate"):
        st.metric("Time, about", describe_estimate(estimate.took_s), border=True)
        st.metric("Memory, about", describe_memory(estimate.memory_mb), border=True)
        st.metric("Trains on", plain(estimate.device), border=True)
        if estimate.cost is not None:
            st.metric("Cost, about", f"{estimate.cost:,.2f}", border=True)
    icon = "check" if estimate.fits else "warning"
    st.markdown(f":material/{icon}: {plain(estimate.sentence)}")
    if estimate.wait:
        st.markdown(f":material/hourglass_top: {plain(estimate.wait)}")


def describe_memory(mebibytes: float) -> str:
    """`640 MiB`, `2.1 GiB`."""
    if mebibytes < MIB_A_GIB:
        return f"{mebibytes:,.0f} MiB"
    return f"{mebibytes / MIB_A_GIB:,.1f} GiB"


def _start_run(actor: Actor, params: TrainPolicyParams, resource: Resource, priority: int) -> None:
    """Queue the run, then go where it can be followed."""
    with reporting():
        try:
            with get_store().writing() as db:
                job = enqueue_train_policy(
                    db, actor=actor, params=params, resource=resource, priority=priority
                )
        except Conflict:  # another tab was quicker
            st.rerun()
        st.switch_page(RUNS, query_params={"run": str(job.id)})
