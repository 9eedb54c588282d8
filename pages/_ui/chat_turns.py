"""A conversation on screen: its turns, two answers side by side, and what one says of them."""

from collections.abc import Sequence
from itertools import groupby

import streamlit as st

from pages._ui.chat_steps import draw_steps
from pages._ui.chat_words import ask_again, choose, correct, say
from pages._ui.interaction_view import draw_text
from pages._ui.messages import plain
from rlhf_core.serving.talks import TalkTurn, awaits_choice
from rlhf_core.vocabulary import Choice

THUMBS = {1: ("thumb_up", "Good"), -1: ("thumb_down", "Bad")}
SIDES = ("Left", "Right")
CHOICES = {
    Choice.LEFT: ("Left is better", "arrow_back"),
    Choice.RIGHT: ("Right is better", "arrow_forward"),
    Choice.TIE: ("Tie", "drag_handle"),
    Choice.BOTH_BAD: ("Both bad", "thumb_down"),
}


def draw_turns(turns: list[TalkTurn]) -> None:
    """The conversation so far, each answer with what may be said of it."""
    if turns and turns[0].number:
        st.caption(f"The latest {len(turns)} answers; older ones are not shown.")
    groups = [list(group) for _, group in groupby(turns, key=_group_of)]
    for number, group in enumerate(groups):
        is_last = number == len(groups) - 1
        with st.chat_message("user"):
            draw_text(group[0].prompt, key=f"asked_{group[0].interaction_id.hex}")
        if len(group) == 2:
            _draw_pair(group, is_last=is_last)
            continue
        with st.chat_message("assistant"):
            _draw_answer(group[0], is_last=is_last)


def _group_of(turn: TalkTurn) -> str:
    return turn.pair or turn.interaction_id.hex


def _draw_pair(pair: Sequence[TalkTurn], *, is_last: bool) -> None:
    """Two answers; which version gave which shows once one of them was chosen."""
    is_open = awaits_choice(pair)
    choice = pair[0].choice
    for name, column, turn in zip(SIDES, st.columns(2, gap="small"), pair, strict=True):
        with column, st.container(border=True, key=f"side_{turn.interaction_id.hex}"):
            with st.container(horizontal=True, gap="small"):
                st.markdown(f"**{name}**", width="content")
                if choice is Choice(name.lower()):
                    st.badge("your choice", icon=":material/check:", color="blue")
            _draw_answer(turn, is_last=False, is_open=is_last, has_tools=not is_open)
    if is_open:
        with st.container(horizontal=True, gap="xsmall", key="chat_choices"):
            for one, (name, icon) in CHOICES.items():
                st.button(name, key=f"choose_{one.value}_{pair[0].pair}",
                          icon=f":material/{icon}:", on_click=choose,
                          args=(pair, one))  # fmt: skip
        st.caption("Choose, then the conversation goes on with that answer. Which version gave "
                   "which is shown afterwards.")  # fmt: skip
        return
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        if choice in (Choice.TIE, Choice.BOTH_BAD):
            st.caption(
                "A tie: it goes on with the left one." if choice is Choice.TIE
                else "Both bad: it goes on without them.",
                width="content",
            )  # fmt: skip
        if is_last:
            _draw_again(pair[0])


def _draw_answer(
    turn: TalkTurn, *, is_last: bool, is_open: bool | None = None, has_tools: bool = True
) -> None:
    if turn.is_being_written:
        st.caption("It is being written.")
        return
    draw_steps(turn, is_open=is_last if is_open is None else is_open)
    if turn.completion.strip():
        draw_text(turn.completion, key=f"answer_{turn.interaction_id.hex}")
    else:
        st.caption("It gave no answer." if turn.steps else "It said nothing.")
    if has_tools:
        _draw_tools(turn, is_last=is_last)


def _draw_tools(turn: TalkTurn, *, is_last: bool) -> None:
    key = turn.interaction_id.hex
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        for thumb, (icon, name) in THUMBS.items():
            st.button(
                name,
                key=f"thumb_{thumb}_{key}",
                icon=f":material/{icon}:",
                type="primary" if turn.thumb == thumb else "tertiary",
                on_click=say,
                args=(turn.interaction_id, {"thumb": thumb}),
            )
        label = "Correct" if turn.correction is None else "Corrected"
        with st.popover(label, icon=":material/edit:", key=f"correct_{key}", type="tertiary"):
            box = f"correction_{key}"
            st.text_area("What it should have said", value=turn.correction or turn.completion,
                         key=box, height=160)  # fmt: skip
            st.button("Save", key=f"save_{key}", type="primary", on_click=correct,
                      args=(turn, box))  # fmt: skip
        with st.popover("Copy", icon=":material/content_copy:", key=f"copy_{key}", type="tertiary"):
            st.code(turn.completion, language=None, wrap_lines=True)
        if is_last:
            _draw_again(turn)
        said = [plain(turn.version or "")] + ["broken off"] * turn.is_partial
        st.caption(" · ".join(filter(None, said)), width="content")


def _draw_again(turn: TalkTurn) -> None:
    st.button("Ask again", key=f"again_{turn.interaction_id.hex}", icon=":material/refresh:",
              type="tertiary", on_click=ask_again, args=(turn.prompt,))  # fmt: skip
