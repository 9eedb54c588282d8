"""Queues: what waits to be judged, how far it is; and rating many at once."""

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import show_error
from pages._ui.queue_bulk import show_bulk
from pages._ui.queue_list import show_list
from pages._ui.queue_make import show_make
from pages._ui.queue_panel import find_shown, show_panel
from pages._ui.scroll import scroll_to_top_for
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError

actor = require_page(Permission.RATE)
show_notices()
st.title("Queues")
st.caption("What is to be judged, by whom, and how far it is.")
QUEUES, MAKE, BULK = "Queues", "New queue", "Rate many at once"
is_manager = actor.may(Permission.MANAGE_QUEUES)
wanted = st.session_state.pop("queues_part_wanted", None)
if wanted is not None:
    st.session_state["queues_part"] = wanted
part = st.segmented_control(
    "Part",
    [QUEUES, MAKE, BULK] if is_manager else [QUEUES, BULK],
    default=None if wanted else QUEUES,
    required=True,
    key="queues_part",
    label_visibility="collapsed",
)
try:
    if part == BULK:
        show_bulk(actor)
    elif part == MAKE:
        show_make(actor)
    elif is_manager and (shown := find_shown(actor, st.query_params.get("queue"))):
        scroll_to_top_for(shown.id.hex)
        show_panel(actor, shown)
    else:
        show_list(actor)
except RlhfError as error:
    show_error(error)
    st.button("All queues", key="queues_retry", on_click=lambda: st.query_params.pop("queue", None))
