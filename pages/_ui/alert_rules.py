"""The rules: switched on and off, tried, changed, removed, added."""

import streamlit as st

from pages._ui.alert_actions import act
from pages._ui.alert_rule_form import ask_rule, show_past
from pages._ui.alert_words import describe_channels, describe_rule
from pages._ui.guard import admit
from pages._ui.messages import empty_state, plain
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.alerts import service
from rlhf_core.alerts.deliveries import send_test
from rlhf_core.alerts.messages import make_test_content
from rlhf_core.alerts.service import RuleView, UnreadableRule
from rlhf_core.clock import utcnow
from rlhf_core.errors import RlhfError
from rlhf_core.store.engine import get_store

CHANGED = "rule_to_change"  # holds the id of the rule that the dialog is about
ADDED = "num_rules_added"


def show_rules(rules: list[RuleView], actor: Actor) -> None:
    """All rules, the form of a new one, and the dialog of one that is being changed."""
    if not rules:
        empty_state(
            "No rule yet",
            "A rule watches the figures and opens an alert. Begin with the usual ones: they can be "
            "changed and switched off.",
            icon=":material/notification_add:",
        )
        with st.container(horizontal=True, horizontal_alignment="center"):
            st.button("Add the usual rules", type="primary", key="usual_rules", on_click=_add_usual)
    for rule in rules:
        _show_rule(rule)
    _show_new(actor)
    asked = next((one for one in rules if str(one.id) == st.session_state.get(CHANGED)), None)
    if asked:
        _change(asked, actor)


def show_unreadable(rules: list[UnreadableRule]) -> None:
    """Rules that nobody looks at, and what to do about them."""
    for rule in rules:
        with st.container(border=True, gap="xsmall", key=f"unreadable_{rule.id}"):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{plain(rule.name)}**", width="content")
                st.badge("Cannot be read", icon=":material/error:", color="red")
                st.space("stretch")
                _draw_remove(rule)
            st.caption(
                plain(
                    f"Kind {rule.kind}: {rule.problem} Nobody looks at this rule. Update to the "
                    "release that made it, or remove it and add it again."
                )
            )


def _show_rule(rule: RuleView) -> None:
    with st.container(border=True, gap="xsmall", key=f"rule_{rule.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            # As it is stored, whoever switched it: the widget's own memory may be older.
            st.session_state[f"on_{rule.id}"] = rule.is_enabled
            st.toggle(plain(rule.name), key=f"on_{rule.id}", on_change=_switch, args=(rule,))
            if rule.num_unresolved:
                st.badge(f"{rule.num_unresolved} unresolved", color="red")
            st.space("stretch")
            with st.container(horizontal=True, width="content"):
                _draw_buttons(rule)
        st.markdown(plain(describe_rule(rule.params)))
        seen = (
            f"looked at {rule.checked_at:%Y-%m-%d %H:%M} UTC"
            if rule.checked_at
            else "not looked at yet"
        )
        state = seen if rule.is_enabled else "switched off"
        st.caption(plain(f"{describe_channels(rule.channels)}; {state}; by {rule.created_by}"))


def _draw_buttons(rule: RuleView) -> None:
    if rule.channels.targets():
        st.button(
            "Send a test", icon=":material/send:", key=f"test_{rule.id}", type="tertiary",
            on_click=_test, args=(rule,),
        )  # fmt: skip
    if st.button("Change", icon=":material/edit:", key=f"change_{rule.id}", type="tertiary"):
        st.session_state[CHANGED] = str(rule.id)
    _draw_remove(rule)


def _draw_remove(rule: RuleView | UnreadableRule) -> None:
    st.button(
        "Remove", icon=":material/delete:", key=f"remove_{rule.id}", type="tertiary",
        help="Removes its alerts too.", on_click=_remove, args=(rule,),
    )  # fmt: skip


def _show_new(actor: Actor) -> None:
    """The form of a new one, empty again after each."""
    key = f"new{st.session_state.get(ADDED, 0)}"
    under = st.expander(
        "Add a rule", icon=":material/add:", key=f"add_rule_{key}", on_change="rerun"
    )
    if not under.open:
        return
    with under:
        wanted = ask_rule(key, actor)
        show_past(key, actor, wanted.params)
        is_off = bool(wanted.problem)
        if st.button("Add", type="primary", key="save_new", disabled=is_off):
            fields = {"name": wanted.name, "params": wanted.params, "channels": wanted.channels}
            if act(service.create_rule, "The rule is switched on.", **fields):
                st.session_state[ADDED] = st.session_state.get(ADDED, 0) + 1
            st.rerun()


def _forget_change() -> None:
    st.session_state.pop(CHANGED, None)


@st.dialog("Change the rule", width="large", on_dismiss=_forget_change)
def _change(rule: RuleView, actor: Actor) -> None:
    wanted = ask_rule("change", actor, rule)
    show_past("change", actor, wanted.params)
    is_asked = st.button("Save", type="primary", key="save_change", disabled=bool(wanted.problem))
    if is_asked:
        fields = {"name": wanted.name, "params": wanted.params, "channels": wanted.channels}
        act(service.set_rule, "The rule is changed.", rule.id, **fields)
        _forget_change()
        st.rerun()


def _add_usual() -> None:
    act(service.create_usual_rules, "The usual rules watch from now on.")


def _switch(rule: RuleView) -> None:
    is_on = bool(st.session_state[f"on_{rule.id}"])
    said = "It is switched on." if is_on else "It is switched off."
    act(service.set_rule, said, rule.id, is_enabled=is_on)


def _remove(rule: RuleView | UnreadableRule) -> None:
    act(service.delete_rule, "It is removed.", rule.id)


def _test(rule: RuleView) -> None:
    """Send a message to each address of the rule, and say of each whether it arrived."""
    actor = admit(Permission.MANAGE_ALERTS)
    if actor is None:
        return
    content = make_test_content(rule=rule.name, kind=rule.kind, at=utcnow())
    try:
        results = send_test(get_store(), rule.channels, content, actor=actor)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
        return
    for one in results:
        if one.error is None:
            notify(f"{plain(one.target)} took it.")
        else:
            notify(f"{plain(one.target)}: {plain(one.error)}", icon=":material/error:")
