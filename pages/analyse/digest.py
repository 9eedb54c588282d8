"""The week on one page: to read, to print, and to be sent by e-mail."""

import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.digest_parts import (
    PRINT_STYLE,
    ask_plan,
    choose_week,
    draw_alerts,
    draw_failures,
    draw_figures,
    draw_print_button,
    draw_versions,
    draw_worst,
)
from pages._ui.guard import require_page
from pages._ui.insight_charts import draw_lines
from pages._ui.insight_data import fresh_db
from pages._ui.insight_tables import points_of, table_of_trend
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.alerts.digest import build_digest, last_monday, monday_of
from rlhf_core.alerts.digest_mail import get_plan
from rlhf_core.analytics.filters import Filters, today
from rlhf_core.analytics.trends import Grain, read_trend

actor = require_page(Permission.READ_ANALYTICS)
st.html(PRINT_STYLE)
show_notices()
st.title("Weekly report")
with reporting():
    with st.container(horizontal=True, vertical_alignment="bottom", key="digest_controls"):
        is_current = st.toggle("The week that is going on", key="current_week")
        monday = monday_of(today()) if is_current else choose_week(last_monday())
        draw_print_button()
    with fresh_db() as db:
        digest = build_digest(db, actor=actor, monday=monday)
        filters = Filters(digest.monday, digest.sunday)
        trend = read_trend(db, actor=actor, filters=filters, grain=Grain.DAY)
        plan = get_plan(db, actor=actor)
    st.markdown(f"**{plain(digest.title)}**" + ("" if digest.is_over else " (so far)"))
    figures = digest.overview.now
    if not figures.num_feedback and not figures.num_interactions:
        empty_state(
            "Nothing happened in this week",
            "There were no interactions and no feedback. Choose another week above.",
            icon=":material/event_busy:",
        )
    else:
        draw_figures(digest)
        show_chart(
            draw_lines(
                points_of(trend, None), title="Approval", as_percent=True, with_volume=True,
                count_word="verdicts",
            ),
            table_of_trend(trend, None, Grain.DAY),
            key="digest_days",
            alt="Approval by day with 95 % intervals, and the number of verdicts",
            name=f"approval-{digest.monday}",
        )  # fmt: skip
    st.header("Lowest approval")
    draw_worst(digest)
    st.header("Called bad again and again")
    draw_failures(digest)
    st.header("Alerts")
    draw_alerts(digest)
    st.header("Versions")
    draw_versions(digest)
    ask_plan(plan)
