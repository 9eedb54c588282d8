"""Models: every version, its figures, which one serves, and moving that on or back."""

from collections.abc import Callable, Sequence

import streamlit as st

from pages._ui.evaluation_panel import choose_evaluation, show_ensemble, show_evaluation
from pages._ui.evaluation_rows import show_worst
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, plain, reporting, show_error
from pages._ui.rerank_box import show_rerank_box, show_serving_state
from pages._ui.state import notify, show_notices
from pages._ui.version_actions import show_actions
from pages._ui.version_choice import choose_model, choose_version
from pages._ui.version_panel import (
    badges_of,
    show_history,
    show_measures,
    show_notes,
    show_training_figures,
    show_version,
    show_version_table,
)
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.registry import service
from rlhf_core.registry.evaluations import EvaluationView, list_evaluations
from rlhf_core.registry.views import AliasChangeView, AliasView, ModelVersionView
from rlhf_core.store.engine import get_store


def ask(what: str, version: ModelVersionView, revision: int) -> None:
    """Open a dialog at the next run. It keeps the revision that this person saw."""
    st.session_state[QUESTION] = (what, version.id, revision)


def forget_question() -> None:
    st.session_state.pop(QUESTION, None)


def move(change: Callable[..., AliasView], *target: object, reason: str, revision: int) -> None:
    """Move the alias; a lost race stays in the dialog as a sentence."""
    actor = require_page(Permission.PROMOTE_MODELS)  # a dialog reruns without the page's guard
    try:
        with get_store().writing() as db:
            moved = change(db, *target, actor=actor, reason=reason, expected_revision=revision)
    except RlhfError as error:
        show_error(error)
        return
    forget_question()
    notify(f"{plain(moved.model_name)} v{moved.number} is production.")
    st.rerun()


@st.dialog("Promote to production", width="medium", on_dismiss=forget_question)
def ask_to_promote(version: ModelVersionView, serving: str, revision: int) -> None:
    st.markdown(
        f"**{plain(version.name)}** will serve every request in place of {plain(serving)}, within "
        "about a second. You can roll back at any time."
    )
    reason = st.text_area("Why? Kept in the history", key="promote_reason", height=80)
    typed = st.text_input(f"Type {plain(version.name)} to confirm", key="promote_typed", live=True)
    is_sure = typed.strip() == version.name
    if st.button("Promote", type="primary", key="promote_confirm", disabled=not is_sure):
        move(service.promote_version, version.id, reason=reason, revision=revision)


@st.dialog("Roll back", width="medium", on_dismiss=forget_question)
def ask_to_roll_back(version: ModelVersionView, serving: str, revision: int) -> None:
    st.markdown(f"**{plain(version.name)}** will serve again in place of {plain(serving)}.")
    reason = st.text_area("Why? Kept in the history", key="rollback_reason", height=80)
    if st.button(f"Roll back to v{version.number}", type="primary", key="rollback_confirm"):
        move(service.roll_back, version.model_name, reason=reason, revision=revision)


def show_head(
    version: ModelVersionView, previous: ModelVersionView | None, alias: AliasView
) -> None:
    """The version's name and state, and what may be done with it."""
    with st.container(horizontal=True, vertical_alignment="center", key="version_head"):
        st.header(plain(version.name), width="content")
        for label, icon, color in badges_of(version, previous and previous.id):
            st.badge(label, icon=icon, color=color)
        st.space("stretch")
        if not actor.may(Permission.PROMOTE_MODELS):
            return
        if version.id != alias.version_id:
            st.button(
                "Promote", icon=":material/rocket_launch:", key="promote",
                on_click=ask, args=("promote", version, alias.revision),
            )  # fmt: skip
        if previous is not None and version.id in (alias.version_id, previous.id):
            st.button(
                f"Roll back to v{previous.number}", icon=":material/undo:", key="rollback",
                on_click=ask, args=("rollback", previous, alias.revision),
            )  # fmt: skip


def show_tabs(
    version: ModelVersionView, evaluation: EvaluationView | None, history: Sequence[AliasChangeView]
) -> None:
    """All that is known of a version, a part at a time."""
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
    with made:
        if evaluation is not None:
            show_measures(version)
        show_version(version)
        show_notes(version, actor)
    with moved:
        show_history(history)
    for place in tried:
        with place:
            show_rerank_box()


actor = require_page(Permission.READ_MODELS)
QUESTION = "version_question"  # (what is asked, version id, revision seen) of the open dialog
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
    show_head(selected, previous, alias)
    show_actions(selected, actor)
    with get_store().reading() as db:
        evaluations = list_evaluations(db, selected.id, actor=actor)
    show_tabs(selected, choose_evaluation(selected, evaluations), history)
    what, version_id, revision = st.session_state.get(QUESTION, (None, None, 0))
    asked = next((version for version in versions if version.id == version_id), None)
    if asked is None:
        forget_question()
    elif what == "promote":
        ask_to_promote(asked, serving, revision)
    else:
        ask_to_roll_back(asked, serving, revision)
