"""The rows of feedback behind a figure; reached by the links beside the figures."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.insight_filters import ask_filters
from pages._ui.insight_rows import describe_choice, read_choice, show_rows
from pages._ui.messages import reporting
from rlhf_core.accounts.permissions import Permission

actor = require_page(Permission.READ_ANALYTICS)
st.title("Rows of feedback")
with reporting():
    filters = ask_filters(actor)
    choice = read_choice(st.query_params)
    said = describe_choice(choice)
    if said:
        st.markdown(f"Only: {said}.")
    show_rows(filters, choice, actor=actor)
