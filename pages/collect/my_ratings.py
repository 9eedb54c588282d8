"""One's own ratings: finding, changing and withdrawing them, and what changed when."""

import uuid

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.history_entry import show_entry
from pages._ui.history_list import A_PAGE, ask_filter, ask_page, show_list
from pages._ui.messages import empty_state, reporting, show_error
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import NotFound
from rlhf_core.feedback.history import HistoryFilter, count_history, get_entry, list_history
from rlhf_core.store.engine import get_store

actor = require_page(Permission.RATE)
st.title("My ratings")
show_notices()
with reporting():
    with get_store().reading() as db:
        num_all = count_history(db, actor=actor)
    if not num_all:
        empty_state(
            "You have rated nothing yet",
            "What you rate and compare is listed here, and can be changed or withdrawn.",
            icon=":material/history:",
            page="pages/collect/rate.py",
            page_label="Rate",
        )
        st.stop()

    wanted = ask_filter()
    num_found = num_all
    if wanted != HistoryFilter():
        with get_store().reading() as db:
            num_found = count_history(db, actor=actor, wanted=wanted)
    st.caption(f"{num_found:,} of {num_all:,}")
    page = ask_page(num_found)
    with get_store().reading() as db:
        entries = list_history(db, actor=actor, wanted=wanted, limit=A_PAGE, offset=page * A_PAGE)

    named = st.query_params.get("entry")
    chosen = None
    if named is not None:
        try:
            with get_store().reading() as db:
                chosen = get_entry(db, uuid.UUID(named), actor=actor)
        except (NotFound, ValueError):
            show_error(NotFound("This rating does not exist (any more), or it is not yours."))
    show_list(entries, None if chosen is None else chosen.id)
    if chosen is None:
        st.caption("Choose a row to see it in full, to change it or to withdraw it.")
    else:
        show_entry(chosen, actor)
