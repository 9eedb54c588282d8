"""Alerts: those that nobody resolved as cards, the others as a table."""

from contextlib import suppress
from datetime import timedelta

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages._ui.alert_actions import act
from pages._ui.insight_filters import write_filters
from pages._ui.insight_rows import link_to_rows
from pages._ui.job_panel import describe_duration
from pages._ui.messages import plain
from rlhf_core.alerts import service
from rlhf_core.alerts.deliveries import DeliveryView
from rlhf_core.alerts.findings import NOT_GIVEN
from rlhf_core.alerts.params import ApprovalBelow, NegativesSpike, Params
from rlhf_core.alerts.service import AlertView, RuleView
from rlhf_core.analytics.filters import Filters
from rlhf_core.clock import utcnow
from rlhf_core.vocabulary import AlertKind, AlertState, Verdict

# (page, label, icon) of where to look into it
_PLACES = {
    AlertKind.NO_FEEDBACK: ("pages/analyse/trends.py", "Trends", "trending_up"),
    AlertKind.AGREEMENT_BELOW: ("pages/analyse/raters.py", "Raters", "groups"),
    AlertKind.DRIFT: ("pages/models/registry.py", "Models", "deployed_code"),
    AlertKind.RUN_FAILED: ("pages/train/runs.py", "Runs", "monitoring"),
    AlertKind.CANARY_DUE: ("pages/models/registry.py", "Models", "deployed_code"),
}


def show_alert(alert: AlertView, rule: RuleView | None) -> None:
    """A card with what to do about it."""
    with st.container(border=True, key=f"alert_{alert.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            if alert.state is AlertState.OPEN:
                st.badge("Open", icon=":material/error:", color="red")
            else:
                st.badge("Acknowledged", icon=":material/visibility:", color="orange")
            name = f"**{plain(alert.rule)}**"
            if alert.slice_key:
                name += f" · {plain(alert.slice_key)}"
            st.markdown(name, width="content")
        st.markdown(plain(alert.said_last or alert.said))
        st.caption(plain(_say_when(alert)))
        with st.container(horizontal=True, vertical_alignment="center"):
            if alert.state is AlertState.OPEN:
                st.button(
                    "Acknowledge", icon=":material/visibility:", key=f"acknowledge_{alert.id}",
                    help="Says that somebody looks after it.",
                    on_click=act,
                    args=(service.acknowledge_alert, "It is acknowledged.", alert.id),
                )  # fmt: skip
            st.button(
                "Resolve", icon=":material/check:", key=f"resolve_{alert.id}",
                help="It opens again only after all was well once. Most resolve by themselves.",
                on_click=act, args=(service.resolve_alert, "It is resolved.", alert.id),
            )  # fmt: skip
            _link_to_cause(alert, rule)


def _say_when(alert: AlertView) -> str:
    since = describe_duration(max(0.0, (utcnow() - alert.opened_at).total_seconds()))
    said = f"Opened {alert.opened_at:%Y-%m-%d %H:%M} UTC, {since} ago"
    if alert.said_last and alert.said_last != alert.said:
        said += f", with: {alert.said}"
    if alert.acknowledged_at:
        by = f" by {alert.acknowledged_by}" if alert.acknowledged_by else ""
        said += f". Acknowledged{by} {alert.acknowledged_at:%Y-%m-%d %H:%M} UTC"
    return said


def _link_to_cause(alert: AlertView, rule: RuleView | None) -> None:
    if alert.kind in _PLACES:
        page, label, icon = _PLACES[alert.kind]
        query = write_filters(Filters()) if alert.kind is AlertKind.NO_FEEDBACK else None
        with suppress(StreamlitAPIException, KeyError):  # raised where this role has no such page
            st.page_link(page, label=label, icon=f":material/{icon}:", query_params=query,
                         width="content")  # fmt: skip
    elif rule is not None:
        filters = _filters_of(alert, rule.params)
        link_to_rows("What was bad", filters, verdict=Verdict.BAD)


def _filters_of(alert: AlertView, params: Params) -> Filters:
    """The slice and the days that the alert is about."""
    until = alert.opened_at.date()
    days = 7 if isinstance(params, NegativesSpike) else getattr(params, "days", 7)
    period = {"since": until - timedelta(days=days), "until": max(until, utcnow().date())}
    watched = getattr(params, "filters", Filters)(**period)
    split = "action_type"
    if isinstance(params, ApprovalBelow | NegativesSpike):
        split = params.split
    if not alert.slice_key or not split:
        return watched
    value = "" if alert.slice_key == NOT_GIVEN else alert.slice_key
    chosen = {f"{split}s": (value,)}
    return Filters(**{**{"sources": watched.sources}, **period, **chosen})


def show_resolved(alerts: list[AlertView]) -> None:
    """What was, newest first."""
    table = pd.DataFrame(
        [
            {
                "Opened (UTC)": f"{one.opened_at:%Y-%m-%d %H:%M}",
                "Resolved (UTC)": f"{one.resolved_at:%Y-%m-%d %H:%M}" if one.resolved_at else "",
                "By": one.resolved_by or "itself",
                "Rule": one.rule,
                "Slice": one.slice_key,
                "What was found": one.said,
            }
            for one in alerts
        ]
    )
    st.dataframe(table, hide_index=True, key="resolved_alerts", alt="Alerts that were resolved")


def show_troubled(deliveries: list[DeliveryView]) -> None:
    """Messages that did not arrive."""
    with st.expander(
        f"{len(deliveries)} messages have not arrived", icon=":material/unsubscribe:",
        key="troubled",
    ):  # fmt: skip
        for one in deliveries:
            again = (
                f"tried again {one.next_attempt_at:%Y-%m-%d %H:%M} UTC"
                if one.next_attempt_at
                else "given up"
            )
            name = one.rule or "Weekly report"
            said = f"{name} to {one.target}, try {one.num_attempts}, {again}: {one.error}"
            st.caption(plain(said))
