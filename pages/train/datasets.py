"""Datasets: choose rows, see what is there and what is short, freeze them, take them out."""

import streamlit as st

from pages._ui.data import read_dataset_versions
from pages._ui.dataset_build import show_build
from pages._ui.dataset_form import ask_params
from pages._ui.dataset_versions import show_versions
from pages._ui.guard import require_page
from pages._ui.messages import reporting
from pages._ui.scroll import scroll_to_top_for
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission

actor = require_page(Permission.MANAGE_DATASETS)
show_notices()
st.title("Datasets")
st.caption(
    "What models learn from, frozen: a version never changes, and says what is in it and what was "
    "left out."
)
BUILD, VERSIONS = "Build", "Versions"
wanted = st.session_state.pop("dataset_part_wanted", None)
if wanted is not None:
    st.session_state["dataset_part"] = wanted
part = st.segmented_control(
    "Part",
    [BUILD, VERSIONS],
    default=None if wanted else VERSIONS if "version" in st.query_params else BUILD,
    required=True,
    key="dataset_part",
    label_visibility="collapsed",
)
scroll_to_top_for(part)
with reporting():
    if part == VERSIONS:
        show_versions(actor, read_dataset_versions(actor))
    else:
        show_build(actor, ask_params(actor))
