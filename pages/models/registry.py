"""Models: every version, its figures, which one serves, and moving that on or back."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._ui.evaluation_panel import choose_evaluation, show_ensemble, show_evaluation
from pages._ui.evaluation_rows import show_worst
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, reporting
from pages._ui.policy_evaluation import show_policy_evaluation
from pages._ui.policy_panel import show_answers, show_audit
from pages._ui.policy_people import show_people
from pages._ui.rerank_box import show_rerank_box, show_serving_state
from pages._ui.state import show_notices
from pages._ui.version_actions import show_actions
from pages._ui.version_choice import choose_model, choose_version
from pages._ui.version_moves import ask_what_was_asked, show_head
from pages._ui.version_panel import (
    show_history,
    show_measures,
    show_notes,
    show_training_figures,
    show_version,
    show_version_table,
)
from rlhf_core.accounts.permissions import Permission
from rlhf_core.registry import service
from rlhf_core.registry.evaluations import EvaluationView, list_evaluations
from rlhf_core.registry.views import AliasChangeView, ModelVersionView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ModelKind


def show_tabs(
    version: ModelVersionView, evaluation: EvaluationView | None, history: Sequence[AliasChangeView]
) -> None:
    """All that is known of a reward model, a part at a time."""
    can_try = actor.may(Permission.SCORE) and version.model_name == service.REWARD_MODEL
    names = ["Evaluation", "Worst mistakes", "How it was made", "History of production"]
    examined, worst, made, moved, *tried = st.tabs([*names, *["Try it"] * can_try])
    with examined:
        if evaluation is None:
            show_training_figures(version)
        else:
            show_evaluation(evaluation)
        show_ensemble(version)
    with worst:
        show_worst({} if evaluation is None else evaluation.examination, actor, key=str(version.id))
    show_origin(version, evaluation, history, made, moved)
    for place in tried:
        with place:
            show_rerank_box()


def show_policy_tabs(
    version: ModelVersionView, evaluation: EvaluationView | None, history: Sequence[AliasChangeView]
) -> None:
    """All that is known of a policy, a part at a time."""
    names = ["Audit", "Answers", "Evaluation", "How it was made", "History of production"]
    audited, answered, examined, made, moved = st.tabs(names)
    with audited:
        show_audit(version)
    with answered:
        show_answers(version, actor)
    with examined:
        if evaluation is None:
            show_training_figures(version)
        else:
            show_policy_evaluation(evaluation)
            show_people(evaluation, actor)
    show_origin(version, evaluation, history, made, moved)


def show_origin(
    version: ModelVersionView,
    evaluation: EvaluationView | None,
    history: Sequence[AliasChangeView],
    made: DeltaGenerator,
    moved: DeltaGenerator,
) -> None:
    with made:
        if evaluation is not None:
            show_measures(version)
        show_version(version)
        show_notes(version, actor)
    with moved:
        show_history(history)


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
        st.stop()
    name = choose_model(every)
    versions = [version for version in every if version.model_name == name]
    with get_store().reading() as db:
        alias = service.get_alias(db, name, actor=actor)
        target = service.find_roll_back_target(db, name, actor=actor)
        history = service.alias_history(db, name, actor=actor, limit=200)
    serving = "nothing" if alias.number is None else f"{name} v{alias.number}"
    previous = next((version for version in versions if version.id == target), None)
    selected = choose_version(versions)
    if name == service.REWARD_MODEL:
        show_serving_state(None if alias.number is None else serving)
    show_version_table(versions, selected.id, target)
    show_head(selected, previous, alias, actor)
    show_actions(selected, actor)
    with get_store().reading() as db:
        evaluations = list_evaluations(db, selected.id, actor=actor)
    show = show_policy_tabs if selected.kind is ModelKind.POLICY else show_tabs
    show(selected, choose_evaluation(selected, evaluations), history)
    ask_what_was_asked(versions, serving)
