"""The bar of keys of the page Compare: the choice, by how much, and the ways on and back."""

from typing import Any

import streamlit as st

from pages._ui.compare_place import (
    FAILURE,
    Place,
    go_back,
    go_on,
    judge,
    set_strength,
    strength_of,
    undo,
)
from pages._ui.compare_view import STRENGTHS, name_side
from pages._ui.messages import show_error
from rlhf_core.vocabulary import Choice

STRENGTH_KEYS = {1: "J", 2: "K", 3: "L"}


def draw_keys(place: Place | None) -> None:
    """All that can be done by a key. Without completions only the way back."""
    error = st.session_state.pop(FAILURE, None)
    if error is not None:
        show_error(error)
    with st.container(horizontal=True, gap="small", key="keys", vertical_alignment="center"):
        if place is not None:
            with _row("strengths"):
                _draw_strengths(place)
            with _row("choices"):
                _draw_choices(place)
        st.space("stretch")
        with _row("ways"):
            suffix = "none" if place is None else place.key
            st.button("Back", key=f"back_{suffix}", shortcut="Left", on_click=go_back,
                      args=(place,))  # fmt: skip
            st.button("Undo", key="undo", shortcut="U", on_click=undo)
            if place is not None:
                st.button("Skip" if place.task.mine is None else "Next", key=f"next_{suffix}",
                          shortcut="Right", on_click=go_on, args=(place,))  # fmt: skip


def _draw_strengths(place: Place) -> None:
    chosen = strength_of(place)
    for strength, name in STRENGTHS.items():
        st.button(
            name,
            key=f"strength_{strength}_{place.key}",
            shortcut=STRENGTH_KEYS[strength],
            type=_chosen(chosen == strength),
            on_click=set_strength,
            args=(place, strength),
        )


def _draw_choices(place: Place) -> None:
    task = place.task
    mine = task.mine
    for number, side in enumerate(task.sides):
        name = name_side(task, number)
        st.button(
            name if len(task.sides) == 2 else f"{name} is best",
            key=f"choice_{number + 1}_{place.key}",
            shortcut=str(number + 1),
            type=_chosen(mine is not None and mine.best_id == side.interaction_id),
            on_click=judge,
            args=(place, side.interaction_id, Choice.LEFT, f"{name.lower()} is better"),
        )
    is_pair = len(task.sides) == 2
    for choice, key, name in (
        (Choice.TIE, "0", "Tie"),
        (Choice.BOTH_BAD, "B", "Both bad" if is_pair else "All bad"),
    ):
        st.button(
            name,
            key=f"choice_{key}_{place.key}",
            shortcut=key,
            type=_chosen(mine is not None and mine.best_id is None and mine.choice is choice),
            on_click=judge,
            args=(place, None, choice, name.lower()),
        )


def _row(key: str) -> Any:
    return st.container(horizontal=True, gap="xsmall", width="content", key=key,
                        vertical_alignment="center")  # fmt: skip


def _chosen(is_chosen: bool) -> Any:
    return "primary" if is_chosen else "secondary"
