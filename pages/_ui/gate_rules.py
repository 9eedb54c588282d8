"""The rules as a table, and the form that changes one."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import reporting
from pages._ui.state import notify
from pages._ui.word_table import show_word_table
from rlhf_core.accounts.permissions import Permission
from rlhf_core.gates.rules import SPECS, ParamSpec, RuleSpec
from rlhf_core.gates.service import reset_rules, set_rule
from rlhf_core.gates.views import RuleSource, RuleView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import GateKind

_SHOWN = "rule_shown"  # the rule as the form showed it first
_ROUND = "rule_round"  # counts the forms that were saved
SOURCES = {
    RuleSource.DEFAULT: "as delivered",
    RuleSource.ALL_MODELS: "set for all models",
    RuleSource.MODEL: "set for this model",
}


def show_rules(rules: Sequence[RuleView]) -> None:
    """One row a rule: what it asks, with its limits, and what follows from breaking it.

    Where each comes from is told as soon as one was changed.
    """
    frame = pd.DataFrame(
        {
            "Rule": [SPECS[rule.kind].title for rule in rules],
            "Breaking it": [_describe_force(rule) for rule in rules],
            "Limits": [_describe_limits(rule) for rule in rules],
            "What it asks": [SPECS[rule.kind].asks for rule in rules],
        }
    )
    if any(rule.source is not RuleSource.DEFAULT for rule in rules):
        frame["Comes from"] = [SOURCES[rule.source] for rule in rules]
    show_word_table(frame, key="gate_rules", alt="The rules, and what follows from breaking each")


def edit_rule(rules: Sequence[RuleView], model_name: str | None) -> None:
    """Choose a rule and change it. `model_name` None: for all models."""
    by_kind = {rule.kind: rule for rule in rules}
    kind = st.selectbox(
        "Rule", list(by_kind), format_func=lambda one: SPECS[one].title, key="rule_kind"
    )
    rule, spec = by_kind[kind], SPECS[kind]
    name = f"{model_name}_{kind.value}{st.session_state.get(_ROUND, '')}"
    if f"rule_on_{name}" not in st.session_state:  # the form is drawn anew, with what holds now
        st.session_state[_SHOWN] = rule
    st.caption(spec.asks)
    with st.form(f"rule_{name}", border=False):
        params = {param.name: _ask_limit(param, rule, name) for param in spec.params}
        is_on = st.checkbox("Ask it", rule.is_on, key=f"rule_on_{name}")
        is_required = st.checkbox(
            "Breaking it keeps a version from users", rule.is_required, key=f"rule_required_{name}"
        )
        must_be_measured = st.checkbox(
            "Not knowing keeps it from users, too", rule.must_be_measured, key=f"rule_must_{name}",
            help="As delivered not while it is the first version." if rule.spares_first else None,
        )  # fmt: skip
        if st.form_submit_button("Save the rule", type="primary", key="rule_save"):
            wanted = replace(rule, params=params, is_on=is_on, is_required=is_required,
                             must_be_measured=must_be_measured)  # fmt: skip
            with reporting():
                _save(spec, model_name, st.session_state[_SHOWN], wanted)
    is_own = rule.source is (RuleSource.ALL_MODELS if model_name is None else RuleSource.MODEL)
    if is_own and st.button("Take the change back", icon=":material/undo:", key="rule_reset"):
        with reporting():
            _reset(kind, model_name)


def _save(spec: RuleSpec, model_name: str | None, shown: RuleView, wanted: RuleView) -> None:
    """Send what this person changed only: somebody else may have changed the rest meanwhile."""
    actor = require_page(Permission.OVERRIDE_GATES)
    params = {name: value for name, value in wanted.params.items() if value != shown.params[name]}
    flags = {
        name: getattr(wanted, name)
        for name in ("is_on", "is_required", "must_be_measured")
        if getattr(wanted, name) is not getattr(shown, name)
    }
    if not params and not flags:
        st.info("Nothing was changed.", icon=":material/info:")
        return
    with get_store().writing() as db:
        set_rule(
            db,
            actor=actor,
            kind=spec.kind,
            model_name=model_name,
            params=params,
            **flags,
        )
    _draw_anew()
    notify(f"Saved: {spec.title}.")
    st.rerun()


def _reset(kind: GateKind, model_name: str | None) -> None:
    actor = require_page(Permission.OVERRIDE_GATES)
    with get_store().writing() as db:
        reset_rules(db, actor=actor, model_name=model_name, kind=kind)
    _draw_anew()
    notify(f"{SPECS[kind].title} is as before.")
    st.rerun()


def _draw_anew() -> None:
    """Let the form show what holds, in place of what it was filled with."""
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


def _ask_limit(param: ParamSpec, rule: RuleView, name: str) -> float | str:
    key = f"rule_{param.name}_{name}"
    value = rule.params[param.name]
    if param.is_text:
        return st.text_input(param.label, str(value), key=key)
    is_share = param.high is not None and param.high <= 1.0
    return st.number_input(
        param.label,
        min_value=float(param.low or 0.0),
        max_value=None if param.high is None else float(param.high),
        value=float(value),
        step=0.01 if is_share else 1.0,
        format="%.2f" if is_share else "%g",
        key=key,
    )


def _describe_force(rule: RuleView) -> str:
    if not rule.is_on:
        return "not asked"
    if not rule.is_required:
        return "warns"
    if not rule.must_be_measured:
        return "blocks"
    return "blocks, and not knowing too" + (" after the first" if rule.spares_first else "")


def _describe_limits(rule: RuleView) -> str:
    limits = []
    for param in SPECS[rule.kind].params:
        value = rule.params[param.name]
        if param.is_text:
            limits.append(f"{param.label.removesuffix(' (empty: any)')}: {value or 'any'}")
        else:
            limits.append(f"{param.label}: {value:g}")
    return "; ".join(limits) or "none"
