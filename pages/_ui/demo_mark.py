"""The mark of what was made of demo rows."""

import uuid
from collections.abc import Collection, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from rlhf_core.demo.marks import DemoMarks, find_marks
from rlhf_core.store.engine import get_store

MARK = "demo"


@st.cache_data(ttl=5, show_spinner=False)
def read_marks() -> DemoMarks:
    """What was made of demo rows, at most 5 s old."""
    with get_store().reading() as db:
        return find_marks(db)


def mark_rows(ids: Sequence[uuid.UUID], marked: Collection[uuid.UUID]) -> dict[str, list[str]]:
    """A column for a table of these; none where nothing in it is of the demo."""
    if not any(each in marked for each in ids):
        return {}
    return {"Data": [MARK if each in marked else "" for each in ids]}


def draw_mark(each: uuid.UUID, marked: Collection[uuid.UUID], place: DeltaGenerator) -> None:
    """A badge beside a heading, where it is due."""
    if each in marked:
        place.badge(
            MARK,
            icon=":material/science:",
            color="violet",
            help="Made of rows of the demo world. It goes when the demo world is cleared.",
        )
