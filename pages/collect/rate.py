"""Rate one interaction at a time, by keyboard; stored before the next one shows."""

import time
import uuid

import streamlit as st

from pages._ui.data import read_num_interactions
from pages._ui.demo_card import draw_demo_offer
from pages._ui.feedback_form import (
    draw_comment,
    draw_failure,
    draw_keys,
    draw_steps,
)
from pages._ui.guard import require_page
from pages._ui.interaction_view import draw_action, draw_interaction
from pages._ui.messages import empty_state, plain, show_error
from pages._ui.rating_queue import (
    ask_queue,
    chosen_queue,
    find_queue,
    leave_queue,
    show_queue_progress,
)
from pages._ui.scroll import scroll_to_top_for
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import NotFound, RlhfError
from rlhf_core.feedback.assignment import count_rated, next_to_rate
from rlhf_core.feedback.views import InteractionView, get_interaction
from rlhf_core.store.engine import get_store


def find_item(actor: Actor) -> InteractionView | None:
    """The item that the address names, so that a reload stays on it; else the next to rate."""
    wanted = st.query_params.get("item")
    with get_store().reading() as db:
        if wanted is not None:
            try:
                return get_interaction(db, uuid.UUID(wanted), actor=actor)
            except ValueError:
                raise NotFound("The address names no item; it may be cut off.") from None
        return next_to_rate(db, actor=actor, queue_id=chosen_queue())


def forget_address() -> None:
    """Forget what the address names and what is not there any more; a callback."""
    st.query_params.pop("item", None)
    try:
        find_queue(require_page(Permission.RATE))
    except RlhfError:
        leave_queue()


actor = require_page(Permission.RATE)
show_notices()
try:
    queue = find_queue(actor)
    item = find_item(actor)
    with get_store().reading() as db:
        done = count_rated(db, actor=actor)
    total = read_num_interactions(actor)
    if item is not None and total <= done:  # there is more than was counted: it came just now
        read_num_interactions.clear()
        total = read_num_interactions(actor)
    total = max(done, total)
except RlhfError as error:
    st.title("Rate")
    show_error(error)
    label = "Go to the next item" if isinstance(error, NotFound) else "Try again"
    st.button(label, key="retry", on_click=forget_address if isinstance(error, NotFound) else None)
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom", key="heading"):
    st.title("Rate", width="content")
    ask_queue(actor, queue)
    if queue is not None:
        show_queue_progress(actor, queue)
    elif total:
        st.progress(
            done / total,
            text=f"{done:,} of {total:,} rated by {plain(actor.name)}",
            width=280,
        )
    if item is not None:
        scroll_to_top_for(item.id.hex)

if item is None and total == 0:
    empty_state(
        "Nothing to rate yet",
        "Import interactions, or send them to the API."
        if actor.may(Permission.IMPORT_DATA)
        else "Ask an admin to import interactions.",
        page="pages/admin/transfer.py",
        page_label="Import interactions",
    )
    draw_demo_offer(actor)
    st.stop()

if queue is not None and queue.instructions:
    st.caption(plain(queue.instructions))

if item is None and queue is not None:
    empty_state("This queue is done", "Nothing in it is left for you. Thank you.",
                icon=":material/task_alt:")  # fmt: skip
    with st.container(horizontal_alignment="center"):
        st.button("Rate other items", key="leave_queue", on_click=leave_queue)
    draw_failure()
    draw_keys(None)
    st.stop()

if item is None:
    empty_state("All is rated", f"You have rated {done:,} of {total:,} items. Thank you.",
                icon=":material/task_alt:")  # fmt: skip
    draw_failure()
    draw_keys(None)
    st.stop()

st.query_params["item"] = str(item.id)
if st.session_state.get("feedback_seen", (None,))[0] != item.id:
    st.session_state["feedback_seen"] = (item.id, time.monotonic())

with st.container(key="item"):
    left, right = st.columns([3, 2], gap="medium")
    with left:
        draw_interaction(item)
        draw_action(item)
    with right:
        if item.steps:
            draw_steps(item)
        draw_comment(item)

with st.bottom:
    draw_failure()
    draw_keys(item)
