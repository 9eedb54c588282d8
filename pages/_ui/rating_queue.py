"""Which rating queue a person works on: named in the address as `?queue=`."""

import uuid

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.accounts.permissions import Actor
from rlhf_core.errors import NotFound
from rlhf_core.feedback.queues import QueueView, count_progress, get_queue, list_queues
from rlhf_core.store.engine import get_store

KEY = "rating_queue"


def chosen_queue() -> uuid.UUID | None:
    """The queue that the address names; None where it names none.

    Raises:
        NotFound: what it names is no id.
    """
    wanted = st.query_params.get("queue")
    try:
        return None if wanted is None else uuid.UUID(wanted)
    except ValueError:
        raise NotFound("The address names no rating queue; it may be cut off.") from None


def find_queue(actor: Actor) -> QueueView | None:
    """The chosen queue as it is now."""
    queue_id = chosen_queue()
    if queue_id is None:
        return None
    with get_store().reading() as db:
        return get_queue(db, queue_id, actor=actor)


def leave_queue() -> None:
    """Rate from all items again; a callback."""
    for name in ("queue", "item"):
        st.query_params.pop(name, None)
    st.session_state.pop(KEY, None)


def ask_queue(actor: Actor, chosen: QueueView | None) -> None:
    """The choice of a queue, where there is one to choose."""
    with get_store().reading() as db:
        queues = list_queues(db, actor=actor)
    if not queues:
        return
    names = {queue.id: f"{queue.name} ({queue.num_items:,})" for queue in queues}

    def choose() -> None:
        picked = st.session_state[KEY]
        leave_queue()
        if picked is not None:
            st.query_params["queue"] = str(picked)

    options = [None, *names]
    st.selectbox(
        "Queue",
        options,
        index=options.index(chosen.id) if chosen else 0,
        format_func=lambda queue_id: "All items" if queue_id is None else names[queue_id],
        key=KEY,
        on_change=choose,
        label_visibility="collapsed",
        width=300,
    )


def show_queue_progress(actor: Actor, queue: QueueView) -> None:
    """How far the queue is, and what its maker wants of raters."""
    with get_store().reading() as db:
        progress = count_progress(db, queue, actor=actor)
    st.progress(
        progress.num_done / max(1, progress.num_items),
        text=f"{progress.num_done:,} of {progress.num_items:,} of this queue done, "
        f"{progress.num_open:,} left for {plain(actor.name)}",
        width=280,
    )
