"""Charts: a DataFrame in, a Plotly figure out. No Streamlit here."""

import pandas as pd
import plotly.graph_objects as go

CHART_HEIGHT = 220  # pixels
RELIABILITY_HEIGHT = 300
COMPARISON_HEIGHT = 340
MANY_POINTS = 30
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


def draw_runs(lines: pd.DataFrame, *, title: str, across: str) -> go.Figure:
    """A number of several runs. `lines` has the columns `run`, `x` and `value`, in their order."""
    figure = go.Figure()
    for run, line in lines.groupby("run", sort=True):
        figure.add_trace(
            go.Scatter(
                x=line["x"],
                y=line["value"],
                mode="lines+markers" if len(line) < 40 else "lines",
                name=str(run),
                hovertemplate=f"{run}<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>",
            )
        )
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=COMPARISON_HEIGHT + 22 * lines["run"].nunique(),
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        showlegend=True,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
        xaxis={"title": {"text": across}, "rangemode": "tozero"},
        yaxis={"exponentformat": "none"},
        uirevision=title + across,
    )
    return figure


def draw_audit(points: pd.DataFrame, *, kept: int | None, best: int | None) -> go.Figure:
    """The reward and the held-out judge's over sqrt(KL), with the update that was kept.

    `points` has the columns `update`, `sqrt_kl`, `reward`, and, where somebody judged,
    `held_out_reward`. Of many points it draws the means over a tenth of them.
    """
    figure = go.Figure()
    names = {"reward": "reward model", "held_out_reward": "held-out judge"}
    drawn = [name for name in names if name in points and points[name].notna().any()]
    lines = points[["sqrt_kl", *drawn]]
    if len(points) >= MANY_POINTS:
        lines = lines.rolling(len(points) // 10, center=True, min_periods=1).mean()
    for name in drawn:
        about = f"{names[name]}<br>update %{{customdata}}, distance %{{x:.2f}}: %{{y:.3f}}"
        figure.add_trace(
            go.Scatter(
                x=lines["sqrt_kl"],
                y=lines[name],
                mode="lines+markers",
                line={"dash": "solid" if name == "reward" else "dot"},
                marker={"size": 5, "symbol": "circle" if name == "reward" else "diamond"},
                customdata=points["update"],
                name=names[name],
                hovertemplate=about + "<extra></extra>",
            )
        )
    _mark_updates(figure, points, {"kept": kept, "best by the judge": best})
    figure.update_layout(
        height=COMPARISON_HEIGHT,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "y": -0.22, "yanchor": "top"},
        xaxis={"title": {"text": "square root of the KL to the reference"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "mean reward"}},
    )
    return figure


def _mark_updates(figure: go.Figure, points: pd.DataFrame, marks: dict[str, int | None]) -> None:
    """A dashed line at the distance of each marked update; the nearest one that has a point."""
    words: dict[float, list[str]] = {}
    for word, update in marks.items():
        if update is not None:
            nearest = points.loc[(points["update"] - update).abs().idxmin()]
            words.setdefault(float(nearest["sqrt_kl"]), []).append(f"{word} (update {update})")
    for place, said in words.items():
        is_right = place == max(words)  # the words of two marks stand on either side of them
        figure.add_vline(
            x=place,
            line={"dash": "dash", "color": GREY, "width": 1.5},
            annotation={"text": "<br>".join(said), "font": {"size": 12}},
            annotation_position="bottom right" if is_right else "bottom left",
        )


def draw_drift(points: pd.DataFrame, name: str, *, title: str, kept: int | None) -> go.Figure:
    """A figure of the answers over the updates; a dashed line at the one that was kept."""
    figure = go.Figure(
        go.Scatter(
            x=points["update"],
            y=points[name],
            mode="lines",
            hovertemplate="update %{x}: %{y:.3g}<extra></extra>",
        )
    )
    if kept is not None:
        figure.add_vline(x=kept, line={"dash": "dash", "color": GREY, "width": 1.5})
    figure.update_layout(
        title={"text": title, "font": {"size": 14}},
        height=CHART_HEIGHT,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        showlegend=False,
        xaxis={"title": {"text": "update"}},
        yaxis={"rangemode": "tozero"},
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
