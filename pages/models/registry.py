"""Models: every version, its figures, which one serves, and moving that on or back."""

from collections.abc import Callable

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import empty_state, plain, reporting, show_error
from pages._ui.rerank_box import show_rerank_box, show_serving_state
from pages._ui.state import notify, show_notices
from pages._ui.version_panel import (
    badges_of,
    show_history,
    show_notes,
    show_version,
    show_version_table,
)
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.registry import service
from rlhf_core.registry.views import AliasView, ModelVersionView
from rlhf_core.store.engine import get_store


def choose_version(versions: list[ModelVersionView]) -> ModelVersionView:
    """The version of `?version=`; else the one in production, else the newest."""
    wanted = st.query_params.get("version")
    found = [version for version in versions if str(version.id) == wanted]
    return (found or [version for version in versions if version.aliases] or versions)[0]


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


actor = require_page(Permission.READ_MODELS)
QUESTION = "version_question"  # (what is asked, version id, revision seen) of the open dialog
st.title("Models")
show_notices()
with reporting():
    with get_store().reading() as db:
        every = service.list_versions(db, actor=actor)
    names = sorted({version.model_name for version in every})
    if not every:
        empty_state(
            "No model yet",
            "Train a reward model from the ratings: it appears here as version 1.",
            icon=":material/deployed_code:",
            page="pages/train/launch.py",
            page_label="Launch training",
        )
        st.stop()
    first = names.index(service.REWARD_MODEL) if service.REWARD_MODEL in names else 0
    name = names[0] if len(names) == 1 else st.selectbox("Model", names, first, key="model")
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
    show_version(selected)
    show_notes(selected, actor)
    st.header("History of production")
    show_history(history)
    if actor.may(Permission.SCORE) and name == service.REWARD_MODEL:
        st.header("Try it")
        show_rerank_box()
    what, version_id, revision = st.session_state.get(QUESTION, (None, None, 0))
    asked = next((version for version in versions if version.id == version_id), None)
    if asked is None:
        forget_question()
    elif what == "promote":
        ask_to_promote(asked, serving, revision)
    else:
        ask_to_roll_back(asked, serving, revision)
