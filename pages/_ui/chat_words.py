"""What a person says of an answer in the chat: callbacks, each of which stores at once."""

import uuid
from collections.abc import Sequence
from typing import Any

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.messages import plain
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Permission
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS, FeedbackDraft
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.serving.talks import TalkTurn, choose_answer
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Choice

RETRY = "chat_retry"


def say(interaction_id: uuid.UUID, said: dict[str, Any]) -> None:
    """Store feedback on an answer, or with `step` on a step of it."""
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            submit_feedback(db, interaction_id, FeedbackDraft(**said), actor=actor, source="chat")
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
    else:
        notify("Saved. Thank you.")


def correct(turn: TalkTurn, box: str) -> None:
    """Store what the answer should have been, as it stands in the text area `box`."""
    text = str(st.session_state.get(box) or "").strip()
    if not text or len(text) > MAX_COMMENT_CHARS:
        notify(f"Write what it should have said, up to {MAX_COMMENT_CHARS:,} characters.",
               icon=":material/info:")  # fmt: skip
    elif text == turn.completion.strip():
        notify("This is what it said: change it to what it should have said.",
               icon=":material/info:")  # fmt: skip
    else:
        say(turn.interaction_id, {"correction": text})


def choose(pair: Sequence[TalkTurn], choice: Choice) -> None:
    """Store which of two answers is better; the conversation goes on with it."""
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            choose_answer(db, pair, choice, actor=actor)
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
    else:
        notify("Saved. Thank you.")


def ask_again(prompt: str) -> None:
    """Ask the same once more, in the run that follows."""
    st.session_state[RETRY] = prompt
