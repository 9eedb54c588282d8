"""The overview, the bar of filters and the charts of all pages of analysis."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
import streamlit as st
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from pages._ui.chart_table import write_csv
from pages._ui.insight_charts import Mark, draw_bars, draw_columns, draw_lines, label
from pages._ui.insight_filters import read_filters, write_filters
from pages._ui.kpi_cards import KPIS, MAX_SPARKS, say_change, thin_days
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.filters import Filters, today
from rlhf_core.analytics.key_figures import KeyFigures
from rlhf_core.analytics.overview import DayFigures
from rlhf_core.clock import utcnow
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import RollupDirtyDay
from rlhf_core.vocabulary import RaterKind, Role
from tests.builders import make_actor, make_feedback, make_interaction

SignIn = Callable[[Role], Actor]
HOSTILE = "![x](https://evil.example/p.png) <b>$%{y}"


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    path = tmp_path / "pages.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


def open_app(**params: str | list[str]) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=60)
    for name, value in params.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def address(page: AppTest) -> dict[str, list[str]]:
    """The query parameters; AppTest gives one value as itself, several as a list."""
    params = page.query_params.items()
    return {name: [value] if isinstance(value, str) else list(value) for name, value in params}


def texts(page: AppTest) -> str:
    shown = [*page.markdown, *page.caption, *page.warning, *page.info, *page.error, *page.text]
    return "\n".join(element.value for element in shown)


def metrics(page: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in page.metric}


def charts(page: AppTest) -> str:
    """What the browser gets of all charts."""
    return "\n".join(chart.proto.spec for chart in page.get("plotly_chart"))


def rate(
    db: Session, rating: int, *, days_ago: int = 0, kind: RaterKind | None = None, **fields: Any
) -> None:
    moment = utcnow() - timedelta(days=days_ago)
    item = make_interaction(db, occurred_at=moment, **fields)
    said = {"rating": rating, "occurred_at": moment}
    if kind is None:
        make_feedback(db, item.id, actor=make_actor(db), **said)
    else:
        make_feedback(db, item.id, rater="kim", rater_kind=kind, **said)


def test_an_analyst_lands_on_the_overview_and_a_rater_on_their_work(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    assert open_app().title[0].value == "Overview"
    sign_in_as(Role.RATER)
    page = open_app()
    assert "Overview" not in [title.value for title in page.title]


def test_without_data_it_says_how_to_get_some(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.TRAINER)
    page = open_app()
    assert "No feedback yet" in texts(page)
    assert page.button(key="demo_load")
    assert metrics(page)["1. Feedback waiting"] == "0"
    assert not page.get("plotly_chart")
    assert "nan" not in texts(page).lower()


def test_figures_of_the_period_and_their_change(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        for rating in (5, 5, 4, 1):
            rate(db, rating, action_type="search")
        for rating in (5, 1):
            rate(db, rating, days_ago=40)
        rate(db, 5, kind=RaterKind.END_USER)
        make_interaction(db)
    page = open_app()
    shown = metrics(page)
    assert shown["Approval"] == "80.0 %"
    assert shown["Average rating"] == "4.00 of 5"
    assert shown["Satisfaction"] == "100.0 %"
    assert shown["Coverage"] == "83.3 %"
    assert shown["Feedback"] == "5"
    assert shown["Active raters"] == "4"
    assert shown["Live"] == "none"
    assert shown["1. Feedback waiting"] == "7"
    by_label = {one.label: one.delta for one in page.metric}
    assert by_label["Approval"] == "+30.0 points"
    assert by_label["Feedback"] == "+150 %"
    assert len(page.get("plotly_chart")) == 2


def test_all_alike_one_row_and_no_verdict_show_no_nan(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        rate(db, 3)
    page = open_app()  # neither good nor bad: no approval
    assert metrics(page)["Approval"] == "–"  # noqa: RUF001
    for _ in range(2):
        assert "nan" not in (texts(page) + charts(page)).lower()
        with store.writing() as db:
            rate(db, 5)
            rate(db, 5)
            db.execute(sa.update(RollupDirtyDay).values(marked_at=utcnow() - timedelta(minutes=1)))
        st.cache_resource.clear()  # it is read again after a while
        page = open_app()
    assert metrics(page)["Approval"] == "100.0 %"


def test_a_day_under_way_is_counted_again_after_ten_seconds(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)

    def rate_and_look(rating: int, *, seconds_ago: int, days_ago: int = 0) -> str:
        moment = utcnow() - timedelta(seconds=seconds_ago)
        with store.writing() as db:
            rate(db, rating, days_ago=days_ago)
            db.execute(sa.update(RollupDirtyDay).values(marked_at=moment))
        st.cache_data.clear()
        st.cache_resource.clear()
        return metrics(open_app())["Feedback"]

    assert rate_and_look(5, seconds_ago=0) == "1"  # a new day
    assert rate_and_look(4, seconds_ago=0) == "1"
    assert rate_and_look(4, seconds_ago=20) == "3"
    assert rate_and_look(4, seconds_ago=0, days_ago=1) == "4"


def test_an_empty_period_leads_to_the_whole_time(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        rate(db, 5, days_ago=400)
    page = open_app()
    assert "No feedback in this period" in texts(page)
    assert f"{today() - timedelta(days=400)}" in texts(page)
    page.button(key="insight_all_time").click().run()
    assert not page.exception
    assert address(page)["period"] == ["all"]
    assert metrics(page)["Feedback"] == "1"


def test_filters_are_in_the_address_and_follow_to_the_next_page(
    store: Store, sign_in_as: SignIn
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        rate(db, 5, action_type="search", model_name="v1")
        rate(db, 1, action_type=HOSTILE)
        rate(db, 1, days_ago=60)
    page = open_app(action=["", "search"], period="90d")  # '' stands for none
    assert metrics(page)["Feedback"] == "2"
    page.multiselect(key="insight_action").set_value([HOSTILE]).run()
    assert not page.exception
    assert address(page) == {"action": [HOSTILE], "period": ["90d"]}
    assert metrics(page)["Approval"] == "0.0 %"
    assert "![" not in texts(page)
    page.query_params.clear()  # a link of the menu has none
    page.switch_page("pages/analyse/trends.py").run()
    assert address(page) == {"action": [HOSTILE], "period": ["90d"]}
    page.query_params.clear()  # the way back, on the same page
    page.run()
    assert address(page) == {}
    page.segmented_control(key="insight_period").set_value("custom").run()
    assert address(page)["until"] == [today().isoformat()]
    page.date_input(key="insight_since").set_value(date(2020, 2, 3)).run()
    assert address(page)["since"] == ["2020-02-03"]
    page.segmented_control(key="insight_period").set_value("30d").run()
    assert address(page) == {}


def test_an_address_that_means_nothing_is_left_out() -> None:
    default = read_filters({})
    assert default == Filters(since=today() - timedelta(days=29), until=today())
    for wrong in ({"period": ["x"]}, {"since": ["1.2."]}, {"kind": ["owl"]}, {"period": []}):
        assert read_filters(wrong) == default
    turned = read_filters({"since": ["2026-02-01"], "until": ["2026-01-01"]})
    assert (turned.since, turned.until) == (date(2026, 1, 1), date(2026, 2, 1))
    for filters in (
        default,
        Filters(),
        Filters(since=date(2026, 1, 1)),
        Filters(until=date(2026, 1, 1), sources=("a", ""), rater_kinds=(RaterKind.SME,)),
        Filters(since=today() - timedelta(days=6), until=today(), model_names=("v1",)),
    ):
        assert read_filters(write_filters(filters)) == filters


def test_changes_are_said_in_points_and_percent() -> None:
    approval, rating, *_, feedback, _ = KPIS
    old = KeyFigures(num_feedback=10, num_good=1, num_bad=2, num_ratings=3, sum_ratings=9)
    new = KeyFigures(num_feedback=5, num_good=1, num_bad=1, num_ratings=4, sum_ratings=10)
    assert say_change(approval, new, old) == "+16.7 points"
    assert say_change(rating, new, old) == "-0.50"
    assert say_change(feedback, new, old) == "-50 %"
    assert say_change(feedback, old, old) == 0
    for kpi in KPIS:
        assert say_change(kpi, new, None) is None
        assert say_change(kpi, new, KeyFigures()) is None


def test_sparklines_of_long_periods_keep_every_count() -> None:
    first = date(2020, 1, 1)
    days = [
        DayFigures(first + timedelta(days=n), KeyFigures(num_feedback=1, num_raters=n % 3))
        for n in range(1000)
    ]
    thin = thin_days(days)
    assert len(thin) <= MAX_SPARKS
    assert sum(one.num_feedback for one in thin) == 1000
    assert max(one.num_raters for one in thin) == 2
    assert thin_days([]) == []


def test_labels_are_text_to_plotly() -> None:
    assert label("<b>a</b> & %{x}") == "&lt;b&gt;a&lt;/b&gt; &amp; %&#123;x}"
    assert label("") == "(none)"
    assert label("a\nb") == "a b"
    assert len(label("x" * 100)) == 40


def lines(values: list[float | None], name: str = "") -> pd.DataFrame:
    days = pd.date_range("2026-01-01", periods=len(values))
    low = [None if value is None else value - 0.1 for value in values]
    high = [None if value is None else value + 0.1 for value in values]
    return pd.DataFrame(
        {"x": days, "name": name, "value": values, "low": low, "high": high, "n": 5}
    ).astype({"value": float, "low": float, "high": float})


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], [None, None], [0.4, None, 0.6, 0.7]])
def test_charts_of_any_data_hold_numbers_only(values: list[float | None]) -> None:
    points = lines(values, name=HOSTILE)
    marks = [
        Mark(datetime(2026, 1, 2, tzinfo=UTC), HOSTILE),
        Mark(datetime(2026, 1, 2, 1, tzinfo=UTC), "v2"),
    ]
    drawn = [
        draw_lines(points, title="Approval", as_percent=True, with_volume=True, marks=marks),
        draw_lines(points.drop(columns=["low", "high"]), title="Rating", bounds=(1, 5)),
        draw_bars(points[["name", "value", "low", "high", "n"]], title="A", as_percent=True),
        draw_columns(points.assign(x="a")[["x", "name", "value"]], title="A", across="B"),
    ]
    for figure in drawn:
        spec = figure.to_json()
        assert "NaN" not in spec
        assert "<b>" not in spec
        assert "%{y}" not in str([trace.name for trace in figure.data])
        for axis in figure.select_yaxes():
            for end in axis.range or ():
                assert math.isfinite(end)


def test_gap_in_the_figures_is_a_gap_in_the_interval() -> None:
    figure = draw_lines(lines([0.5, 0.5, None, 0.6, 0.6]), title="Approval", as_percent=True)
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert [len(band.x) for band in bands] == [4, 4]


def test_shares_below_zero_are_drawn_where_the_bounds_say_so() -> None:
    points = lines([-0.1, 0.4]).drop(columns=["low", "high"])
    within = draw_lines(points, title="Share", as_percent=True)
    wider = draw_lines(points, title="Share", as_percent=True, bounds=(-1, 1))
    assert (within.layout.yaxis.range[0], wider.layout.yaxis.tickformat) == (-0.02, ".0%")
    assert wider.layout.yaxis.range[0] < -0.1


def test_marks_that_lie_close_share_a_label() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    marks = [Mark(start + timedelta(days=n), "v") for n in (1, 2, 3, 60)]
    figure = draw_lines(lines([0.5] * 100), title="Approval", marks=marks)
    assert [one.text for one in figure.layout.annotations] == ["1-3", "4"]
    assert len(figure.layout.shapes) == 4


def test_table_for_a_spreadsheet_is_inert_and_unknown_is_empty() -> None:
    table = pd.DataFrame({"=Name": ["=1+1", "a,b"], "Rate": [0.5, None], "n": [-1, 2]})
    assert write_csv(table).decode("utf-8-sig").splitlines() == [
        "'=Name,Rate,n", "'=1+1,0.5,-1", '"a,b",,2',
    ]  # fmt: skip
