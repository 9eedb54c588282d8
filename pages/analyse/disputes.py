"""Items and pairs on which raters are evenly split: read what each said, decide, go on."""

import streamlit as st

from pages._ui.dispute_keys import ask_reason, draw_keys
from pages._ui.dispute_list import (
    ANSWERS,
    DECIDED,
    OPEN,
    PAIRS,
    draw_list,
    go_to,
    read_page,
    row_of,
)
from pages._ui.dispute_view import draw_dispute
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, show_error
from pages._ui.pair_dispute import draw_pair, row_of_pair
from pages._ui.scope_choice import ask_scope
from pages._ui.scroll import scroll_to_top_for
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.analytics.disputes import PAGE_SIZE, list_disputes
from rlhf_core.analytics.pair_disputes import count_pair_disputes, list_pair_disputes
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.disputed import Dispute, get_dispute
from rlhf_core.feedback.pair_adjudication import PairDispute, get_pair_dispute
from rlhf_core.store.engine import get_store


def start_anew() -> None:
    go_to(0)


actor = require_page(Permission.ADJUDICATE)
st.title("Disputes")
show_notices()
dispute: Dispute | PairDispute | None = None
rows: list[dict[str, str]] = []
num_pairs = 0
try:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scope = ask_scope(actor, key="disputes_scope")
        kind = st.segmented_control(
            "About", [ANSWERS, PAIRS], default=ANSWERS, required=True, key="disputes_kind",
            on_change=start_anew, label_visibility="collapsed",
        )  # fmt: skip
        state = st.segmented_control(
            "State", [OPEN, DECIDED], default=OPEN, required=True, key="disputes_state",
            on_change=start_anew, label_visibility="collapsed",
        )  # fmt: skip
    is_decided = state == DECIDED
    if kind == PAIRS:
        pairs, place = read_page(list_pair_disputes, actor, scope, is_decided=is_decided)
        num_all = pairs.num_all
        rows = [row_of_pair(item, is_decided=is_decided) for item in pairs.items]
        if pairs.items:
            pair = pairs.items[min(place % PAGE_SIZE, len(pairs.items) - 1)]
            with get_store().reading() as db:
                dispute = get_pair_dispute(db, pair.first_id, pair.second_id, actor=actor)
    else:
        page, place = read_page(list_disputes, actor, scope, is_decided=is_decided)
        num_all = page.num_all
        rows = [row_of(item, is_decided=is_decided) for item in page.items]
        if page.items:
            item = page.items[min(place % PAGE_SIZE, len(page.items) - 1)]
            with get_store().reading() as db:
                dispute = get_dispute(db, item.interaction_id, actor=actor, step_id=item.step_id)
        if not is_decided:
            with get_store().reading() as db:
                num_pairs = count_pair_disputes(db, actor=actor, scope=scope)
except RlhfError as error:
    show_error(error)
    st.button("Try again", key="retry", on_click=start_anew)
    st.stop()

if dispute is None:
    if is_decided:
        empty_state("Nothing is decided yet", "What you decide stands here, with its reason.",
                    icon=":material/gavel:")  # fmt: skip
    else:
        about = (
            "A pair comes here when as many raters prefer one side as the other. Give pairs to two "
            "raters or more to see where they part."
            if kind == PAIRS
            else "An item comes here when as many raters call it good as bad: a rating of 4 or 5, "
            "or a thumb up, against the rest. Give items to two raters or more to see where they "
            "part."
        )
        empty_state(
            "No open dispute", about, icon=":material/handshake:",
            page="pages/collect/queues.py", page_label="Make a queue",
        )  # fmt: skip
else:
    left = "decided" if is_decided else "open"
    st.caption(
        f"{place + 1:,} of {num_all:,} {left}. What you decide replaces the raters' answers "
        "in every dataset built from now on; what you exclude goes into none."
    )
    draw_list(rows, num_all, place, key=f"disputes_{kind}_{left}")
    if isinstance(dispute, Dispute):
        draw_dispute(dispute, decisions_first=is_decided)
        shown = str((dispute.step or dispute.interaction).id)
    else:
        draw_pair(dispute, decisions_first=is_decided)
        shown = str(dispute.task.shown_ids)
    scroll_to_top_for(shown)
    with st.bottom:
        draw_keys(dispute, place, num_all)
    ask_reason()

if num_pairs:
    st.caption(f"{num_pairs:,} compared pairs are evenly split, too: choose {PAIRS} above.")
