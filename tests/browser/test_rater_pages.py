"""The pages Raters and Disputes for everybody: axe in light and dark, and a phone."""

from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from rlhf_core.store.tables import Comparison, Feedback
from rlhf_core.vocabulary import Role
from tests.browser.conftest import OpenAs
from tests.browser.hands import check_accessibility, idle
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import compare, make_completions
from tests.live_server import LiveServer

pytestmark = pytest.mark.browser
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture
def _judged(live_server: LiveServer) -> None:
    """Two who agree but for one answer and one pair; what other tests left is gone."""
    with live_server.store.writing() as db:
        db.execute(sa.delete(Feedback))
        db.execute(sa.delete(Comparison))
        raters = [make_actor(db) for _ in range(2)]
        for number in range(12):
            item = make_interaction(db).id
            for rater in raters:
                make_feedback(db, item, actor=rater, rating=5 if number % 2 else 1)
        for number, rater in enumerate(raters):
            make_feedback(db, item, actor=rater, rating=1 + 4 * number)
        pair = make_completions(db, prompt="W" * 200)  # a long word breaks, too
        for number, rater in enumerate(raters):
            compare(db, *pair, rater, choice=("left", "right")[number], reason="So.")


def check(page: Page) -> None:
    idle(page)
    check_accessibility(page)
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    idle(page)
    width = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert width <= PHONE["width"]
    page.set_viewport_size(DESK)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("_judged")
@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_raters_and_disputes_are_readable_and_fit_a_phone(
    open_as: OpenAs, live_server: LiveServer, scheme: Any
) -> None:
    page, _ = open_as(Role.ANALYST, color_scheme=scheme, viewport=DESK)
    page.goto(f"{live_server.url}/raters")
    expect(page.get_by_role("heading", name="Each rater")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    check(page)
    page.goto(f"{live_server.url}/disputes")
    expect(page.locator(".st-key-keys kbd").first).to_be_visible()
    check(page)
    page.get_by_role("radio", name="Pairs").click(delay=50)
    expect(page.locator(".st-key-side_1")).to_be_visible()
    check(page)
    page.keyboard.press("2")
    expect(page.get_by_label("Why? Kept with the decision")).to_be_focused()
    check_accessibility(page)
