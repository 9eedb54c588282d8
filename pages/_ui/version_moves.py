"""Moving production to a version, on or back: the buttons, and the dialogs that ask first."""

import uuid
from collections.abc import Callable, Sequence

import streamlit as st

from pages._ui.demo_mark import draw_mark, read_marks
from pages._ui.gate_results import forget_results, read_results, show_results
from pages._ui.guard import require_page
from pages._ui.messages import plain, show_error
from pages._ui.state import notify
from pages._ui.version_panel import badges_of
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import RlhfError
from rlhf_core.gates.rules import NEVER_OVERRIDDEN
from rlhf_core.gates.service import promote_by_gates, roll_back_to, verify_files
from rlhf_core.gates.views import GateResult, list_blocking
from rlhf_core.registry import service
from rlhf_core.registry.views import AliasView, ModelVersionView
from rlhf_core.release.assignment import read_running
from rlhf_core.store.engine import get_store

_QUESTION = "version_question"  # (what is asked, version id, revision seen) of the open dialog


def _ask(what: str, version: ModelVersionView, revision: int) -> None:
    """Open a dialog at the next run. It keeps the revision that this person saw."""
    st.session_state[_QUESTION] = (what, version.id, revision)
    forget_results()


def _forget_question() -> None:
    st.session_state.pop(_QUESTION, None)


def _move(
    change: Callable[..., AliasView],
    target: object,
    version: ModelVersionView,
    *,
    reason: str,
    revision: int,
    **more: object,
) -> None:
    """Move the alias; a lost race or a broken rule stays in the dialog as a sentence."""
    actor = require_page(Permission.PROMOTE_MODELS)  # a dialog reruns without the page's guard
    try:
        with get_store().reading() as db:
            verify_files(db, version.id, actor=actor)
        with get_store().writing() as db:
            moved = change(
                db, target, actor=actor, reason=reason, expected_revision=revision, **more
            )
    except RlhfError as error:
        show_error(error)
        return
    _forget_question()
    notify(f"{plain(moved.model_name)} v{moved.number} is production.")
    st.rerun()


@st.dialog("Promote to production", width="medium", on_dismiss=_forget_question)
def _ask_to_promote(version: ModelVersionView, serving: str, revision: int, actor: Actor) -> None:
    st.markdown(
        f"**{plain(version.name)}** will serve every request in place of {plain(serving)}, within "
        "about a second. You can roll back at any time."
    )
    _tell_what_ends(version)
    reason, override, is_sure = ask_why_and_name(version.id, version.name, actor)
    if st.button("Promote", type="primary", key="promote_confirm", disabled=not is_sure):
        _move(promote_by_gates, version.id, version, reason=reason, revision=revision,
              override_reason=override)  # fmt: skip


def ask_why_and_name(
    version_id: uuid.UUID, name: str, actor: Actor
) -> tuple[str, str | None, bool]:
    """What the rules say of a promotion. Returns why, why rules are passed over, and if sure."""
    results = read_results(version_id, actor)
    show_results(results, key="promote_gates")
    reason = st.text_area("Why? Kept in the history", key="promote_reason", height=80)
    override, may_move = ask_to_override(list_blocking(results), actor)
    typed = st.text_input(f"Type {plain(name)} to confirm", key="promote_typed", live=True)
    return reason, override, may_move and typed.strip() == name


def ask_to_override(blocking: Sequence[GateResult], actor: Actor) -> tuple[str | None, bool]:
    """Why rules are passed over (None: none is), and whether this person may go on at all."""
    if not blocking:
        return None, True
    if any(result.kind in NEVER_OVERRIDDEN for result in blocking):
        st.error("Its files are damaged: no reason passes over that.", icon=":material/block:")
        return None, False
    if not actor.may(Permission.OVERRIDE_GATES):
        st.warning(
            "It does not keep the rules. Mend that, or ask an admin to pass over them.",
            icon=":material/block:",
        )
        return None, False
    reason = st.text_area(
        f"Why do you pass over {len(blocking)} of the rules? Kept in the audit",
        key="promote_override", height=80,
    )  # fmt: skip
    return reason, True


def _tell_what_ends(version: ModelVersionView) -> None:
    """A canary or a test on the model ends when production moves."""
    with get_store().reading() as db:
        running = read_running(db, version.model_name)
    if running is not None:
        st.caption(
            f"A deployment with {running.traffic_percent:g} % of the traffic runs on this model: "
            "it ends with this move."
        )


@st.dialog("Roll back", width="medium", on_dismiss=_forget_question)
def _ask_to_roll_back(version: ModelVersionView, serving: str, revision: int, actor: Actor) -> None:
    st.markdown(f"**{plain(version.name)}** will serve again in place of {plain(serving)}.")
    _tell_what_ends(version)
    blocking = list_blocking(read_results(version.id, actor, to_roll_back=True))
    if blocking:
        show_results(blocking, key="rollback_gates")
    reason = st.text_area("Why? Kept in the history", key="rollback_reason", height=80)
    override, may_move = ask_to_override(blocking, actor)
    label = f"Roll back to v{version.number}"
    if st.button(label, type="primary", key="rollback_confirm", disabled=not may_move):
        _move(roll_back_to, version.model_name, version, reason=reason, revision=revision,
              version_id=version.id, override_reason=override)  # fmt: skip


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
        target = previous if version.id == alias.version_id else _find_earlier(version, actor)
        if target is not None:
            st.button(
                f"Roll back to v{target.number}", icon=":material/undo:", key="rollback",
                on_click=_ask, args=("rollback", target, alias.revision),
            )  # fmt: skip


def _find_earlier(version: ModelVersionView, actor: Actor) -> ModelVersionView | None:
    """The version itself, if it served once: a roll back may go there at once."""
    with get_store().reading() as db:
        targets = service.list_roll_back_targets(db, version.model_name, actor=actor)
    return version if version.id in targets else None


def ask_what_was_asked(versions: Sequence[ModelVersionView], serving: str) -> None:
    """Open the dialog that a button asked for; at the end of the page."""
    what, version_id, revision = st.session_state.get(_QUESTION, (None, None, 0))
    asked = next((version for version in versions if version.id == version_id), None)
    if asked is None:
        _forget_question()
        return
    ask = _ask_to_promote if what == "promote" else _ask_to_roll_back
    ask(asked, serving, revision, require_page(Permission.READ_MODELS))
