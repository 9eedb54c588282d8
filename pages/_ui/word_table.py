"""A table of sentences. On a phone each row is a card: columns would be a word wide."""

import pandas as pd
import streamlit as st

STACKED = """<style>@media screen and (max-width: 640px) {{
  .st-key-{key} :is(table, tbody, tr, td) {{ display: block; width: auto; border: none }}
  .st-key-{key} thead {{ display: none }}
  .st-key-{key} tr {{ padding: .4rem 0 }}
  .st-key-{key} tr + tr {{ border-top: 1px solid light-dark(#D5DBE6, #344054) }}
  .st-key-{key} td {{ padding: .1rem .6rem }}
  .st-key-{key} td:nth-child(1) {{ font-weight: 600 }}
{labels}
}}</style>"""


def show_word_table(frame: pd.DataFrame, *, key: str, alt: str) -> None:
    """The rows, each headed by its first column on a phone.

    Cells are Markdown; columns have names of our own, which stand before the cells there.
    """
    labels = "\n".join(
        f'  .st-key-{key} td:nth-child({number}) p::before {{ content: "{name}: " }}'
        for number, name in enumerate(frame.columns, 1)
        if number > 1
    )
    st.html(STACKED.format(key=key, labels=labels))
    with st.container(key=key):
        st.table(frame, hide_index=True, alt=alt)
