"""Items on which raters are evenly split: read what each said, decide, go on."""

import streamlit as st

from pages._ui.dispute_keys import ask_reason, draw_keys
from pages._ui.dispute_list import DECIDED, OPEN, draw_list, go_to, read_page
from pages._ui.dispute_view import draw_decisions, draw_dispute
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, show_error
from pages._ui.scope_choice import ask_scope
from pages._ui.scroll import scroll_to_top_for
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.disputes import PAGE_SIZE, count_split_pairs
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.disputed import get_dispute
from rlhf_core.store.engine import get_store


def start_anew() -> None:
    go_to(0)


actor = require_page(Permission.ADJUDICATE)
st.title("Disputes")
show_notices()
try:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scope = ask_scope(actor, key="disputes_scope")
        state = st.segmented_control(
            "State", [OPEN, DECIDED], default=OPEN, required=True, key="disputes_state",
            on_change=start_anew, label_visibility="collapsed",
        )  # fmt: skip
    is_decided = state == DECIDED
    page, place = read_page(actor, scope, is_decided=is_decided)
    shown = page.items[min(place % PAGE_SIZE, len(page.items) - 1)] if page.items else None
    dispute = None
    if shown is not None:
        with get_store().reading() as db:
            dispute = get_dispute(db, shown.interaction_id, actor=actor, step_id=shown.step_id)
    with get_store().reading() as db:
        num_pairs = 0 if is_decided else count_split_pairs(db, actor=actor, scope=scope)
except RlhfError as error:
    show_error(error)
    st.button("Try again", key="retry", on_click=start_anew)
    st.stop()

if dispute is None:
    if is_decided:
        empty_state("Nothing is decided yet", "What you decide stands here, with its reason.",
                    icon=":material/gavel:")  # fmt: skip
    else:
        empty_state(
            "No open dispute",
            "An item comes here when as many raters call it good as bad: a rating of 4 or 5, or a "
            "thumb up, against the rest. Give items to two raters or more to see where they part.",
            icon=":material/handshake:",
            page="pages/collect/queues.py",
            page_label="Make a queue",
        )
else:
    left = "decided" if is_decided else "open"
    st.caption(
        f"{place + 1:,} of {page.num_all:,} {left}. What you decide replaces the raters' answers "
        "in every dataset built from now on; what you exclude goes into none."
    )
    draw_list(page, place, is_decided=is_decided, key=f"disputes_{left}")
    if is_decided:
        draw_decisions(dispute.decisions)
    draw_dispute(dispute)
    if not is_decided:
        draw_decisions(dispute.decisions)
    scroll_to_top_for(str((dispute.step or dispute.interaction).id))
    with st.bottom:
        draw_keys(dispute, place, page.num_all)
    ask_reason()

if num_pairs:
    st.caption(
        f"{num_pairs:,} compared pairs are evenly split, too: one more comparison decides each."
    )
