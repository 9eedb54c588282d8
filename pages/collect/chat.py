"""Talk to the assistant that serves, and say what its answers are worth."""

import uuid

import streamlit as st

from pages._ui.chat_choice import ask_models, find_answerers
from pages._ui.chat_stream import answer
from pages._ui.chat_turns import draw_turns
from pages._ui.chat_words import RETRY
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, reporting
from pages._ui.state import show_notices
from rlhf_core.accounts.permissions import Permission
from rlhf_core.feedback.drafts import MAX_TEXT_BYTES
from rlhf_core.serving.talks import awaits_choice, list_turns
from rlhf_core.store.engine import get_store

actor = require_page(Permission.RATE)
show_notices()
MAX_CHARS = min(20_000, MAX_TEXT_BYTES // 4)


def start_anew() -> None:
    """Begin a conversation of its own; a callback."""
    st.query_params.pop("chat", None)


with st.container(horizontal=True, vertical_alignment="bottom"):
    st.title("Chat", width="content")
    models = ask_models(find_answerers(actor))
    if "chat" in st.query_params:
        st.button("New conversation", key="chat_new", icon=":material/add:", on_click=start_anew)

if not models:
    empty_state(
        "No assistant serves yet",
        "Train a policy and promote it: then people talk to it here, and what they say of its "
        "answers is feedback.",
        icon=":material/forum:",
        page="pages/train/launch.py",
        page_label="Train a policy",
    )
    st.stop()
chat_id = st.query_params.get("chat") or uuid.uuid4().hex
with reporting():
    with get_store().reading() as db:
        turns = list_turns(db, chat_id, actor=actor)
    if not turns:
        st.caption(
            "What you write and what is answered is stored, may be read and rated by your team, "
            "and used for training. Write nothing that must not be kept."
        )
    draw_turns(turns)
    is_open = awaits_choice(turns)
    typed = st.chat_input("Choose an answer first" if is_open else "Ask the assistant",
                          key="chat_prompt", max_chars=MAX_CHARS, submit_mode="stop",
                          disabled=is_open)  # fmt: skip
    prompt = st.session_state.pop(RETRY, None) or typed
    if prompt and not is_open:
        st.query_params["chat"] = chat_id
        if answer(str(prompt), turns, chat_id=chat_id, models=models):
            st.rerun()
