"""The demo world on a page: loading it where there is nothing yet, clearing it again."""

import streamlit as st

from pages._ui.guard import admit
from pages._ui.messages import reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.demo.clearing import remove_files
from rlhf_core.demo.service import clear_demo, find_demo, load_demo
from rlhf_core.store.engine import get_store

_CONFIRM = "demo_to_clear"


def draw_demo_offer(actor: Actor) -> None:
    """A card that offers the demo world; for an empty product. Nothing for who may not load it."""
    if not actor.may(Permission.IMPORT_DATA):
        return
    with st.container(border=True, key="demo_card", horizontal_alignment="center", gap="small"):
        st.markdown("**:material/science: Look around with the demo world**", width="content")
        st.caption(
            "About 3,000 made-up conversations of an assistant for tasks, appointments and "
            "clean-energy careers, with ratings, comparisons and corrections. Marked as demo, "
            "never mixed into real data unless you ask, and cleared with one click.",
            width="content",
            text_alignment="center",
        )
        st.button("Load the demo world", key="demo_load", icon=":material/download:",
                  on_click=_load)  # fmt: skip


def draw_demo_state(actor: Actor) -> None:
    """How much of the demo world there is, and the way to load or clear it."""
    with get_store().reading() as db:
        counts = find_demo(db)
    if counts is None:
        draw_demo_offer(actor)
        return
    with st.container(border=True, key="demo_card", horizontal=True, vertical_alignment="center"):
        st.markdown("**:material/science: The demo world is loaded**", width="content")
        st.caption(
            f"{counts.num_interactions:,} interactions, {counts.num_feedback:,} feedback rows, "
            f"{counts.num_comparisons:,} comparisons",
            width="stretch",
        )
        if actor.may(Permission.MANAGE_DATASETS):
            st.button("Clear it", key="demo_clear", icon=":material/delete:", on_click=_ask)
    if st.session_state.get(_CONFIRM):
        _confirm()


def _load() -> None:
    """A callback: the page is drawn with what is there then."""
    actor = admit(Permission.IMPORT_DATA)
    if actor is None:
        return
    with reporting():
        with get_store().writing() as db:
            counts = load_demo(db, actor=actor)
        st.cache_data.clear()
        st.cache_resource.clear()
        notify(f"{counts.num_interactions:,} demo interactions are loaded.")


def _ask() -> None:
    st.session_state[_CONFIRM] = True


def _forget() -> None:
    st.session_state.pop(_CONFIRM, None)


@st.dialog("Clear the demo world?", on_dismiss=_forget)
def _confirm() -> None:
    st.write(
        "All demo interactions go, with everything said of them, and with the datasets and models "
        "that were made of them alone. What holds real data stays."
    )
    with st.container(horizontal=True):
        is_meant = st.button("Clear it", key="demo_clear_confirm", type="primary")
        is_off = st.button("Keep it", key="demo_clear_keep")
    if is_off:
        _forget()
        st.rerun()
    actor = admit(Permission.MANAGE_DATASETS) if is_meant else None
    if actor is None:
        return
    with reporting():
        with get_store().writing() as db:
            cleared = clear_demo(db, actor=actor)
        remove_files(cleared.folders)
        st.cache_data.clear()
        st.cache_resource.clear()
        _forget()
        notify("The demo world is cleared.")
        st.rerun()
