"""A conversation on screen: its turns, what one says of them, and the answer as it comes."""

import time
import uuid
from contextlib import closing
from typing import Any

import streamlit as st

from pages._ui.guard import require_page
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain, reporting
from pages._ui.state import notify
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.errors import RlhfError
from rlhf_core.feedback.drafts import MAX_COMMENT_CHARS, FeedbackDraft
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.serving.answers import Served, finish_answer
from rlhf_core.serving.chat_client import stream_policy
from rlhf_core.serving.talks import TalkTurn, begin_turn, messages_of
from rlhf_core.store.engine import get_store

RETRY = "chat_retry"
DRAWN_EVERY_S = 0.05
THUMBS = {1: ("thumb_up", "Good"), -1: ("thumb_down", "Bad")}


def draw_turns(turns: list[TalkTurn]) -> None:
    """The conversation so far, each answer with what may be said of it."""
    if turns and turns[0].number:
        st.caption(f"The latest {len(turns)} turns; older ones are not shown.")
    for number, turn in enumerate(turns):
        with st.chat_message("user"):
            draw_text(turn.prompt, key=f"asked_{turn.interaction_id.hex}")
        with st.chat_message("assistant"):
            if turn.is_being_written:
                st.caption("It is being written.")
                continue
            if turn.completion.strip():
                draw_text(turn.completion, key=f"answer_{turn.interaction_id.hex}")
            else:
                st.caption("It said nothing.")
            _draw_tools(turn, is_last=number == len(turns) - 1)


def _draw_tools(turn: TalkTurn, *, is_last: bool) -> None:
    key = turn.interaction_id.hex
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        for thumb, (icon, name) in THUMBS.items():
            st.button(
                name,
                key=f"thumb_{thumb}_{key}",
                icon=f":material/{icon}:",
                type="primary" if turn.thumb == thumb else "tertiary",
                on_click=_say,
                args=(turn.interaction_id, {"thumb": thumb}),
            )
        label = "Correct" if turn.correction is None else "Corrected"
        with st.popover(label, icon=":material/edit:", key=f"correct_{key}", type="tertiary"):
            box = f"correction_{key}"
            st.text_area("What it should have said", value=turn.correction or turn.completion,
                         key=box, height=160)  # fmt: skip
            st.button("Save", key=f"save_{key}", type="primary", on_click=_correct,
                      args=(turn, box))  # fmt: skip
        with st.popover("Copy", icon=":material/content_copy:", key=f"copy_{key}", type="tertiary"):
            st.code(turn.completion, language=None, wrap_lines=True)
        if is_last:
            st.button("Ask again", key=f"again_{key}", icon=":material/refresh:", type="tertiary",
                      on_click=_ask_again, args=(turn.prompt,))  # fmt: skip
        said = [plain(turn.version or "")] + ["broken off"] * turn.is_partial
        st.caption(" · ".join(filter(None, said)), width="content")


def answer(prompt: str, turns: list[TalkTurn], *, chat_id: str, model: str) -> bool:
    """Ask the model and show the answer as it comes; whether there was one.

    What was asked is stored before the first piece shows, the answer as far as it comes: also
    where the person stops it or leaves.
    """
    actor = require_page(Permission.RATE)
    with st.chat_message("user"):
        draw_text(prompt, key="asked_now")
    with st.chat_message("assistant"):
        place = st.empty()
        place.caption("…")
        with reporting():
            _stream(place, prompt, turns, chat_id=chat_id, model=model, actor=actor)
            return True
        place.empty()
        st.button("Ask again", key="again_now", icon=":material/refresh:",
                  on_click=_ask_again, args=(prompt,))  # fmt: skip
    return False


def _stream(
    place: Any, prompt: str, turns: list[TalkTurn], *, chat_id: str, model: str, actor: Actor
) -> None:
    messages = [*messages_of(turns), ("user", prompt)]
    body = {
        "model": model,
        "messages": [{"role": role, "content": content} for role, content in messages],
    }
    started, drawn_at, text, end = time.perf_counter(), 0.0, "", None
    with closing(stream_policy(body)) as lines:
        first = next(lines)
        version_id = uuid.UUID(first["version_id"])
        with get_store().writing() as db:
            turn_id = begin_turn(
                db, chat_id, prompt, actor=actor, before=turns, version=first["version"],
                version_id=version_id,
            )  # fmt: skip
        try:
            for line in lines:
                text += line.get("piece", "")
                end = None if "piece" in line else line
                if time.perf_counter() - drawn_at > DRAWN_EVERY_S:
                    place.text(text)
                    drawn_at = time.perf_counter()
        finally:  # also where Streamlit ends the script: stopped, or the person has left
            served = Served(version_id, (time.perf_counter() - started) * 1000,
                            reason=None if end else "broken off")  # fmt: skip
            with get_store().writing() as db:
                finish_answer(db, turn_id, text, served, is_whole=end is not None)
    if end is not None and end.get("finish_reason") == "length":
        notify("The answer is cut off: the limit was reached.", icon=":material/info:")


def _say(interaction_id: uuid.UUID, said: dict[str, Any]) -> None:
    """Store what a person says of an answer; a callback."""
    actor = require_page(Permission.RATE)
    try:
        with get_store().writing() as db:
            submit_feedback(db, interaction_id, FeedbackDraft(**said), actor=actor, source="chat")
    except RlhfError as error:
        notify(plain(str(error)), icon=":material/error:")
    else:
        notify("Saved. Thank you.")


def _correct(turn: TalkTurn, box: str) -> None:
    text = str(st.session_state.get(box) or "").strip()
    if not text or len(text) > MAX_COMMENT_CHARS:
        notify(f"Write what it should have said, up to {MAX_COMMENT_CHARS:,} characters.",
               icon=":material/info:")  # fmt: skip
    elif text == turn.completion.strip():
        notify("This is what it said: change it to what it should have said.",
               icon=":material/info:")  # fmt: skip
    else:
        _say(turn.interaction_id, {"correction": text})


def _ask_again(prompt: str) -> None:
    st.session_state[RETRY] = prompt
