"""Charts of versions side by side: a DataFrame in, a Plotly figure out. No Streamlit here."""

import pandas as pd
import plotly.graph_objects as go

from pages._ui.insight_charts import GREY, draw_lines


def draw_calibrations(bins: pd.DataFrame) -> go.Figure:
    """What versions promise against what is so; on the dashed line a promise is kept.

    `bins` has the columns `name`, `x` (the chance given), `value` (the share that is so) and `n`.
    """
    figure = draw_lines(bins, title="is so", as_percent=True, count_word="rows")
    figure.add_shape(
        type="line", x0=0, y0=0, x1=1, y1=1, line={"dash": "dash", "color": GREY, "width": 1}
    )
    figure.update_xaxes(tickformat=".0%")
    return _across(figure, "the version says")


def draw_distributions(points: pd.DataFrame) -> go.Figure:
    """How often each version gives which score: `name`, `x` (the middle of a bin), `value`, `n`."""
    figure = draw_lines(points, title="share of the rows", as_percent=True, count_word="rows")
    figure.update_traces(line_shape="hvh", mode="lines")
    figure.update_yaxes(rangemode="tozero", range=[0, 1.1 * max(0.05, points["value"].max())])
    return _across(figure, "score")


def _across(figure: go.Figure, title: str) -> go.Figure:
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(title_text=title, range=[-0.02, 1.02] if title != "score" else None)
    return figure
