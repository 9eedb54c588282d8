"""Models: every version, its figures, which one serves, and moving that on or back."""

import streamlit as st

from pages._ui.evaluation_panel import choose_evaluation
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, reporting
from pages._ui.rerank_box import show_serving_state
from pages._ui.state import show_notices
from pages._ui.version_actions import show_actions
from pages._ui.version_choice import choose_model, choose_version
from pages._ui.version_import import ask_import
from pages._ui.version_labels import filter_by_tag
from pages._ui.version_moves import ask_what_was_asked, show_head
from pages._ui.version_panel import show_version_table
from pages._ui.version_search import ask_trained_on
from pages._ui.version_tabs import show_tabs
from rlhf_core.accounts.permissions import Permission
from rlhf_core.registry import service
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.store.engine import get_store

actor = require_page(Permission.READ_MODELS)
st.title("Models")
show_notices()
with reporting():
    with get_store().reading() as db:
        every = service.list_versions(db, actor=actor)
    if not every:
        empty_state(
            "No model yet",
            "Train a reward model from the ratings: it appears here as version 1.",
            icon=":material/deployed_code:",
            page="pages/train/launch.py",
            page_label="Launch training",
        )
        ask_import(actor)
        st.stop()
    with st.container(horizontal=True, vertical_alignment="bottom", key="registry_head"):
        name = choose_model(every)
        st.space("stretch")
        ask_import(actor)
    ask_trained_on(actor)
    versions = [version for version in every if version.model_name == name]
    with get_store().reading() as db:
        alias = service.get_alias(db, name, actor=actor)
        target = service.find_roll_back_target(db, name, actor=actor)
        history = service.alias_history(db, name, actor=actor, limit=200)
    serving = "nothing" if alias.number is None else f"{name} v{alias.number}"
    previous = next((version for version in versions if version.id == target), None)
    listed = filter_by_tag(versions)
    selected = choose_version(listed)
    if name == service.REWARD_MODEL:
        show_serving_state(None if alias.number is None else serving)
    show_version_table(listed, selected.id, target)
    show_head(selected, previous, alias, actor)
    show_actions(selected, actor)
    with get_store().reading() as db:
        evaluations = list_evaluations(db, selected.id, actor=actor)
    show_tabs(selected, choose_evaluation(selected, evaluations), history, actor)
    ask_what_was_asked(versions, serving)
