"""Experts speak against a version, and take their word back."""

import streamlit as st

from pages._ui.gate_results import forget_results
from pages._ui.guard import require_page
from pages._ui.messages import plain, reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.gates.service import list_vetoes, set_veto, withdraw_veto
from rlhf_core.gates.views import VetoView
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Role


def show_vetoes(version: ModelVersionView, actor: Actor) -> None:
    """The vetoes against a version; whoever settles disputes may add one."""
    with get_store().reading() as db:
        vetoes = list_vetoes(db, version.id, actor=actor)
    standing = [one for one in vetoes if one.withdrawn_at is None]
    st.markdown("**Experts' vetoes**")
    if not standing:
        st.caption("None stands against this version.")
    for veto in standing:
        _show_standing(veto, actor)
    past = [one for one in vetoes if one.withdrawn_at is not None]
    if past:
        with st.expander(f"{len(past)} withdrawn", key="vetoes_past"):
            for veto in past:
                st.caption(f"{_say(veto)} Withdrawn {veto.withdrawn_at:%Y-%m-%d %H:%M} UTC.")
    is_own = any(one.account_id == actor.account_id for one in standing)
    if actor.may(Permission.ADJUDICATE) and not is_own:
        with st.popover("Veto this version", icon=":material/front_hand:", key="veto_open"):
            _ask(version)


def _show_standing(veto: VetoView, actor: Actor) -> None:
    with st.container(border=True, key=f"veto_{veto.id}"):
        st.badge("Veto", icon=":material/front_hand:", color="red")
        st.markdown(_say(veto))
        may_settle = actor.may(Permission.ADJUDICATE)
        if not may_settle or (veto.account_id != actor.account_id and actor.role is not Role.ADMIN):
            return
        with st.popover("Withdraw it", icon=":material/undo:", key=f"veto_back_{veto.id}"):
            reason = st.text_area("Why? Kept in the audit", height=80, key=f"veto_why_{veto.id}")
            if st.button("Withdraw", type="primary", key=f"veto_withdraw_{veto.id}"):
                with reporting():
                    me = require_page(Permission.ADJUDICATE)
                    with get_store().writing() as db:
                        withdraw_veto(db, veto.id, actor=me, reason=reason)
                    _done("The veto is withdrawn.")


def _ask(version: ModelVersionView) -> None:
    st.caption("It is not promoted, and gets no share of the traffic, while your veto stands.")
    reason = st.text_area("Why? Everybody sees it", height=80, key="veto_reason")
    if st.button("Veto", type="primary", key="veto_set"):
        with reporting():
            actor = require_page(Permission.ADJUDICATE)
            with get_store().writing() as db:
                set_veto(db, version.id, actor=actor, reason=reason)
            _done(f"Your veto stands against {plain(version.name)}.")


def _done(message: str) -> None:
    forget_results()
    notify(message)
    st.rerun()


def _say(veto: VetoView) -> str:
    who = "The command line" if veto.who is None else plain(veto.who)
    return f"{who}, {veto.created_at:%Y-%m-%d %H:%M} UTC: {plain(veto.reason)}"
