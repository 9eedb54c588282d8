"""Moving production to a version, on or back: the buttons, and the dialogs that ask first."""

from collections.abc import Callable, Sequence

import streamlit as st

from pages._ui.demo_mark import draw_mark, read_marks
from pages._ui.guard import require_page
from pages._ui.messages import plain, show_error
from pages._ui.state import notify
from pages._ui.version_panel import badges_of
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import RlhfError
from rlhf_core.registry import service
from rlhf_core.registry.views import AliasView, ModelVersionView
from rlhf_core.store.engine import get_store

_QUESTION = "version_question"  # (what is asked, version id, revision seen) of the open dialog


def _ask(what: str, version: ModelVersionView, revision: int) -> None:
    """Open a dialog at the next run. It keeps the revision that this person saw."""
    st.session_state[_QUESTION] = (what, version.id, revision)


def _forget_question() -> None:
    st.session_state.pop(_QUESTION, None)


def _move(change: Callable[..., AliasView], *target: object, reason: str, revision: int) -> None:
    """Move the alias; a lost race stays in the dialog as a sentence."""
    actor = require_page(Permission.PROMOTE_MODELS)  # a dialog reruns without the page's guard
    try:
        with get_store().writing() as db:
            moved = change(db, *target, actor=actor, reason=reason, expected_revision=revision)
    except RlhfError as error:
        show_error(error)
        return
    _forget_question()
    notify(f"{plain(moved.model_name)} v{moved.number} is production.")
    st.rerun()


@st.dialog("Promote to production", width="medium", on_dismiss=_forget_question)
def _ask_to_promote(version: ModelVersionView, serving: str, revision: int) -> None:
    st.markdown(
        f"**{plain(version.name)}** will serve every request in place of {plain(serving)}, within "
        "about a second. You can roll back at any time."
    )
    reason = st.text_area("Why? Kept in the history", key="promote_reason", height=80)
    typed = st.text_input(f"Type {plain(version.name)} to confirm", key="promote_typed", live=True)
    is_sure = typed.strip() == version.name
    if st.button("Promote", type="primary", key="promote_confirm", disabled=not is_sure):
        _move(service.promote_version, version.id, reason=reason, revision=revision)


@st.dialog("Roll back", width="medium", on_dismiss=_forget_question)
def _ask_to_roll_back(version: ModelVersionView, serving: str, revision: int) -> None:
    st.markdown(f"**{plain(version.name)}** will serve again in place of {plain(serving)}.")
    reason = st.text_area("Why? Kept in the history", key="rollback_reason", height=80)
    if st.button(f"Roll back to v{version.number}", type="primary", key="rollback_confirm"):
        _move(service.roll_back, version.model_name, reason=reason, revision=revision)


def show_head(
    version: ModelVersionView,
    previous: ModelVersionView | None,
    alias: AliasView,
    actor: Actor,
) -> None:
    """The version's name and state, and what may be done with it."""
    head = st.container(horizontal=True, vertical_alignment="center", key="version_head")
    with head:
        st.header(plain(version.name), width="content")
        for label, icon, color in badges_of(version, previous and previous.id):
            st.badge(label, icon=icon, color=color)
        draw_mark(version.id, read_marks().model_versions, head)
        st.space("stretch")
        if not actor.may(Permission.PROMOTE_MODELS):
            return
        if version.id != alias.version_id:
            st.button(
                "Promote", icon=":material/rocket_launch:", key="promote",
                on_click=_ask, args=("promote", version, alias.revision),
            )  # fmt: skip
        if previous is not None and version.id in (alias.version_id, previous.id):
            st.button(
                f"Roll back to v{previous.number}", icon=":material/undo:", key="rollback",
                on_click=_ask, args=("rollback", previous, alias.revision),
            )  # fmt: skip


def ask_what_was_asked(versions: Sequence[ModelVersionView], serving: str) -> None:
    """Open the dialog that a button asked for; at the end of the page."""
    what, version_id, revision = st.session_state.get(_QUESTION, (None, None, 0))
    asked = next((version for version in versions if version.id == version_id), None)
    if asked is None:
        _forget_question()
    elif what == "promote":
        _ask_to_promote(asked, serving, revision)
    else:
        _ask_to_roll_back(asked, serving, revision)
