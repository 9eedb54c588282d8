"""Charts: a DataFrame in, a Plotly figure out. No Streamlit here."""

import pandas as pd
import plotly.graph_objects as go

CHART_HEIGHT = 220  # pixels
RELIABILITY_HEIGHT = 300
GREY = "#8A94A6"  # seen on white and on black
LARGEST_MARK = 26  # pixels across, of the bin with the most rows


def draw_metric_curves(points: pd.DataFrame, *, title: str) -> go.Figure:
    """A metric over the steps of a run. `points` has the columns `member`, `step` and `value`.

    Each member of an ensemble has a line; the name of a run's only model is empty.
    """
    figure = go.Figure()
    for member, line in points.groupby("member", sort=False):
        name = str(member) or title
        figure.add_trace(
            go.Scatter(
                x=line["step"],
                y=line["value"],
                # Lines and marks: a curve of one or two points would otherwise be invisible.
                mode="lines+markers" if len(line) < 40 else "lines",
                name=name,
                hovertemplate=f"{name}<br>step %{{x}}: %{{y:.4g}}<extra></extra>",
            )
        )
    has_members = points["member"].nunique() > 1
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=CHART_HEIGHT + (40 if has_members else 0),
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        showlegend=has_members,
        legend={"orientation": "h", "y": -0.35},
        xaxis={"title": {"text": "step"}, "rangemode": "tozero"},
        yaxis={"exponentformat": "none"},  # a rate of 0.00002, not of "20µ"
        uirevision=title,  # a zoom survives the refresh while the run goes on
    )
    return figure


def draw_reliability(bins: pd.DataFrame, *, word: str = "good") -> go.Figure:
    """What a model promises against what is so; `word` is what it promises.

    `bins` has the columns `mean_probability`, `share_good` (0..1) and `n`; a bin with more rows is
    a larger mark. On the dashed line the promise is kept.
    """
    sizes = (bins["n"] / bins["n"].max()) ** 0.5 * LARGEST_MARK
    figure = go.Figure(
        [
            go.Scatter(
                x=bins["mean_probability"],
                y=bins["share_good"],
                mode="lines+markers",
                marker={"size": sizes.clip(lower=6)},
                customdata=bins["n"],
                hovertemplate=(
                    "says %{x:.0%}, is so %{y:.0%}<br>%{customdata:,} rows<extra></extra>"
                ),
            ),
            go.Scatter(
                x=[0, 1],
                y=[0, 1],
                mode="lines",
                line={"dash": "dash", "color": GREY, "width": 1},
                hoverinfo="skip",
            ),
        ]
    )
    share = {"range": [-0.03, 1.03], "tickformat": ".0%", "dtick": 0.2}
    figure.update_layout(
        height=RELIABILITY_HEIGHT,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        showlegend=False,
        xaxis={"title": {"text": f"the model says {word}"}, **share},
        yaxis={"title": {"text": f"people say {word}"}, **share},
    )
    return figure
