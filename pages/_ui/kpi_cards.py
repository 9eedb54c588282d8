"""The figures at a glance as cards, and the stations of the loop."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from pages._ui.insight_rows import link_to_rows
from pages._ui.messages import JOINER, plain
from pages._ui.sparklines import draw_sparkline
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.key_figures import KeyFigures
from rlhf_core.analytics.loop import MAX_WAITING, LiveVersion, Loop
from rlhf_core.analytics.overview import DayFigures, Overview
from rlhf_core.vocabulary import Alias, RaterKind, Verdict

UNKNOWN = "–"  # noqa: RUF001 - Streamlit's own mark of a metric without a value
MAX_SPARKS = 60  # points of a sparkline
MAX_LIVE = 3
# Beside a long change a phone has no room for "vs. before": it goes below, and is not cut off.
WRAPPED = """<style>
.st-key-kpis div:has(> [data-testid="stMetricDelta"]) { flex-wrap: wrap }
</style>"""


@dataclass(frozen=True)
class Kpi:
    """A card: what it is called, how it is read from the figures, and how it is said.

    `scale` and `decimals` make the number that is shown of the value; `unit` is that of the value,
    `points` that of a change; a change of a count is told in percent. The link below, `rows_label`,
    leads to the rows that `rows` chooses, of raters of these kinds.
    """

    label: str
    read: Callable[[KeyFigures], float | None]
    help: str
    scale: float = 1
    decimals: int = 0
    unit: str = ""
    points: str = ""
    is_count: bool = False
    rows_label: str = "All feedback"
    rows: dict[str, Any] = field(default_factory=dict)
    rater_kinds: tuple[RaterKind, ...] = ()

    def say(self, value: float) -> str:
        """The value as people read it, with its unit."""
        return f"{self.scale * value:,.{self.decimals}f}{self.unit}"


KPIS = (
    Kpi(
        "Approval",
        lambda figures: figures.approval,
        "Good among good and bad. Good is a rating of 4 or 5, or else a thumb up; bad is a rating "
        "of 1 or 2, or else a thumb down.",
        scale=100,
        decimals=1,
        unit=" %",
        points=" points",
        rows={"verdict": Verdict.BAD},
        rows_label="What was bad",
    ),
    Kpi(
        "Average rating",
        lambda figures: figures.mean_rating,
        "The mean of the ratings from 1 to 5.",
        decimals=2,
        unit=" of 5",
    ),
    Kpi(
        "Satisfaction",
        lambda figures: figures.satisfaction,
        "The mean of what end users said: good counts 1, neutral a half, bad 0.",
        scale=100,
        decimals=1,
        unit=" %",
        points=" points",
        rater_kinds=(RaterKind.END_USER,),
        rows_label="What users said",
    ),
    Kpi(
        "Coverage",
        lambda figures: figures.coverage,
        "The share of the interactions of the period that have feedback on the answer, whoever "
        "gave it.",
        scale=100,
        decimals=1,
        unit=" %",
        points=" points",
    ),
    Kpi(
        "Feedback",
        lambda figures: figures.num_feedback,
        "Ratings, thumbs and comments on answers. Repeats and what was withdrawn do not count.",
        is_count=True,
    ),
    Kpi(
        "Active raters",
        lambda figures: figures.num_raters,
        "Experts who rated; end users and models are not counted.",
        is_count=True,
        rater_kinds=(RaterKind.SME,),
        rows_label="What they said",
    ),
)


def draw_kpis(overview: Overview, loop: Loop, filters: Filters) -> None:
    """A card a figure; then the open alerts and what is live."""
    days = thin_days(overview.days)
    st.html(WRAPPED)
    with st.grid(4, min_column_width=160, key="kpis"):
        for number, kpi in enumerate(KPIS):
            with st.container(border=True, height="stretch", key=f"kpi_{number}"):
                _draw_kpi(kpi, overview, days)
                if kpi.read(overview.now):
                    where = replace(filters, rater_kinds=kpi.rater_kinds or filters.rater_kinds)
                    link_to_rows(kpi.rows_label, where, **kpi.rows)
        with st.container(border=True, height="stretch", key="kpi_alerts"):
            st.metric("Open alerts", f"{loop.num_open_alerts:,}")
            link_to("pages/analyse/alerts.py", "Alerts", ":material/notifications:")
        with st.container(border=True, height="stretch", key="kpi_live"):
            _draw_live(loop.live)


def draw_loop(loop: Loop) -> None:
    """Where feedback becomes a model: each station, with the way to it."""
    newest = loop.newest_dataset
    since = f"since {plain(newest.name)} v{newest.number}" if newest else "in no dataset yet"
    waiting = f"{loop.num_waiting:,}" + ("+" if loop.num_waiting >= MAX_WAITING else "")
    running = f"{loop.num_queued_jobs:,} queued" if loop.num_queued_jobs else "none queued"
    models = ("pages/models/registry.py", "Models")
    stations = (
        ("Feedback waiting", waiting, since, ("pages/train/datasets.py", "Datasets")),
        (
            "Newest dataset",
            f"{newest.num_rows:,} rows" if newest else "none",
            f"frozen on {newest.created_at:%Y-%m-%d}" if newest else "freeze one to train",
            ("pages/train/datasets.py", "Datasets"),
        ),
        ("Running jobs", f"{loop.num_running_jobs:,}", running, ("pages/train/runs.py", "Runs")),
        ("Candidates", f"{loop.num_candidates:,}", "newer than what is live", models),
        (
            "Canaries",
            f"{loop.num_canaries:,}",
            "on part of the traffic",
            ("pages/models/rollout.py", "Rollout"),
        ),
    )
    with st.grid(5, min_column_width=150, key="loop"):
        for number, (name, value, about, (page, page_label)) in enumerate(stations, 1):
            with st.container(border=True, height="stretch", gap="xsmall", key=f"loop_{number}"):
                st.metric(f"{number}. {name}", value)
                st.caption(about)
                link_to(page, page_label, ":material/arrow_forward:")


def link_to(page: str, label: str, icon: str) -> None:
    """A link to a page, where this person has it."""
    with suppress(StreamlitAPIException, KeyError):
        st.page_link(page, label=label, icon=icon, width="content")


def thin_days(days: Sequence[DayFigures]) -> list[KeyFigures]:
    """At most `MAX_SPARKS` stretches of equally many days (the last may be shorter).

    Raters cannot be added up: a stretch has as many as its busiest day.
    """
    size = -(-len(days) // MAX_SPARKS) or 1
    return [
        _add_up(day.figures for day in days[at : at + size]) for at in range(0, len(days), size)
    ]


def say_change(kpi: Kpi, now: KeyFigures, before: KeyFigures | None) -> str | int | None:
    """The change in words, such as `+1.2 points`; 0 for none, None where it cannot be told."""
    new, old = kpi.read(now), None if before is None else kpi.read(before)
    if new is None or old is None:
        return None
    if kpi.is_count:
        percent = round(100 * (new - old) / old) if old else None
        return None if percent is None else f"{percent:+,} %" if percent else 0
    change = round(kpi.scale * new, kpi.decimals) - round(kpi.scale * old, kpi.decimals)
    change = round(change, kpi.decimals)
    return f"{change:+.{kpi.decimals}f}{kpi.points}" if change else 0


def _draw_kpi(kpi: Kpi, overview: Overview, days: list[KeyFigures]) -> None:
    value = kpi.read(overview.now)
    sparks = [number for day in days if (number := kpi.read(day)) is not None]
    change = say_change(kpi, overview.now, overview.before)
    st.metric(
        kpi.label,
        UNKNOWN if value is None else kpi.say(value),
        delta=change,
        delta_description=None if change is None else "vs. before",
        delta_color="primary" if change is None else "normal",
        help=kpi.help,
    )
    if len(sparks) > 1:
        alt = f"{kpi.label} over the period, from {kpi.say(sparks[0])} to {kpi.say(sparks[-1])}"
        draw_sparkline(sparks, alt, as_bars=kpi.is_count)


def _draw_live(live: Sequence[LiveVersion]) -> None:
    shown = [one for one in live if one.alias is Alias.PRODUCTION]
    shown += [one for one in live if one.alias is not Alias.PRODUCTION]
    num = sum(one.alias is Alias.PRODUCTION for one in live)
    st.metric("Live", "none" if not num else "1 model" if num == 1 else f"{num:,} models")
    for one in shown[:MAX_LIVE]:
        place = "" if one.alias is Alias.PRODUCTION else f" ({one.alias.value})"
        since = f"{one.since:%Y-%m-%d}".replace("-", f"{JOINER}-{JOINER}")  # stays on one line
        st.caption(f"**{plain(one.model)} v{one.number}**{place} since {since}")
    if len(shown) > MAX_LIVE:
        st.caption(f"and {len(shown) - MAX_LIVE} more")
    link_to("pages/models/registry.py", "Models", ":material/deployed_code:")


def _add_up(days: Iterable[KeyFigures]) -> KeyFigures:
    each = list(days)
    sums = {one.name: sum(getattr(day, one.name) for day in each) for one in fields(KeyFigures)}
    return KeyFigures(**{**sums, "num_raters": max((day.num_raters for day in each), default=0)})
