"""The way to an answer: its reasoning steps, each of which may be called good, neutral or wrong."""

import streamlit as st

from pages._ui.chat_words import say
from pages._ui.interaction_view import draw_text
from rlhf_core.serving.talks import TalkTurn

LABELS = {1: ("Good", "check"), 0: ("Neutral", "remove"), -1: ("Wrong", "close")}
STEPS_A_PAGE = 20


def draw_steps(turn: TalkTurn, *, is_open: bool) -> None:
    """The steps of a stored answer, folded unless `is_open`; nothing where there is none."""
    if not turn.steps:
        return
    key = turn.interaction_id.hex
    num, num_said = len(turn.steps), sum(step.label is not None for step in turn.steps)
    label = f"Reasoning · {num} step{'s' if num != 1 else ''}"
    label += f", {num_said} rated" if num_said else ""
    with st.expander(label, icon=":material/account_tree:", key=f"steps_{key}",
                     expanded=is_open, on_change="rerun") as fold:  # fmt: skip
        if not fold.open:
            return
        first = 0
        if len(turn.steps) > STEPS_A_PAGE:
            num_pages = -(-len(turn.steps) // STEPS_A_PAGE)
            first = (st.pagination(num_pages, key=f"steps_page_{key}") - 1) * STEPS_A_PAGE
        for position in range(first, min(first + STEPS_A_PAGE, len(turn.steps))):
            _draw_step(turn, position)


def _draw_step(turn: TalkTurn, position: int) -> None:
    step, key = turn.steps[position], f"{position}_{turn.interaction_id.hex}"
    with st.container(border=True, gap="xsmall"):
        draw_text(step.content, key=f"step_{key}")
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
            st.caption(f"Step {position + 1}", width="content")
            for label, (name, icon) in LABELS.items():
                st.button(
                    name,
                    key=f"label_{label}_{key}",
                    icon=f":material/{icon}:",
                    type="primary" if step.label == label else "tertiary",
                    on_click=say,
                    args=(turn.interaction_id, {"step": position, "label": label}),
                )
