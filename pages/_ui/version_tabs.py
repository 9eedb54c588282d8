"""One version, a part at a time: the tabs of the page of models."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages._ui.evaluation_panel import show_ensemble, show_evaluation
from pages._ui.evaluation_rows import show_worst
from pages._ui.gate_results import show_gates
from pages._ui.gate_vetoes import show_vetoes
from pages._ui.policy_evaluation import show_policy_evaluation
from pages._ui.policy_panel import show_answers, show_audit
from pages._ui.policy_people import show_people
from pages._ui.rerank_box import show_rerank_box
from pages._ui.version_card import show_card
from pages._ui.version_files import show_files
from pages._ui.version_labels import show_labels
from pages._ui.version_lineage import show_lineage
from pages._ui.version_panel import (
    show_history,
    show_measures,
    show_report,
    show_training_figures,
)
from pages._ui.version_search import ask_live_at
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.registry import service
from rlhf_core.registry.evaluations import EvaluationView
from rlhf_core.registry.views import AliasChangeView, ModelVersionView
from rlhf_core.vocabulary import ModelKind

SHARED = ["Gates", "Lineage", "Card", "Files", "How it was made", "History of production"]


def show_tabs(
    version: ModelVersionView,
    evaluation: EvaluationView | None,
    history: Sequence[AliasChangeView],
    actor: Actor,
) -> None:
    """All that is known of the version."""
    is_policy, is_remote = version.is_policy, version.kind is ModelKind.POLICY_REMOTE
    own = ["Audit", "Answers", "Evaluation"] if is_policy else ["Evaluation", "Worst mistakes"]
    if is_remote:  # it was not made here, and cannot be examined here
        own = []
    can_try = actor.may(Permission.SCORE) and version.model_name == service.REWARD_MODEL
    places = st.tabs(
        [*own, *SHARED, *["Try it"] * (can_try and not is_policy)],
        key=f"version_tabs_{'remote' if is_remote else 'policy' if is_policy else 'reward'}",
        on_change="rerun",
    )
    if is_policy and not is_remote:
        _show_policy(places[: len(own)], version, evaluation, actor)
    elif not is_remote:
        _show_reward(places[: len(own)], version, evaluation, actor)
    gated, traced, carded, filed, made, moved, *tried = places[len(own) :]
    with gated:
        show_gates(version, actor)
        show_vetoes(version, actor)
    if traced.open:  # of many rows it takes seconds to find out
        with traced:
            show_lineage(version, actor)
    if carded.open:
        with carded:
            show_card(version, actor)
    with filed:
        show_files(version, actor)
    with made:
        if evaluation is not None:
            show_measures(version)
        show_report(version)
        show_labels(version, actor)
    with moved:
        ask_live_at(version.model_name, actor)
        show_history(history)
    for place in tried:
        with place:
            show_rerank_box()


def _show_reward(
    places: Sequence[DeltaGenerator],
    version: ModelVersionView,
    evaluation: EvaluationView | None,
    actor: Actor,
) -> None:
    examined, worst = places
    with examined:
        if evaluation is None:
            show_training_figures(version)
        else:
            show_evaluation(evaluation)
        show_ensemble(version)
    with worst:
        show_worst({} if evaluation is None else evaluation.examination, actor, key=str(version.id))


def _show_policy(
    places: Sequence[DeltaGenerator],
    version: ModelVersionView,
    evaluation: EvaluationView | None,
    actor: Actor,
) -> None:
    audited, answered, examined = places
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
