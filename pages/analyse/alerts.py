"""Alerts: what is wrong now, the rules that watch, and what was."""

from datetime import timedelta

import streamlit as st

from pages._ui.alert_list import show_alert, show_resolved, show_troubled
from pages._ui.alert_rules import show_rules, show_unreadable
from pages._ui.guard import require_page
from pages._ui.messages import reporting
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.alerts.deliveries import list_troubled
from rlhf_core.alerts.service import list_alerts, list_rules, list_unreadable_rules
from rlhf_core.clock import utcnow
from rlhf_core.jobs.heartbeats import list_workers
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import AlertState

actor = require_page(Permission.READ_ANALYTICS)
UNRESOLVED = (AlertState.OPEN, AlertState.ACKNOWLEDGED)
KEPT_FOR = timedelta(days=30)
TROUBLE_FOR = timedelta(days=7)
st.title("Alerts")
show_notices()
with reporting():
    now = utcnow()
    with get_store().reading() as db:
        rules = list_rules(db, actor=actor)
        unreadable = list_unreadable_rules(db, actor=actor)
        unresolved = list_alerts(db, actor=actor, states=UNRESOLVED)
        resolved = list_alerts(
            db, actor=actor, states=[AlertState.RESOLVED], since=now - KEPT_FOR, limit=100
        )
        troubled = list_troubled(db, actor=actor, since=now - TROUBLE_FOR)
        has_worker = any(worker.is_alive for worker in list_workers(db))
    if not has_worker and any(rule.is_enabled for rule in rules):
        st.warning(
            "No worker is alive: rules are not looked at, and nothing is sent, until one starts "
            "(`make run`, or `python -m rlhf_core worker`).",
            icon=":material/cloud_off:",
        )
    if unresolved:
        by_id = {rule.id: rule for rule in rules}
        for alert in unresolved:
            show_alert(alert, by_id.get(alert.rule_id))
    elif rules and has_worker:
        st.success("All is well: no alert is open.", icon=":material/check_circle:")
    elif rules:
        st.caption("No alert is open.")
    if troubled:
        show_troubled(troubled)
    st.header("Rules")
    st.caption(
        "Workers look at each rule every minute (agreement and drift: every hour). An alert opens "
        "once, and resolves by itself when all is well again; too little data leaves it open."
    )
    show_unreadable(unreadable)
    show_rules(rules, actor)
    if resolved:
        st.header("Resolved in the last 30 days")
        show_resolved(resolved)
