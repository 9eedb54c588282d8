"""Where reasoning goes wrong: which steps, of which kind, and what a mistake does to the answer."""

import streamlit as st

from pages._ui.chart_table import show_chart
from pages._ui.guard import require_page
from pages._ui.insight_charts import draw_bars, draw_columns
from pages._ui.insight_empty import show_nothing_here
from pages._ui.insight_filters import ask_filters
from pages._ui.insight_rows import link_to_rows
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.step_parts import (
    bars_of_approval,
    bars_of_places,
    columns_of_mistakes,
    columns_of_positions,
    draw_cards,
    name_place,
    read_steps_page,
    table_of_mistakes,
    table_of_places,
)
from rlhf_core.accounts.permissions import Permission

actor = require_page(Permission.READ_ANALYTICS)
st.title("Steps")
with reporting():
    filters = ask_filters(actor)
    report = read_steps_page(actor, filters)
    if not report.all_labels.num_labels and not report.flawed.num_answers:
        show_nothing_here(actor, what="labels of steps")
        empty_state(
            "How steps get labels",
            "Send interactions with their steps and rate each step on the page Rate, or import "
            "labelled solutions (PRM800K).",
            icon=":material/footprint:",
            page="pages/collect/rate.py",
            page_label="Rate",
        )
        st.stop()
    draw_cards(report)
    link_to_rows("Steps called wrong", filters, about_steps=True, label=-1)

    left, right = st.columns(2)
    with left:
        st.header("Labels by position")
        show_chart(
            draw_columns(columns_of_positions(report.by_position), title="Labels", across="Step"),
            table_of_places(report.by_position),
            key="step_positions",
            alt="How often steps at each position were called right, neutral and wrong",
            name="steps by position",
        )
    with right:
        st.header("First mistake")
        show_chart(
            draw_columns(columns_of_mistakes(report.mistakes), title="Answers", across="Step"),
            table_of_mistakes(report) if report.mistakes else table_of_mistakes(report)[:0],
            key="step_mistakes",
            alt="At which step the first mistake of an answer falls",
            name="first mistakes",
        )
        st.caption("A step is wrong where more of its raters say wrong than right.")

    st.header("Where most goes wrong")
    worst = list(report.worst)
    show_chart(
        draw_bars(
            bars_of_places(worst), title="Called wrong", as_percent=True, count_word="labels"
        ),
        table_of_places(worst),
        key="step_worst",
        alt="The places whose steps are most surely wrong, with 95 % intervals",
        name="worst steps",
        draw_chosen=lambda place: link_to_rows(
            f"Wrong labels of {plain(name_place(worst[place]))}",
            filters,
            about_steps=True,
            label=-1,
            position=worst[place].position,
            kind=worst[place].kind,
        ),
    )
    st.caption("By the lower end of the interval; places with fewer than 5 labels are left out.")

    kinds = [one for one in report.by_kind if one.wrong is not None]
    if len(kinds) > 1:
        st.header("By kind of step")
        show_chart(
            draw_bars(
                bars_of_places(kinds), title="Called wrong", as_percent=True, count_word="labels"
            ),
            table_of_places(kinds),
            key="step_kinds",
            alt="The share of steps called wrong by kind, the most frequent first",
            name="steps by kind",
            draw_chosen=lambda place: link_to_rows(
                f"Labels of {plain(name_place(kinds[place]))}",
                filters,
                about_steps=True,
                kind=kinds[place].kind,
            ),
        )

    st.header("Approval of the answer, given its first mistake")
    show_chart(
        draw_bars(
            bars_of_approval(report), title="Approval", as_percent=True, count_word="verdicts"
        ),
        table_of_mistakes(report)
        if len(bars_of_approval(report))
        else table_of_mistakes(report)[:0],
        key="step_approval",
        alt="Approval of answers without a mistake and by the step of the first one, with 95 % "
        "intervals",
        name="approval by first mistake",
    )
