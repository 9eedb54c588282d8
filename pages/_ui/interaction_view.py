"""Showing one interaction. All of it is text of others: no Markdown, no HTML, nothing fetched."""

import unicodedata
from collections.abc import Iterator
from typing import Any

import streamlit as st

from pages._ui.messages import JOINER, plain
from rlhf_core.feedback.views import InteractionView
from rlhf_core.vocabulary import DEMO_SOURCE

LONG_TEXT_CHARS = 6_000
NUM_RECENT_MESSAGES = 4
MAX_FACTS = 60
RTL_START, RTL_END = "\u2067", "\u2069"


def draw_prompt(item: InteractionView) -> None:
    """The earlier messages and the prompt."""
    hidden, recent = item.context[:-NUM_RECENT_MESSAGES], item.context[-NUM_RECENT_MESSAGES:]
    if hidden:
        with st.expander(f"{len(hidden)} earlier messages", key=f"earlier_{item.id.hex}"):
            _draw_messages(hidden, key=f"e_{item.id.hex}")
    _draw_messages(recent, key=f"r_{item.id.hex}")
    with st.container(border=True, key="prompt", gap="xsmall"):
        with st.container(horizontal=True, gap="small"):
            st.markdown("**Prompt**", width="content")
            if item.source == DEMO_SOURCE:
                st.badge("demo", icon=":material/science:", color="gray")
        draw_text(item.prompt, key=f"prompt_{item.id.hex}")


def draw_action(item: InteractionView) -> None:
    """What the assistant did, and with which values; nothing where that is not known."""
    if item.action_type is None and not item.action_data:
        return
    with st.container(border=True, key="action", gap="xsmall"):
        with st.container(horizontal=True, gap="small"):
            st.markdown("**Action**", width="content")
            if item.action_type is not None:
                st.badge(plain(item.action_type), color="gray")
        facts = list(flatten(item.action_data or {}))
        for number, (name, value) in enumerate(facts[:MAX_FACTS]):
            with st.container(horizontal=True, gap="small"):
                st.caption(plain(name), width="content")
                draw_text(value, key=f"fact_{item.id.hex}_{number}")
        if len(facts) > MAX_FACTS:
            st.caption(f"{len(facts) - MAX_FACTS} more values are not shown.")


def draw_text(text: str, *, key: str) -> None:
    """A text exactly as it is; of a very long one the beginning, and the rest on demand."""
    shown = text
    if len(text) > LONG_TEXT_CHARS and not st.session_state.get(f"whole_{key}"):
        shown = text[:LONG_TEXT_CHARS] + " …"
    if shown[:1].isspace():
        shown = JOINER + shown  # Streamlit would take the indent away
    if reads_right_to_left(text):
        # the marks make each line an RTL one: else its last full stop stands at the wrong end
        lines = "\n".join(f"{RTL_START}{line}{RTL_END}" for line in shown.split("\n"))
        st.text(lines, width="stretch", text_alignment="right")
    else:
        st.text(shown)
    if len(text) > LONG_TEXT_CHARS:
        st.toggle(f"Show all {len(text):,} characters", key=f"whole_{key}")


def reads_right_to_left(text: str) -> bool:
    """Whether the first letter that has a direction is Arabic, Hebrew or the like."""
    for char in text[:1_000]:
        direction = unicodedata.bidirectional(char)
        if direction in ("R", "AL", "L"):
            return direction != "L"
    return False


def flatten(data: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """JSON as (name, value) lines: `filter / year`, `2024`; short lists on one line."""
    for name, value in data.items():
        full = f"{path} / {name}" if path else name
        match value:
            case dict() if value:
                yield from flatten(value, full)
            case list() if any(isinstance(entry, dict | list) for entry in value):
                yield from flatten({str(n): entry for n, entry in enumerate(value, 1)}, full)
            case list():
                yield full, ", ".join(map(_show, value)) or "none"
            case _:
                yield full, _show(value)


def _show(value: Any) -> str:
    match value:
        case None | "" | {}:
            return "none"
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


def _draw_messages(messages: tuple[tuple[str, str], ...], *, key: str) -> None:
    for number, (role, content) in enumerate(messages):
        known = role if role in ("user", "assistant") else "message"
        with st.chat_message(known, avatar=None if known == role else ":material/notes:"):
            if known != role:
                st.caption(plain(role))
            draw_text(content, key=f"{key}_{number}")
