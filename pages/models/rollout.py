"""Rollout: a version on part of the traffic, what users make of it, and the decision."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.rollout_history import show_decisions, show_history, show_last, show_live_at
from pages._ui.rollout_live import show_live
from pages._ui.rollout_moves import ask_what_was_asked, show_moves
from pages._ui.rollout_start import ask_to_start, show_start
from pages._ui.rollout_words import KIND_NAMES, STATE_BADGES, name_deployment
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.registry import service
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release.service import list_deployments
from rlhf_core.release.starting import SERVED
from rlhf_core.release.views import DeploymentView
from rlhf_core.store.engine import get_store


def choose_model(names: list[str]) -> str:
    """Which model: that of `?model=`, else the first."""
    if len(names) == 1:
        return names[0]
    wanted = st.query_params.get("model")
    chosen = st.segmented_control(
        "Model", names, format_func=lambda name: MODEL_WORDS[name],
        default=wanted if wanted in names else names[0], required=True, key="rollout_model",
    )  # fmt: skip
    return str(chosen)


def show_running(deployment: DeploymentView) -> None:
    """What runs: its head, the buttons, the figures, and who decided what."""
    label, icon, color = STATE_BADGES[deployment.state]
    with st.container(horizontal=True, vertical_alignment="center", key="rollout_head"):
        st.header(plain(name_deployment(deployment)), width="content")
        st.badge(label, icon=icon, color=color)
        st.badge(f"{deployment.traffic_percent:g} % of the users", color="blue")
    st.caption(
        f"{KIND_NAMES[deployment.kind]} since {deployment.started_at:%Y-%m-%d %H:%M} UTC, by "
        f"{plain(deployment.created_by or 'command line')}: {plain(deployment.reason or '')}"
    )
    if actor.may(Permission.PROMOTE_MODELS):
        show_moves(deployment)
    show_live(deployment)
    if deployment.control_prompt or deployment.treatment_prompt:
        with st.expander("System prompts", key="rollout_prompts"):
            for side, prompt in (
                ("Control", deployment.control_prompt),
                ("Treatment", deployment.treatment_prompt),
            ):
                st.caption(side)
                st.text(prompt or "None")
    with st.expander("Decisions", icon=":material/history:", key="rollout_decided"):
        show_decisions(deployment)


def show_next(versions: list[ModelVersionView], production: ModelVersionView | None) -> None:
    """Nothing runs: what could be started."""
    if production is None:
        empty_state(
            "No version serves yet",
            "Promote a version first: a canary is compared with what serves.",
            icon=":material/deployed_code:",
            page="pages/models/registry.py",
            page_label="Models",
        )
        return
    st.caption(f"{plain(production.name)} serves every request.")
    if not actor.may(Permission.PROMOTE_MODELS):
        st.caption(f"Your role, {actor.role.value}, may look; starting asks for another one.")
        return
    st.header("Start")
    show_start(production.model_name, versions, production, actor)


actor = require_page(Permission.READ_MODELS)
MODEL_WORDS = {service.REWARD_MODEL: "Reward model", service.POLICY_MODEL: "Assistant"}
st.title("Rollout")
show_notices()
with reporting():
    with get_store().reading() as db:
        every = service.list_versions(db, actor=actor)
    names = [name for name in SERVED if any(each.model_name == name for each in every)]
    if not names:
        empty_state(
            "No model yet",
            "Train two versions: the first one serves, the second one is tried on a few users.",
            icon=":material/science:",
            page="pages/train/launch.py",
            page_label="Launch training",
        )
        st.stop()
    name = choose_model(names)
    versions = [version for version in every if version.model_name == name]
    with get_store().reading() as db:
        deployments = list_deployments(db, actor=actor, model_name=name, limit=200)
        alias = service.get_alias(db, name, actor=actor)
    production = next((each for each in versions if each.id == alias.version_id), None)
    running = next((each for each in deployments if each.is_running), None)
    ended = [each for each in deployments if not each.is_running]
    if running is not None:
        show_running(running)
    else:
        if ended:
            show_last(ended[0])
        show_next(versions, production)
    if ended:
        st.header("Before")
        show_history(ended, actor)
    st.header("What was live")
    show_live_at(name, actor)
    ask_what_was_asked(running)
    if running is None:
        ask_to_start()
