"""Charts: a DataFrame in, a Plotly figure out. No Streamlit here."""

import pandas as pd
import plotly.graph_objects as go

CHART_HEIGHT = 220  # pixels


def draw_metric_curve(points: pd.DataFrame, *, title: str) -> go.Figure:
    """A metric over the steps of a run. `points` has the columns `step` and `value`."""
    # Lines and marks: a curve of one or two points would otherwise be invisible.
    mode = "lines+markers" if len(points) < 40 else "lines"
    figure = go.Figure(
        go.Scatter(
            x=points["step"],
            y=points["value"],
            mode=mode,
            name=title,
            hovertemplate="step %{x}: %{y:.4g}<extra></extra>",
        )
    )
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=CHART_HEIGHT,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        showlegend=False,
        xaxis={"title": {"text": "step"}, "rangemode": "tozero"},
        uirevision=title,  # a zoom survives the refresh while the run goes on
    )
    return figure
