"""Charts of analysis: a DataFrame in, a Plotly figure out. No Streamlit here.

Names of others go through `label`, for Plotly reads a little HTML. Colours are those of the theme:
Streamlit puts them in the place of the template's. Where a figure is unknown there is a gap. A
figure is put together as plain dicts and checked by Plotly once: five times as fast as by parts.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go

LINE_HEIGHT = 300  # pixels
VOLUME_HEIGHT = 110
VOLUME_SHARE = 0.26  # of the chart's height
BAR_HEIGHT = 30  # of each bar
GREY = "#8A94A6"  # seen on white and on black
MAX_LABEL_CHARS = 40
MAX_BAR_LABEL_CHARS = 26  # on a phone more would leave no room for the bars
MAX_BANDS = 4  # intervals of more lines would hide each other
NEAR = 0.04  # of the time axis: marks that are closer share a label
SINGLE_WIDTH_MS = 6 * 3_600_000  # of a column that stands alone: Plotly would draw a hair
NOT_GIVEN = "(none)"
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": {"text": ""}}
MARKS_HEIGHT = 20  # pixels of the numbers above the chart; the legend stands over them
ROOM = {"l": 8, "r": 16, "t": 48, "b": 8}  # the top is for the legend and the download button


@dataclass(frozen=True)
class Mark:
    """A moment to draw across the time axis, such as a release (UTC); `words` may be of others."""

    at: datetime
    words: str


def label(text: object, *, max_chars: int = MAX_LABEL_CHARS) -> str:
    """Any text as a label of Plotly that shows exactly the text, on one line, shortened."""
    words = " ".join(str(text).split()) or NOT_GIVEN
    if len(words) > max_chars:
        words = words[: max_chars - 1].rstrip() + "…"
    # quote=False: Plotly knows no &#x27;
    return html.escape(words, quote=False).replace("%{", "%&#123;")


def draw_lines(
    points: pd.DataFrame,
    *,
    title: str,
    as_percent: bool = False,
    with_volume: bool = False,
    marks: Sequence[Mark] = (),
    bounds: tuple[float, float] | None = None,
    count_word: str = "ratings",
) -> go.Figure:
    """A figure over time, a line a `name` in their order, and the volume below it.

    `points` has the columns `x` (moments or numbers), `name` ("" where there is one line only) and
    `value` (None: a gap); `low` and `high`, the ends of an interval, and `n`, what it is made of,
    where known. `bounds`: between what the value lies at all (percent, unless said: 0
    and 1). The marks are
    numbered from 1 in their order; the page says below what they are.
    """
    names = list(points["name"].drop_duplicates())
    has_bands = "low" in points and len(names) <= MAX_BANDS
    unit = ".1%" if as_percent else ".3~g"
    traces: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        line = points[points["name"] == name].sort_values("x")
        own: dict[str, Any] = {"name": label(name) if name else title, "legendgroup": str(name)}
        colour = _colour(number)
        if has_bands:
            traces += [own | band for band in _bands(line, colour)]
        traces.append(
            own
            | {
                "type": "scatter",
                "x": line["x"],
                "y": line["value"],
                "mode": "lines+markers" if len(line) < 40 else "lines",
                "line": {"color": colour},
                "marker": {"size": 6},
                "customdata": _numbers(line),
                "hovertemplate": _hover(line, unit, count_word),
            }
        )
        if with_volume:
            traces.append(own | _volume(line, colour, count_word, bool(name)))
    bounds = (0.0, 1.0) if as_percent and bounds is None else bounds
    height = LINE_HEIGHT + (VOLUME_HEIGHT if with_volume else 0)
    above = MARKS_HEIGHT if marks and len(names) > 1 else 0
    layout: dict[str, Any] = {
        "height": height + above,
        "margin": {**ROOM, "t": ROOM["t"] + above},
        "barmode": "stack",
        "showlegend": len(names) > 1,
        "legend": {**LEGEND, "y": 1.02 + above / height},
        "hovermode": "x unified" if len(names) <= MAX_BANDS else "closest",
        "xaxis": _time_axis(points["x"]),
        "yaxis": {
            "title": {"text": title},
            "automargin": True,
            "nticks": 6,
            "range": _range(points, bounds),
            **({"tickformat": ".0%"} if as_percent else {}),
            **({"domain": [VOLUME_SHARE + 0.06, 1]} if with_volume else {}),
        },
        **_draw_marks(marks, points["x"]),
    }
    if with_volume:
        layout["xaxis"]["anchor"] = "y2"
        layout["yaxis2"] = {
            "title": {"text": label(count_word.capitalize())},
            "domain": [0, VOLUME_SHARE],
            "rangemode": "tozero",
            "nticks": 4,
        }
    return go.Figure({"data": traces, "layout": layout})


def draw_bars(
    rows: pd.DataFrame,
    *,
    title: str,
    as_percent: bool = False,
    count_word: str = "ratings",
) -> go.Figure:
    """A horizontal bar a row, the first on top.

    `rows` has the columns `name` and `value`; `low`, `high` and `n` where known.
    """
    is_whole = bool((rows["value"].dropna() % 1 == 0).all())
    unit = ".1%" if as_percent else ",.0f" if is_whole else ",.2f"
    axis: dict[str, Any] = {"title": {"text": title}, "rangemode": "tozero"}
    if as_percent:
        axis |= {"tickformat": ".0%", "range": [0, 1.02]}
    bars: dict[str, Any] = {
        "type": "bar",
        "x": rows["value"],
        "y": _distinct(rows["name"], MAX_BAR_LABEL_CHARS),
        "orientation": "h",
        "marker": {"color": _colour(0)},
        "customdata": _numbers(rows),
        "hovertemplate": "%{y}<br>" + _hover(rows, unit, count_word, value="x"),
    }
    if "low" in rows:
        bars["error_x"] = {
            "type": "data",
            "array": rows["high"] - rows["value"],
            "arrayminus": rows["value"] - rows["low"],
            "thickness": 1.5,
            "width": 3,
            "color": GREY,
        }
    else:
        bars |= {
            "texttemplate": f"%{{x:{unit}}}",
            "textposition": "outside",
            "textangle": 0,
            "cliponaxis": False,
        }
        most = rows["value"].max()
        if not as_percent and most > 0:
            axis["range"] = [0, 1.12 * most]  # room for the number beside the bar
    layout = {
        "height": 90 + BAR_HEIGHT * max(2, len(rows)),
        "margin": {**ROOM, "t": 32},
        "showlegend": False,
        "xaxis": axis,
        "yaxis": {"autorange": "reversed", "automargin": True, "type": "category"},
        "bargap": 0.35,
    }
    return go.Figure({"data": [bars], "layout": layout})


def draw_columns(
    rows: pd.DataFrame, *, title: str, across: str, as_percent: bool = False, stacked: bool = True
) -> go.Figure:
    """Columns over categories, such as how often each rating was given.

    `rows` has the columns `x`, `name` ("" where there is one kind only) and `value`.
    """
    unit = ".1%" if as_percent else ",.4~g"
    names = list(rows["name"].drop_duplicates())
    traces = []
    for number, name in enumerate(names):
        part = rows[rows["name"] == name]
        words = label(name) if name else ""
        traces.append(
            {
                "type": "bar",
                "x": _distinct(part["x"]),
                "y": part["value"],
                "name": words or title,
                "marker": {"color": _colour(number)},
                "hovertemplate": f"%{{x}}: %{{y:{unit}}}<extra>{words}</extra>",
            }
        )
    axis: dict[str, Any] = {"title": {"text": title}, "rangemode": "tozero"}
    if as_percent:
        axis["tickformat"] = ".0%"
    layout = {
        "height": LINE_HEIGHT,
        "margin": ROOM,
        "barmode": "stack" if stacked else "group",
        "bargap": 0.3,
        "showlegend": len(names) > 1,
        "legend": LEGEND,
        "xaxis": {"title": {"text": across}, "type": "category"},
        "yaxis": axis,
    }
    return go.Figure({"data": traces, "layout": layout})


def _bands(line: pd.DataFrame, colour: str) -> list[dict[str, Any]]:
    """The interval as a pale band; where the value has a gap, so has the band."""
    known = line["low"].notna() & line["high"].notna()
    runs = (known != known.shift()).cumsum()
    return [
        {
            "type": "scatter",
            "x": [*part["x"], *part["x"][::-1]],
            "y": [*part["high"], *part["low"][::-1]],
            "mode": "lines",
            "fill": "toself",
            "fillcolor": colour,
            "line": {"width": 0, "color": colour},
            "opacity": 0.16,
            "showlegend": False,
            "hoverinfo": "skip",
        }
        for _, part in line[known].groupby(runs[known])
        if len(part) > 1
    ]


def _volume(line: pd.DataFrame, colour: str, count_word: str, has_name: bool) -> dict[str, Any]:
    extra = "%{fullData.name}" if has_name else ""
    columns: dict[str, Any] = {
        "type": "bar",
        "x": line["x"],
        "y": line["n"],
        "yaxis": "y2",
        "showlegend": False,
        "marker": {"color": colour},
        "opacity": 0.6,
        "hovertemplate": f"%{{y:,}} {label(count_word)}<extra>{extra}</extra>",
    }
    if len(line) == 1 and _are_moments(line["x"]):
        columns["width"] = SINGLE_WIDTH_MS
    return columns


def _draw_marks(marks: Sequence[Mark], moments: "pd.Series[Any]") -> dict[str, Any]:
    """A dashed line at each moment, its number on top; close ones share a label."""
    if moments.empty or not marks:
        return {}
    near = (moments.max() - moments.min()) * NEAR
    shapes: list[dict[str, Any]] = []
    labelled: list[tuple[pd.Timestamp, list[int]]] = []
    for number, mark in sorted(enumerate(marks, 1), key=lambda pair: pair[1].at):
        at = pd.Timestamp(mark.at)
        at = at.tz_convert(None) if at.tzinfo else at
        line = {"dash": "dot", "color": GREY, "width": 1.5}
        shapes.append(
            {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line}
        )
        if labelled and at - labelled[-1][0] <= near:
            labelled[-1][1].append(number)
        else:
            labelled.append((at, [number]))
    annotations = [
        {
            "x": at,
            "y": 1,
            "yref": "paper",
            "text": _say_numbers(numbers),
            "hovertext": "<br>".join(f"{n}: {label(marks[n - 1].words)}" for n in numbers),
            "showarrow": False,
            "yanchor": "bottom",
            "font": {"size": 11},
        }
        for at, numbers in labelled
    ]
    return {"shapes": shapes, "annotations": annotations}


def _say_numbers(numbers: Sequence[int]) -> str:
    if len(numbers) <= 2 or sorted(numbers) != list(range(min(numbers), max(numbers) + 1)):
        return ",".join(map(str, numbers[:3])) + ("…" if len(numbers) > 3 else "")
    return f"{min(numbers)}-{max(numbers)}"


def _time_axis(moments: "pd.Series[Any]") -> dict[str, Any]:
    """From the first moment to the last, with room for a column.

    Said outright: else marks would widen the axis, and of one point Plotly shows a microsecond.
    """
    if moments.empty or not _are_moments(moments):
        return {}
    each = moments.drop_duplicates().sort_values()
    step = each.diff().min() if len(each) > 1 else pd.Timedelta(days=1)
    return {"type": "date", "range": [each.iloc[0] - step, each.iloc[-1] + step]}


def _are_moments(values: "pd.Series[Any]") -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(values))


def _range(points: pd.DataFrame, bounds: tuple[float, float] | None) -> list[float] | None:
    """From the lowest to the highest, with room; never beyond the bounds, never of no height."""
    names = [name for name in ("value", "low", "high") if name in points]
    values = points[names].to_numpy(dtype=float).ravel()
    values = values[~pd.isna(values)]
    if not len(values) or bounds is None:
        return None if bounds is None else list(bounds)
    least = 0.2 * (bounds[1] - bounds[0])
    low, high = float(values.min()), float(values.max())
    room = max(0.08 * (high - low), (least - (high - low)) / 2)
    edge = 0.02 * (bounds[1] - bounds[0])  # so that a line along the bound is seen whole
    return [max(bounds[0] - edge, low - room), min(bounds[1] + edge, high + room)]


def _hover(rows: pd.DataFrame, unit: str, count_word: str, *, value: str = "y") -> str:
    text = f"%{{{value}:{unit}}}"
    if "low" in rows:
        text += f" (%{{customdata[0]:{unit}}} to %{{customdata[1]:{unit}}})"
    if "n" in rows:
        text += f", %{{customdata[2]:,}} {label(count_word)}"
    return text + "<extra></extra>" if value == "x" else text


def _numbers(rows: pd.DataFrame) -> Any:
    """What is told under the pointer: `low`, `high` and `n`; None where unknown."""
    return rows.reindex(columns=["low", "high", "n"]).to_numpy(dtype=float)


def _distinct(names: "pd.Series[Any]", max_chars: int = MAX_LABEL_CHARS) -> list[str]:
    """Labels; two names that are shortened to the same get a number, else Plotly would add them."""
    seen: dict[str, int] = {}
    labels = []
    for name in names:
        words = label(name, max_chars=max_chars)
        seen[words] = seen.get(words, 0) + 1
        labels.append(words if seen[words] == 1 else f"{words} ({seen[words]})")
    return labels


def _colour(number: int) -> str:
    """The theme's colour of this number, as Streamlit's template names it."""
    return f"#{number % 10 + 1:06d}"
