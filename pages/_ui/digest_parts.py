"""The parts of the weekly report, made for paper as well: plain tables, no canvas but the chart."""

from datetime import date

import pandas as pd
import streamlit as st

from pages._ui.alert_actions import act
from pages._ui.insight_filters import name_value
from pages._ui.insight_rows import link_to_rows
from pages._ui.kpi_cards import KPIS, UNKNOWN, say_change
from pages._ui.messages import plain
from pages._ui.word_table import show_word_table
from rlhf_core.alerts.channels import Channels, list_channel_troubles, split_targets
from rlhf_core.alerts.digest import WEEK, Digest
from rlhf_core.alerts.digest_mail import DigestPlan, set_plan
from rlhf_core.alerts.service import AlertView
from rlhf_core.analytics.filters import Filters
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.vocabulary import Verdict

PRINT_STYLE = """<style>
@media print {
  [data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stToolbar"],
  [data-testid="stSidebarCollapsedControl"], [data-testid="stPageLink"], .modebar,
  .st-key-digest_controls, .st-key-digest_mail, .st-key-digest_days_table {
    display: none !important }
  .stApp, [data-testid="stAppViewContainer"], [data-testid="stMain"] {
    position: static !important; overflow: visible !important; height: auto !important;
    background: #fff !important }
  [data-testid="stMainBlockContainer"] { padding: 0 !important; max-width: none !important }
  html, body { background: #fff !important }
  .stApp * { color: #101828 !important; background-color: transparent !important }
  .stApp svg text { fill: #101828 !important }
  [data-testid="stMetric"], table, tr, [data-testid="stPlotlyChart"] { break-inside: avoid }
  h2, h3 { break-after: avoid }
}
</style>"""
PRINT_SCRIPT = """export default function ({ parentElement }) {
  const button = parentElement.querySelector('button')
  button.onclick = () => window.print()
}
"""
PRINT_BUTTON_STYLE = """
button { font: inherit; font-size: .9rem; color: var(--st-text-color);
  background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius);
  padding: .4rem .75rem; min-height: 2.5rem; cursor: pointer }
button:hover { border-color: var(--st-primary-color) }
button:focus-visible { outline: 3px solid var(--st-primary-color); outline-offset: 2px }
"""


def draw_print_button() -> None:
    """Opens the browser's print dialog; the page has a style for paper."""
    component = st.components.v2.component(
        "print_page",
        html="<button type='button'>Print\n</button>",
        css=PRINT_BUTTON_STYLE,
        js=PRINT_SCRIPT,
    )
    component(key="print_page")


def choose_week(newest: date, count: int = 26) -> date:
    """The Monday of a week; kept in the address."""
    # No format: the address holds what is shown.
    options = [(newest - WEEK * back).isoformat() for back in range(count)]
    chosen = st.selectbox("Week from Monday", options, key="week", bind="query-params", width=180)
    return date.fromisoformat(chosen)


def draw_figures(digest: Digest) -> None:
    """The key figures, and how they changed since the week before."""
    with st.grid(3, key="digest_figures"):
        for kpi in KPIS:
            value = kpi.read(digest.overview.now)
            change = say_change(kpi, digest.overview.now, digest.overview.before)
            st.metric(
                kpi.label,
                UNKNOWN if value is None else f"{kpi.scale * value:,.{kpi.decimals}f}{kpi.unit}",
                delta=change,
                delta_description=None if change is None else "to the week before",
                border=True,
                help=kpi.help,
            )


def draw_worst(digest: Digest) -> None:
    """The action types with the lowest approval."""
    if not digest.worst:
        st.caption("No action type with enough feedback lies under the approval of all.")
        return
    rows = [
        {
            "Action type": plain(name_value(one.action_type)),
            "Approval": _interval(one.approval),
            "Good": f"{one.num_good:,}",
            "Bad": f"{one.num_bad:,}",
        }
        for one in digest.worst
    ]
    st.table(pd.DataFrame(rows).set_index("Action type"))
    for one in digest.worst:
        filters = Filters(digest.monday, digest.sunday, action_types=(one.action_type,))
        label = f"What was bad: {plain(name_value(one.action_type))}"
        link_to_rows(label, filters, verdict=Verdict.BAD)


def _interval(interval: object) -> str:
    value, low, high = (getattr(interval, name) for name in ("value", "low", "high"))
    return f"{value:.0%} ({low:.0%} to {high:.0%})"


def draw_failures(digest: Digest) -> None:
    """The exchanges that were called bad again and again."""
    if not digest.failures:
        st.caption("No answer was called bad more than twice.")
        return
    rows = [
        {
            "Called bad": f"{one.num_bad:,} times",
            "Action type": plain(name_value(one.action_type)),
            "Prompt": plain(_shorten(one.prompt)),
            "Answer": plain(_shorten(one.completion)),
        }
        for one in digest.failures
    ]
    show_word_table(
        pd.DataFrame(rows), key="digest_failures", alt="What was called bad again and again"
    )


def draw_alerts(digest: Digest) -> None:
    """What was opened in the week."""
    num = digest.num_unresolved
    st.caption(f"{num} {'alert is' if num == 1 else 'alerts are'} unresolved now.")
    if digest.alerts:
        show_word_table(
            pd.DataFrame([_alert_row(one) for one in digest.alerts]),
            key="digest_alerts",
            alt="Alerts that were opened in the week",
        )


def _alert_row(alert: AlertView) -> dict[str, str]:
    return {
        "Opened": f"{alert.opened_at:%a %H:%M}",
        "Rule": plain(alert.rule),
        "Slice": plain(alert.slice_key),
        "Found": plain(alert.said),
        "State": alert.state.value,
    }


def draw_versions(digest: Digest) -> None:
    """What was promoted, rolled back and registered."""
    if not digest.releases and not digest.versions:
        st.caption("Nothing was registered, promoted or rolled back.")
    for mark in digest.releases:
        st.markdown(f"- {mark.at:%a %H:%M} UTC: {plain(mark.text)}")
    if digest.versions:
        st.markdown(f"- Registered: {plain(', '.join(digest.versions))}")


def ask_plan(plan: DigestPlan) -> None:
    """Who gets the report by e-mail; whoever may change it."""
    with st.expander("By e-mail each week", icon=":material/mail:", key="digest_mail"):
        emails = st.text_input(
            "E-mail to", value=", ".join(plan.emails), key="digest_emails", max_chars=2_000
        )
        hour = st.number_input(
            "Monday, hour (UTC)", min_value=0, max_value=23, value=plan.hour, key="digest_hour",
            width=200,
        )  # fmt: skip
        is_on = st.toggle("Send it", value=plan.is_enabled, key="digest_on")
        problem = None
        try:
            for trouble in list_channel_troubles(Channels(emails=split_targets(emails))):
                st.caption(f":material/info: {plain(trouble)}")
        except InvalidInput as error:
            problem = str(error)
            st.caption(f":material/error: {plain(problem)}")
        next_at = plan.next_at(utcnow())
        if next_at is not None:
            st.caption(f"The next one goes out {next_at:%A %Y-%m-%d %H:%M} UTC.")
        if st.button("Save", key="digest_save", disabled=problem is not None):
            act(
                set_plan, "It is saved.", emails=split_targets(emails), is_enabled=bool(is_on),
                hour=int(hour),
            )  # fmt: skip
            st.rerun()


def _shorten(text: str, chars: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= chars else f"{line[: chars - 1]}…"
