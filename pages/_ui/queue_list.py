"""The queues that a person may rate in or manage, with how far each is."""

import streamlit as st

from pages._ui.messages import empty_state, plain
from pages._ui.queue_make import SUBJECTS, open_queue
from pages._ui.rating_queue import show_bar
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.queues.service import list_queues
from rlhf_core.queues.views import QueueView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject

RATE, COMPARE = "pages/collect/rate.py", "pages/collect/compare.py"


def show_list(actor: Actor) -> None:
    """A card a queue; managers may look at closed ones too."""
    is_manager = actor.may(Permission.MANAGE_QUEUES)
    with_closed = is_manager and st.toggle("Closed ones too", key="queues_closed")
    with get_store().reading() as db:
        queues = list_queues(db, actor=actor, with_closed=with_closed)
    if not queues:
        empty_state(
            "No queue is open",
            "*New queue* above makes one from what is stored."
            if is_manager
            else "Rate from all items, or ask a trainer for a queue.",
            icon=":material/checklist:",
            page=None if is_manager else RATE,
            page_label="Rate",
        )
    for queue in queues:
        _show_card(actor, queue, is_manager)


def show_badges(queue: QueueView) -> None:
    """What kind of queue it is, in a row."""
    st.badge(SUBJECTS[queue.subject][0], color="blue")
    if queue.overlap > 1:
        st.badge(f"{queue.overlap} raters an item", color="gray")
    if queue.is_blind:
        st.badge("Blind", color="gray")
    if queue.assignee_ids:
        count = len(queue.assignee_ids)
        st.badge(f"Assigned to {count}", icon=":material/group:", color="gray")
    if not queue.is_open:
        st.badge("Closed", icon=":material/lock:", color="orange")


def show_rate_link(actor: Actor, queue: QueueView) -> None:
    """The way to its items, for who may judge them."""
    if queue.is_open and queue.is_for(actor):
        of_pairs = queue.subject is QueueSubject.COMPARISONS
        st.page_link(
            COMPARE if of_pairs else RATE,
            label="Compare" if of_pairs else "Rate",
            icon=":material/play_arrow:",
            query_params={"queue": str(queue.id)},
            width="content",
        )


def _show_card(actor: Actor, queue: QueueView, is_manager: bool) -> None:
    with st.container(border=True, key=f"queue_{queue.id.hex}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(queue.name)}**", width="content")
            show_badges(queue)
            st.space("stretch")
            show_rate_link(actor, queue)
            if is_manager:
                st.button(
                    "Details",
                    key=f"details_{queue.id.hex}",
                    icon=":material/monitoring:",
                    type="tertiary",
                    on_click=open_queue,
                    args=(queue.id,),
                )
        show_bar(queue)
        if queue.instructions:
            st.caption(plain(queue.instructions))
