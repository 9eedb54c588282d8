"""Decisions on what runs: more of the traffic, all of it, none; each asks first."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages._ui.gate_results import forget_results, read_results, show_results
from pages._ui.guard import require_page
from pages._ui.messages import plain, show_error
from pages._ui.rollout_words import KIND_NAMES, find_next_step, name_deployment
from pages._ui.state import notify
from pages._ui.version_moves import ask_to_override, ask_why_and_name
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.gates.deployments import promote_deployment, set_traffic_by_gates
from rlhf_core.gates.service import MAX_SMALL_SHARE, verify_files
from rlhf_core.gates.views import list_blocking
from rlhf_core.release.service import end_deployment
from rlhf_core.release.starting import MAX_PERCENT
from rlhf_core.release.views import DeploymentView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DeploymentState

_QUESTION = "rollout_question"  # (what is asked, deployment id, revision seen) of the open dialog


def show_moves(deployment: DeploymentView) -> None:
    """The buttons."""
    step = find_next_step(deployment.traffic_percent)
    is_prompts = deployment.version_id == deployment.baseline_version_id
    with st.container(horizontal=True, key="rollout_moves"):
        label = "Change the share" if step is None else f"Next step: {step:g} %"
        st.button(label, icon=":material/stairs:", key="rollout_step",
                  type="secondary" if step is None else "primary",
                  on_click=_ask, args=("step", deployment))  # fmt: skip
        if not is_prompts:
            st.button("Promote to 100 %", icon=":material/rocket_launch:", key="rollout_promote",
                      type="primary" if step is None else "secondary",
                      on_click=_ask, args=("promote", deployment))  # fmt: skip
        st.button("Roll back", icon=":material/undo:", key="rollout_back",
                  on_click=_ask, args=("back", deployment))  # fmt: skip
        st.button("Stop", icon=":material/stop_circle:", key="rollout_stop",
                  on_click=_ask, args=("stop", deployment))  # fmt: skip


def _ask(what: str, deployment: DeploymentView) -> None:
    """Open a dialog at the next run. It keeps the revision that this person saw."""
    st.session_state[_QUESTION] = (what, deployment.id, deployment.revision)
    forget_results()


def _forget_question() -> None:
    st.session_state.pop(_QUESTION, None)


def _change(
    change: Callable[..., DeploymentView], said: str, deployment: DeploymentView, **fields: Any
) -> None:
    """Decide; a lost race stays in the dialog as a sentence."""
    actor = require_page(Permission.PROMOTE_MODELS)  # a dialog reruns without the page's guard
    try:
        with get_store().reading() as db:
            verify_files(db, deployment.version_id, actor=actor)
        with get_store().writing() as db:
            change(db, deployment.id, actor=actor, **fields)
    except RlhfError as error:
        show_error(error)
        return
    _forget_question()
    notify(said)
    st.rerun()


@st.dialog("Change the share", width="medium", on_dismiss=_forget_question)
def _ask_share(deployment: DeploymentView, revision: int) -> None:
    st.markdown(
        f"{plain(name_deployment(deployment))} has **{deployment.traffic_percent:g} %** of the "
        "traffic. Who has the treatment keeps it while the share grows."
    )
    percent = st.number_input(
        "Share of the users, in percent", min_value=0.1, max_value=MAX_PERCENT,
        value=find_next_step(deployment.traffic_percent) or deployment.traffic_percent,
        step=5.0, format="%.1f", key="rollout_percent",
    )  # fmt: skip
    override, may_change = _ask_rules(deployment, percent)
    reason = st.text_area("Why? Kept in the history", key="rollout_reason", height=80)
    if st.button(f"Give it {percent:g} %", type="primary", key="rollout_confirm",
                 disabled=not may_change):  # fmt: skip
        _change(set_traffic_by_gates, f"{plain(deployment.name)} has {percent:g} % of the traffic.",
                deployment, percent=percent, expected_revision=revision, reason=reason,
                override_reason=override)  # fmt: skip


def _ask_rules(deployment: DeploymentView, percent: float) -> tuple[str | None, bool]:
    """What keeps the version from more of the traffic: why that is passed over, and if it may be.

    Nothing is asked of less traffic, nor of a system prompt.
    """
    is_prompts = deployment.version_id == deployment.baseline_version_id
    if is_prompts or percent <= deployment.traffic_percent:
        return None, True
    actor = require_page(Permission.PROMOTE_MODELS)
    is_small = percent <= MAX_SMALL_SHARE
    blocking = list_blocking(read_results(deployment.version_id, actor, for_share=is_small))
    if blocking:
        show_results(blocking, key="rollout_gates")
    return ask_to_override(blocking, actor)


@st.dialog("Promote to production", width="medium", on_dismiss=_forget_question)
def _ask_to_promote(deployment: DeploymentView, revision: int) -> None:
    actor = require_page(Permission.PROMOTE_MODELS)
    name = deployment.name
    st.markdown(
        f"**{plain(name)}** will serve every request in place of v{deployment.baseline_number}, "
        f"within about a second, and what runs with {deployment.traffic_percent:g} % of the "
        "traffic ends. You can roll back at any time."
    )
    reason, override, is_sure = ask_why_and_name(deployment.version_id, name, actor)
    if st.button("Promote", type="primary", key="promote_confirm", disabled=not is_sure):
        _change(promote_deployment, f"{plain(name)} is production.", deployment, reason=reason,
                expected_revision=revision, override_reason=override)  # fmt: skip


@st.dialog("Roll back", width="medium", on_dismiss=_forget_question)
def _ask_to_roll_back(deployment: DeploymentView, revision: int) -> None:
    st.markdown(
        f"**{plain(deployment.name)}** leaves within about a second: "
        f"v{deployment.baseline_number} answers every request again."
    )
    _ask_to_end(deployment, revision, DeploymentState.ROLLED_BACK, "Roll back")


@st.dialog("Stop", width="medium", on_dismiss=_forget_question)
def _ask_to_stop(deployment: DeploymentView, revision: int) -> None:
    st.markdown(
        f"The {KIND_NAMES[deployment.kind][0].lower()}{KIND_NAMES[deployment.kind][1:]} ends "
        f"without a word against **{plain(deployment.name)}**: v{deployment.baseline_number} "
        "answers every request again."
    )
    _ask_to_end(deployment, revision, DeploymentState.STOPPED, "Stop")


def _ask_to_end(
    deployment: DeploymentView, revision: int, state: DeploymentState, label: str
) -> None:
    reason = st.text_area("Why? Kept in the history", key="rollout_reason", height=80)
    if st.button(label, type="primary", key="rollout_confirm"):
        done = "rolled back" if state is DeploymentState.ROLLED_BACK else "stopped"
        _change(end_deployment, f"{plain(deployment.name)} is {done}.", deployment,
                state=state, reason=reason, expected_revision=revision)  # fmt: skip


def ask_what_was_asked(deployment: DeploymentView | None) -> None:
    """Open the dialog that a button asked for; at the end of the page."""
    what, deployment_id, revision = st.session_state.get(_QUESTION, (None, None, 0))
    if deployment is None or deployment.id != deployment_id:
        _forget_question()
    elif what == "step":
        _ask_share(deployment, revision)
    elif what == "promote":
        _ask_to_promote(deployment, revision)
    elif what == "back":
        _ask_to_roll_back(deployment, revision)
    else:
        _ask_to_stop(deployment, revision)
