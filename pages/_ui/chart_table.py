"""A chart with its numbers as a table under it, both to take away."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from rlhf_core.dataset.export import make_inert

MAX_ROWS_SHOWN = 10
NOTHING = "Nothing to draw in this period."


def show_chart(
    figure: go.Figure,
    table: pd.DataFrame,
    *,
    key: str,
    alt: str,
    name: str,
    column_config: dict[str, Any] | None = None,
    draw_chosen: Callable[[int], None] | None = None,
) -> None:
    """The chart, "Table" under it, and both as files: the chart as PNG, the table as CSV.

    Without rows it says that there is nothing. `alt` tells in a sentence what the chart shows, to
    whoever cannot see it. `name` begins the files' names. The table is made when it is opened
    (`st.session_state[f"{key}_table"] = True` opens it). Columns are named as people read them.
    `draw_chosen` draws what belongs to a row of the table that was clicked, such as a link.
    """
    if table.empty:
        st.caption(NOTHING)
        return
    st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        config={
            "displaylogo": False,
            "displayModeBar": True,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {"filename": name, "scale": 2},
        },
    )
    under = st.expander("Table", key=f"{key}_table", on_change="rerun", icon=":material/table:")
    if under.open:
        with under:
            _show_table(table, key, alt, column_config, draw_chosen)
            st.download_button(
                "CSV",
                lambda: write_csv(table),
                f"{name}.csv",
                "text/csv",
                key=f"{key}_csv",
                icon=":material/download:",
                on_click="ignore",
            )


def _show_table(
    table: pd.DataFrame,
    key: str,
    alt: str,
    column_config: dict[str, Any] | None,
    draw_chosen: Callable[[int], None] | None,
) -> None:
    shown: dict[str, Any] = {
        "hide_index": True,
        "height": "content" if len(table) <= MAX_ROWS_SHOWN else 380,
        "key": f"{key}_rows",
        "column_config": column_config,
        "alt": f"The numbers of the chart: {alt}",
    }
    if draw_chosen is None:
        st.dataframe(table, **shown)
        return
    chosen = st.dataframe(table, on_select="rerun", selection_mode="single-row", **shown)
    places = [place for place in chosen.selection.rows if place < len(table)]
    if places:
        draw_chosen(places[0])
    else:
        st.caption("Choose a row to see what it was made of.")


def write_csv(table: pd.DataFrame) -> bytes:
    """The table for a spreadsheet: what it would run as a formula is inert, unknown is empty."""
    out = io.StringIO()
    write = csv.writer(out)
    write.writerow([make_inert(str(name)) for name in table.columns])
    for row in table.itertuples(index=False):
        write.writerow(["" if pd.isna(cell) else make_inert(cell) for cell in row])
    return out.getvalue().encode("utf-8-sig")
