"""What a page of analysis shows where there is nothing, and how to get something."""

import streamlit as st

from pages._ui.demo_card import draw_demo_offer
from pages._ui.insight_filters import read_filter_choices, show_all_time
from pages._ui.messages import empty_state
from rlhf_core.accounts.permissions import Actor


def show_nothing_here(actor: Actor, *, what: str = "feedback") -> None:
    """Nothing at all, or nothing in what is chosen? Says which, and offers the next step."""
    choices = read_filter_choices(actor)
    if choices.first_day is None or choices.last_day is None:
        empty_state(
            f"No {what} yet",
            "Figures show as soon as there are interactions: send them through the API, import a "
            "file, or load the demo world. Then rate some.",
            page="pages/admin/transfer.py",
            page_label="Import a file",
        )
        draw_demo_offer(actor)
        return
    empty_state(
        f"No {what} in this period and these filters",
        f"There are data from {choices.first_day} to {choices.last_day}.",
        icon=":material/filter_list_off:",
    )
    with st.container(horizontal=True, horizontal_alignment="center"):
        st.button("Show the whole time", key="insight_all_time", on_click=show_all_time)
