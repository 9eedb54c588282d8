"""Gates: what a version must show before it reaches users."""

import streamlit as st

from pages._ui.gate_rules import edit_rule, show_rules
from pages._ui.guard import require_page
from pages._ui.messages import plain, reporting
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.gates.service import list_rules
from rlhf_core.registry.service import list_versions
from rlhf_core.store.engine import get_store

actor = require_page(Permission.READ_MODELS)
st.title("Gates")
show_notices()
st.caption(
    "What a version must show before it reaches users. A rule that blocks is passed over by an "
    "admin only, with a reason that stays in the audit; damaged files never. Rules on files, data "
    "and vetoes also decide on a share of the traffic."
)
with reporting():
    with get_store().reading() as db:
        names = sorted({version.model_name for version in list_versions(db, actor=actor)})
    model_name = (
        st.segmented_control(
            "For",
            ["", *names],
            default="",
            format_func=lambda name: plain(name) or "All models",
            required=True,
            key="rules_model",
        )
        or None
    )
    with get_store().reading() as db:
        rules = list_rules(db, actor=actor, model_name=model_name)
    show_rules(rules)
    if actor.may(Permission.OVERRIDE_GATES):
        with st.container(border=True, key="rule_editor", width=560):
            st.subheader("Change a rule")
            edit_rule(rules, model_name)
    else:
        st.caption("An admin may change the rules.")
