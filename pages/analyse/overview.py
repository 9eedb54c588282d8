"""What people think of the answers, at a glance, and where the loop stands."""

import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.guard import require_page
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import ask_filters
from pages._ui.insight_pages import read_overview_page
from pages._ui.kpi_cards import draw_kpis, draw_loop
from pages._ui.messages import reporting
from pages._ui.state import show_notices
from pages._ui.trend_parts import (
    choose_grain,
    count_days,
    link_to_action,
    link_to_point,
    show_marks,
)
from rlhf_core.accounts.permissions import Permission

actor = require_page(Permission.READ_ANALYTICS)
show_notices()
st.title("Overview")
with reporting():
    filters = ask_filters(actor)
    grain = choose_grain(filters, count_days(actor, filters))
    shown = read_overview_page(actor, filters, grain)
    if shown.overview.now.num_interactions or shown.overview.now.num_feedback:
        draw_kpis(shown.overview, shown.loop, filters)
    else:
        show_nothing_here(actor)

    st.header("The loop")
    draw_loop(shown.loop)

    if shown.trend:
        st.header("Approval over time")
        show_chart(
            shown.trend_chart,
            shown.trend_table,
            key="overview_trend",
            alt=f"Approval by {grain.value} with 95 % intervals, and the number of verdicts",
            name="approval",
            draw_chosen=lambda place: link_to_point(shown.trend[place], filters, grain),
        )
        show_marks(shown.marks, key="overview")

        st.header("By action type")
        show_chart(
            shown.actions_chart,
            shown.actions_table,
            key="overview_actions",
            alt="Approval by action type, the most feedback first, with 95 % intervals",
            name="by-action-type",
            draw_chosen=lambda place: link_to_action(shown.actions[place], filters),
        )
