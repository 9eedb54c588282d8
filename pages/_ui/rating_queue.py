"""Which rating queue a person works on: named in the address as `?queue=`."""

import uuid

import streamlit as st

from pages._ui.messages import plain
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import NotFound, RlhfError
from rlhf_core.queues.progress import count_done, count_own
from rlhf_core.queues.service import check_visible, get_queue, list_queues
from rlhf_core.queues.views import QueueView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject

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
    """The chosen queue, at most 2 s old: read with every key. Leasing reads it anew."""
    queue_id = chosen_queue()
    return None if queue_id is None else check_visible(_read_queue(queue_id), actor=actor)


@st.cache_resource(ttl=2, max_entries=200, show_spinner=False)
def _read_queue(queue_id: uuid.UUID) -> QueueView:
    with get_store().glancing() as db:
        return get_queue(db, queue_id, actor=SYSTEM, with_closed=True)


def leave_queue() -> None:
    """Rate from all items again; a callback."""
    for name in ("queue", "item"):
        st.query_params.pop(name, None)
    st.session_state.pop(KEY, None)


def leave_lost_queue(actor: Actor) -> None:
    """Leave the chosen queue where it is gone, closed, or others'."""
    _read_queue.clear()
    try:
        queue = find_queue(actor)
    except RlhfError:
        leave_queue()
    else:
        if queue is not None and not queue.is_for(actor):
            leave_queue()


@st.cache_resource(ttl=5, max_entries=200, show_spinner=False)
def read_queues(_actor: Actor, account_id: uuid.UUID | None) -> list[QueueView]:
    """The queues that this person sees, at most 5 s old: asked with every key."""
    with get_store().glancing() as db:
        return list_queues(db, actor=_actor)


def ask_queue(actor: Actor, chosen: QueueView | None, *, of_pairs: bool = False) -> None:
    """The choice of a queue, where there is one to choose: of comparisons, or of single items."""
    queues = [
        queue
        for queue in read_queues(actor, actor.account_id)
        if queue.is_for(actor) and (queue.subject is QueueSubject.COMPARISONS) == of_pairs
    ]
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
        index=options.index(chosen.id) if chosen and chosen.id in names else 0,
        format_func=lambda queue_id: "All items" if queue_id is None else names[queue_id],
        key=KEY,
        on_change=choose,
        label_visibility="collapsed",
        width=300,
    )


@st.cache_data(ttl=5, max_entries=200, show_spinner=False)
def read_num_done(_queue: QueueView, queue_id: uuid.UUID) -> int:
    """How many items are done, at most 5 s old: many raters ask, and a long queue takes a while."""
    with get_store().glancing() as db:
        return count_done(db, _queue)


def show_bar(queue: QueueView, more: str = "", *, width: int | str = "stretch") -> None:
    """How far the queue is; `more` is our own words, or made plain."""
    num_done = min(queue.num_items, read_num_done(queue, queue.id))
    st.progress(
        num_done / max(1, queue.num_items),
        text=f"{num_done:,} of {queue.num_items:,} done{more}",
        width=width,  # type: ignore[arg-type]
    )


def show_queue_progress(actor: Actor, queue: QueueView) -> None:
    """How far the queue is, and how much of it this person did."""
    with get_store().glancing() as db:
        num_own = count_own(db, queue, actor=actor)
    show_bar(queue, f", {num_own:,} by {plain(actor.name)}", width=280)
