"""Small charts without axes, drawn as pictures: a chart library takes most of a second to start."""

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import streamlit as st

COLOR = "#5B8DEF"  # to be seen on white and on near-black
WIDTH, HEIGHT, EDGE = 240, 36, 2


def draw_sparkline(values: Sequence[float], alt: str, *, as_bars: bool = False) -> None:
    """The values from left to right, the least at the bottom; bars stand on zero."""
    picture = make_bars(values) if as_bars else make_line(values)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'preserveAspectRatio="none">{picture}</svg>'
    )
    style = f"display:block; width:100%; height:{HEIGHT}px"
    source = f"data:image/svg+xml,{quote(svg)}"
    st.html(f'<img alt="{escape(alt)}" style="{style}" src="{source}">')


def make_line(values: Sequence[float]) -> str:
    """A line through the values, in the middle where all are alike."""
    low, high = min(values), max(values)
    step = (WIDTH - 2 * EDGE) / max(1, len(values) - 1)
    places = [
        f"{EDGE + number * step:.1f},{_lift(value - low, high - low):.1f}"
        for number, value in enumerate(values)
    ]
    return (
        f'<polyline points="{" ".join(places)}" fill="none" stroke="{COLOR}" stroke-width="2" '
        'stroke-linejoin="round" vector-effect="non-scaling-stroke"/>'
    )


def make_bars(values: Sequence[float]) -> str:
    """A bar a value; what is nothing has none."""
    step, high = WIDTH / len(values), max(values)
    bars = (
        (number * step, HEIGHT * value / high) for number, value in enumerate(values) if value > 0
    )
    return "".join(
        f'<rect x="{left:.1f}" y="{HEIGHT - tall:.1f}" width="{0.75 * step:.1f}" '
        f'height="{tall:.1f}" fill="{COLOR}"/>'
        for left, tall in bars
    )


def _lift(value: float, span: float) -> float:
    """How far from the top."""
    share = value / span if span else 0.5
    return HEIGHT - EDGE - share * (HEIGHT - 2 * EDGE)
