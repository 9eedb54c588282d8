"""Showing another item from its beginning: Streamlit keeps the page scrolled where it was."""

import streamlit as st

_component = st.components.v2.component(
    "rlhf_scroll_to_top",
    html="<span hidden></span>\n",
    js="""
let shown = null;
export default function ({ data }) {
  if (shown !== null && shown !== data.item) {
    document.querySelector('[data-testid="stMain"]')?.scrollTo({ top: 0 });
  }
  shown = data.item;
}
""",
)


def scroll_to_top_for(item: str) -> None:
    """Scroll up where `item` (an id) is another one than before. Draws nothing."""
    _component(data={"item": item}, key="scroll_to_top", width=1, height=1)
