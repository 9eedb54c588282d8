"""Rows of a dataset as a table, and one of them whole."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from pages._ui.interaction_view import draw_text
from rlhf_core.examples import (
    Example,
    PreferencePair,
    PromptOnly,
    ScoredCompletion,
    SftExample,
    SteppedCompletion,
    UnpairedPreference,
)

SHOWN_CHARS = 300
ROW_HEIGHT = 36
TEXTS = ("Prompt", "Completion", "Chosen", "Rejected", "First step")


def show_rows(rows: Sequence[Example], *, key: str) -> None:
    """A line a row; the one that is clicked is shown whole below."""
    frame = pd.DataFrame([_shorten(_cells(row)) for row in rows])
    chosen = st.dataframe(
        frame,
        hide_index=True,
        height=min(10, len(rows)) * ROW_HEIGHT + 40,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        column_config=dict.fromkeys(TEXTS, st.column_config.TextColumn(width="medium"))
        | {
            "Score": st.column_config.NumberColumn(format="%.2f", width="small"),
            "Margin": st.column_config.NumberColumn(format="%.2f", width="small"),
        },
        alt="Rows of the dataset",
    )
    places = [place for place in chosen.selection.rows if place < len(rows)]
    if not places:
        st.caption("Click a row to read it whole.")
        return
    place = places[0]
    with st.container(border=True, key=f"{key}_whole"):
        for number, (title, text) in enumerate(_texts(rows[place])):
            st.markdown(f"**{title}**")
            draw_text(text or " ", key=f"{key}_{place}_{number}")


def _cells(row: Example) -> dict[str, Any]:
    match row:
        case ScoredCompletion():
            return {
                "Score": row.score,
                "Ratings": row.num_ratings,
                "Prompt": row.prompt,
                "Completion": row.completion,
            }
        case PreferencePair():
            return {
                "Margin": row.margin,
                "From": row.origin,
                "Prompt": row.prompt,
                "Chosen": row.chosen,
                "Rejected": row.rejected,
            }
        case UnpairedPreference():
            return {
                "Thumb": "up" if row.label else "down",
                "Prompt": row.prompt,
                "Completion": row.completion,
            }
        case SteppedCompletion():
            wrong = [place + 1 for place, label in enumerate(row.labels) if label is False]
            return {
                "Steps": len(row.completions),
                "First wrong": str(wrong[0]) if wrong else "none",
                "Prompt": row.prompt,
                "First step": row.completions[0] if row.completions else "",
            }
        case SftExample():
            return {
                "From": "correction" if row.is_correction else "rated good",
                "Prompt": row.prompt,
                "Completion": row.completion,
            }
        case PromptOnly():
            return {"Prompt": row.prompt}


def _texts(row: Example) -> list[tuple[str, str]]:
    """Our own titles, and the texts of others below them."""
    match row:
        case PreferencePair():
            rest = [("Chosen", row.chosen), ("Rejected", row.rejected)]
        case SteppedCompletion():
            names = {True: "right", False: "wrong", None: "not judged"}
            labelled = zip(row.completions, row.labels, strict=True)
            rest = [
                (f"Step {place}: {names[label]}", text)
                for place, (text, label) in enumerate(labelled, 1)
            ]
        case PromptOnly():
            rest = []
        case _:
            rest = [("Completion", row.completion)]
    return [("Prompt", row.prompt), *rest]


def _shorten(cells: dict[str, Any]) -> dict[str, Any]:
    """The grid shows a line only: a million characters would go to the browser for nothing."""
    return {
        name: " ".join(value[: 2 * SHOWN_CHARS].split())[:SHOWN_CHARS]
        if isinstance(value, str)
        else value
        for name, value in cells.items()
    }
