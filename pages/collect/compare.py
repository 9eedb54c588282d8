"""Compare completions of one prompt, blind to the model; stored before the next ones show."""

import streamlit as st

from pages._ui.compare_keys import draw_keys
from pages._ui.compare_place import MOST, find_place, note_shown, point_to
from pages._ui.compare_view import draw_others, draw_prompt, draw_reason, draw_sides
from pages._ui.data import read_num_interactions
from pages._ui.demo_card import draw_demo_offer
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, plain, show_error
from pages._ui.rating_guard import guard_keys
from pages._ui.rating_queue import (
    ask_queue,
    find_queue,
    leave_lost_queue,
    leave_queue,
    show_queue_progress,
)
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import Forbidden, NotFound, RlhfError
from rlhf_core.feedback.comparison_tasks import count_compared
from rlhf_core.store.engine import get_store


def forget_address() -> None:
    """Forget what the address names and what is not there any more, or others'; a callback."""
    point_to(None)
    leave_lost_queue(require_page(Permission.RATE))


actor = require_page(Permission.RATE)
show_notices()
try:
    queue = find_queue(actor)
    place = find_place(actor, queue)
    with get_store().glancing() as db:
        num_compared = count_compared(db, actor=actor)
except RlhfError as error:
    st.title("Compare")
    show_error(error)
    is_gone = isinstance(error, NotFound | Forbidden)
    st.button("Go to the next pair" if is_gone else "Try again", key="retry",
              on_click=forget_address if is_gone else None)  # fmt: skip
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom", key="heading"):
    st.title("Compare", width="content")
    ask_queue(actor, queue, of_pairs=True)
    if queue is not None:
        show_queue_progress(actor, queue)
    else:
        st.segmented_control(
            "At once",
            [2, 3, 4],
            default=2,
            required=True,
            key=MOST,
            persist_state="session",
            on_change=point_to,
            args=(None,),
            help="How many completions of a prompt stand side by side, where there are so many",
        )
        pairs = "pair" if num_compared == 1 else "pairs"
        st.caption(f"{num_compared:,} {pairs} compared by {plain(actor.name)}", width="content")
    guard_keys("none" if place is None else place.key)

note_shown(place)
if queue is not None and queue.instructions:
    st.caption(plain(queue.instructions))

if place is None and queue is not None:
    empty_state("This queue is done", "Nothing in it is left for you. Thank you.",
                icon=":material/task_alt:")  # fmt: skip
    with st.container(horizontal_alignment="center"):
        st.button("Compare others", key="leave_queue", on_click=leave_queue)
elif place is None and not num_compared:
    empty_state(
        "Nothing to compare yet",
        "Two answers to the same prompt are needed: import them, send them to the API, or let two "
        "policies answer (page Models).",
        icon=":material/compare:",
        page="pages/admin/transfer.py",
        page_label="Import interactions",
    )
    if not read_num_interactions(actor):
        draw_demo_offer(actor)
elif place is None:
    empty_state("All is compared", f"You have compared {num_compared:,} pairs. Thank you.",
                icon=":material/task_alt:")  # fmt: skip
else:
    with st.container(key="judged"):
        draw_prompt(place)
        draw_sides(place)
        draw_reason(place)
        draw_others(place, actor)

with st.bottom:
    draw_keys(place)
