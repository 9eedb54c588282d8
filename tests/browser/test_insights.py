"""Pages of analysis in a real browser: a shared view, a phone, and what a screen reader gets."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from rlhf_core.clock import utcnow
from rlhf_core.vocabulary import Role
from tests.browser.conftest import TIMEOUT_MS
from tests.browser.hands import NOT_OURS
from tests.builders import make_actor, make_feedback, make_interaction
from tests.live_server import LiveServer, run_server

HOSTILE = "![x](https://evil.example/p.png) <b>" + "search_and_" * 5
PHONE = {"width": 390, "height": 844}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with run_server(tmp_path_factory.mktemp("insights")) as server:
        with server.store.writing() as db:
            rater = make_actor(db)
            for number in range(30):
                moment = utcnow() - timedelta(days=number)
                item = make_interaction(
                    db, occurred_at=moment, action_type="search" if number % 3 else HOSTILE
                )
                make_feedback(
                    db, item.id, actor=rater, rating=1 + number % 5, occurred_at=moment,
                    aspects={"tone": 1 + number % 5},
                )  # fmt: skip
        yield server


def open_page(browser: Browser, server: LiveServer, address: str, **options: object) -> Page:
    context = browser.new_context(base_url=server.url, **options)  # type: ignore[arg-type]
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    _, link = server.make_account(Role.ANALYST)
    page.goto(link)
    page.wait_for_url(re.compile("/overview"))
    page.goto(address)
    return page


def wait_for_charts(page: Page, *keys: str) -> None:
    for key in keys:
        expect(page.locator(f".st-key-{key} .js-plotly-plot .trace").first).to_be_attached()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def find_violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}"
        for one in found
        if one["id"] not in NOT_OURS
    ]


def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    return int(
        page.evaluate(
            "Math.max(document.documentElement.scrollWidth - innerWidth, "
            "...[...document.querySelectorAll('[data-testid=stMain]')]"
            ".map(main => main.scrollWidth - main.clientWidth))"
        )
    )


@pytest.mark.slow
def test_view_is_shared_by_its_address_and_holds_on_the_next_page(
    browser: Browser, server: LiveServer
) -> None:
    page = open_page(browser, server, "/overview")
    wait_for_charts(page, "overview_trend", "overview_actions")
    page.get_by_role("radio", name="90 d").click()
    expect(page).to_have_url(re.compile("period=90d"))
    page.locator(".st-key-insight_more button").click()
    page.locator(".st-key-insight_action input").fill("search")
    page.get_by_role("option", name="search", exact=True).click()
    expect(page).to_have_url(re.compile("action=search"))
    other = open_page(browser, server, page.url)
    feedback = other.locator(".st-key-kpi_4")
    expect(feedback.get_by_test_id("stMetricValue")).to_have_text("20")
    other.get_by_role("link", name="Trends", exact=True).click()
    wait_for_charts(other, "trend", "trend_aspects")
    expect(other).to_have_url(re.compile("trends.*action=search"))


@pytest.mark.slow
def test_chart_and_its_table_can_be_taken_away(browser: Browser, server: LiveServer) -> None:
    page = open_page(browser, server, "/overview")
    wait_for_charts(page, "overview_trend")
    with page.expect_download() as picture:
        page.locator(".st-key-overview_trend .modebar-btn").first.click()
    assert picture.value.suggested_filename == "approval.png"
    assert picture.value.path().read_bytes().startswith(b"\x89PNG")
    page.locator(".st-key-overview_trend_table summary").click()
    with page.expect_download() as table:
        page.locator(".st-key-overview_trend_csv button").click()
    lines = table.value.path().read_text(encoding="utf-8-sig").splitlines()
    assert lines[0].startswith("From (UTC),Feedback,Good,Bad")
    assert len(lines) == 31


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_overview_is_accessible_and_fits_a_phone(
    browser: Browser, server: LiveServer, scheme: str
) -> None:
    page = open_page(browser, server, "/overview", color_scheme=scheme)
    wait_for_charts(page, "overview_trend", "overview_actions")
    assert not find_violations(page)
    page.set_viewport_size(PHONE)
    for address, chart in (("/overview", "overview_actions"), ("/trends", "trend_aspects")):
        page.goto(address)
        wait_for_charts(page, chart)
        assert overflow(page) <= 0, address
