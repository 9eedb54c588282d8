"""Rate one interaction at a time, by keyboard; stored before the next one shows."""

import streamlit as st

from pages._ui.data import read_num_interactions
from pages._ui.demo_card import draw_demo_offer
from pages._ui.feedback_form import draw_keys
from pages._ui.guard import require_page
from pages._ui.interaction_view import draw_action, draw_prompt
from pages._ui.messages import empty_state, plain, show_error
from pages._ui.rating_aspects import draw_aspects
from pages._ui.rating_guard import guard_keys
from pages._ui.rating_others import draw_others, draw_others_button
from pages._ui.rating_place import Place, draw_failure, find_place, note_shown
from pages._ui.rating_queue import (
    ask_queue,
    find_queue,
    leave_lost_queue,
    leave_queue,
    show_queue_progress,
)
from pages._ui.rating_texts import draw_comment, draw_correction, draw_save
from pages._ui.span_marker import draw_completion
from pages._ui.state import show_notices
from pages._ui.steps_form import current_step, draw_steps
from pages._ui.voice_notes import draw_voice_button, draw_voice_notes
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import Forbidden, NotFound, RlhfError
from rlhf_core.feedback.assignment import count_rated
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject


def forget_address() -> None:
    """Forget what the address names and what is not there any more, or others'; a callback."""
    st.query_params.pop("item", None)
    leave_lost_queue(require_page(Permission.RATE))


def count_all(actor: Actor, place: Place | None) -> tuple[int, int]:
    """How many of all items the person has rated, and how many there are."""
    with get_store().glancing() as db:
        done = count_rated(db, actor=actor)
    total = read_num_interactions(actor)
    if place is not None and total <= done:  # there is more than was counted: it came just now
        read_num_interactions.clear()
        total = read_num_interactions(actor)
    return done, max(done, total)


actor = require_page(Permission.RATE)
place = None
try:
    queue = find_queue(actor)
    if queue is None or queue.subject is not QueueSubject.COMPARISONS:
        place = find_place(actor, queue)
    done, total = (0, 0) if queue is not None else count_all(actor, place)
except RlhfError as error:
    st.title("Rate")
    show_error(error)
    show_notices()
    is_gone = isinstance(error, NotFound | Forbidden)
    label = "Go to the next item" if is_gone else "Try again"
    st.button(label, key="retry", on_click=forget_address if is_gone else None)
    st.stop()

note_shown(place)
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

if queue is None and place is None and total == 0:
    empty_state(
        "Nothing to rate yet",
        "Import interactions, or send them to the API."
        if actor.may(Permission.IMPORT_DATA)
        else "Ask an admin to import interactions.",
        page="pages/admin/transfer.py",
        page_label="Import interactions",
    )
    draw_demo_offer(actor)
    show_notices()
    st.stop()

if queue is not None and queue.instructions:
    st.caption(plain(queue.instructions))

if place is None and queue is not None:
    if queue.subject is QueueSubject.COMPARISONS:
        empty_state("This queue compares answers", "It has a page of its own.",
                    page="pages/collect/compare.py", page_label="Compare")  # fmt: skip
    else:
        empty_state("This queue is done", "Nothing in it is left for you. Thank you.",
                    icon=":material/task_alt:")  # fmt: skip
    with st.container(horizontal_alignment="center"):
        st.button("Rate other items", key="leave_queue", on_click=leave_queue)
elif place is None:
    empty_state("All is rated", f"You have rated {done:,} of {total:,} items. Thank you.",
                icon=":material/task_alt:")  # fmt: skip
else:
    judged, tools = st.columns([5, 3], gap="medium")
    with judged, st.container(key="judged"):
        draw_prompt(place.item)
        if place.is_about_steps:
            draw_steps(place)
        with st.container(border=True, key="completion"):
            draw_completion(place)
        draw_correction(place)
        draw_action(place.item)
        if not place.is_about_steps:
            draw_steps(place)
    with tools, st.container(key="tools"):
        if not place.is_about_steps:
            draw_aspects(place)
        draw_comment(place)
        with st.container(horizontal=True, gap="xsmall"):
            draw_save(place)
            draw_voice_button(place)
            draw_others_button(place)
        draw_voice_notes(place, actor)
        draw_others(place, actor)

with st.bottom:
    draw_failure()
    draw_keys(place)
    guard_keys("none" if place is None else place.key,
               step=current_step(place) if place and place.item.steps else None)  # fmt: skip
show_notices()  # last: a run that another one cuts short must not take them along
