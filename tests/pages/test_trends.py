"""The page of trends."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pages._ui.trend_parts import choose_grain, days_of_point
from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.filters import Filters, today
from rlhf_core.analytics.trends import Grain, Split
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import RaterKind, Role
from tests.builders import make_feedback, make_interaction
from tests.pages.test_overview import HOSTILE, charts, rate, texts

SignIn = Callable[[Role], Actor]


@pytest.fixture
def database_url(tmp_path: Path, sqlite_template: Path) -> str:
    path = tmp_path / "pages.db"
    path.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{path}"


def open_page(**params: str) -> AppTest:
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=60).run()
    for name, value in params.items():
        page.query_params[name] = value
    page.switch_page("pages/analyse/trends.py").run()
    assert not page.exception
    return page


def test_without_data_it_says_how_to_get_some(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    assert "No feedback yet" in texts(open_page())


def test_table_under_the_chart_holds_its_numbers(store: Store, sign_in_as: SignIn) -> None:
    actor = sign_in_as(Role.ANALYST)
    with store.writing() as db:
        for rating in (5, 4, 1):
            rate(db, rating, action_type="search")
        rate(db, 2, days_ago=1, action_type=HOSTILE)
        item = make_interaction(db)
        make_feedback(db, item.id, actor=actor, thumb=1, aspects={HOSTILE: 3})
    page = open_page()
    assert not page.dataframe  # tables are made when they are opened
    for key in ("trend", "trend_ratings", "trend_thumbs", "trend_aspects"):
        page.session_state[f"{key}_table"] = True
    page.run()
    assert not page.exception
    by_key = {one.key: one.value for one in page.dataframe}
    trend = by_key["trend_rows"]
    assert list(trend["From (UTC)"]) == [str(today() - timedelta(days=1)), str(today())]
    assert list(trend["Feedback"]) == [1, 4]
    assert list(trend["Approval (%)"]) == [0.0, 75.0]
    assert list(by_key["trend_ratings_rows"]["Number"]) == [1, 1, 0, 1, 1]
    assert list(by_key["trend_thumbs_rows"]["Number"]) == [1, 0, 0]
    assert list(by_key["trend_aspects_rows"]["Aspect"]) == [HOSTILE]
    assert "<b>" not in charts(page)
    alts = [chart.proto.alt for chart in page.get("plotly_chart")]
    assert len(alts) == 4
    assert all(alts)


def test_trend_is_told_apart_and_by_another_grain(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        rate(db, 5, action_type="search")
        rate(db, 1, action_type=HOSTILE)
        rate(db, 1, kind=RaterKind.END_USER)
    page = open_page()
    page.session_state["trend_table"] = True
    page.selectbox(key="trend_split").set_value(Split.ACTION_TYPE).run()
    assert not page.exception
    assert set(page.dataframe[0].value["Action type"]) == {"search", HOSTILE, "(none)"}
    page.selectbox(key="trend_split").set_value(Split.RATER_KIND).run()
    assert set(page.dataframe[0].value["Raters"]) == {"Experts", "End users"}
    page.segmented_control(key="trend_grain").set_value(Grain.MONTH).run()
    assert set(page.dataframe[0].value["From (UTC)"]) == {f"{today():%Y-%m}-01"}
    page.segmented_control(key="trend_figure").set_value("rating").run()
    assert not page.exception
    assert "Average rating" in charts(page)


def test_hours_are_offered_of_short_periods_only(store: Store, sign_in_as: SignIn) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        rate(db, 5)
    page = open_page()
    assert "Hour" not in page.segmented_control(key="trend_grain").options
    page.segmented_control(key="insight_period").set_value("7d").run()
    page.segmented_control(key="trend_grain").set_value(Grain.HOUR).run()
    assert not page.exception
    page.segmented_control(key="insight_period").set_value("30d").run()
    assert not page.exception
    assert not page.error
    assert page.segmented_control(key="trend_grain").value is Grain.DAY


@pytest.mark.parametrize("path", ["overview", "trends"])
def test_the_whole_time_of_a_day_old_world_is_shown_by_day(
    store: Store, sign_in_as: SignIn, path: str
) -> None:
    sign_in_as(Role.ANALYST)
    with store.writing() as db:
        rate(db, 5)
    page = AppTest.from_file(str(SOURCE_ROOT / "app.py"), default_timeout=60).run()
    page.query_params["period"] = "all"
    page.switch_page(f"pages/analyse/{path}.py").run()
    assert not page.exception
    assert not page.error
    assert any("by day" in chart.proto.alt for chart in page.get("plotly_chart"))


def test_grain_suits_the_period() -> None:
    begun = Filters(since=date(2016, 1, 1))
    grains = [choose_grain(begun, num_days) for num_days in (1, 7, 120, 365, 3650)]
    assert grains == [Grain.HOUR, Grain.DAY, Grain.DAY, Grain.WEEK, Grain.MONTH]
    assert days_of_point(date(2024, 2, 1), Grain.MONTH) == (date(2024, 2, 1), date(2024, 2, 29))
    assert days_of_point(date(2026, 11, 16), Grain.WEEK)[1] == date(2026, 11, 22)
    assert days_of_point(date(2026, 11, 16), Grain.DAY)[1] == date(2026, 11, 16)
