"""What a person does at a page that may still be drawing itself."""

from contextlib import suppress

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, TimeoutError, expect

RETRIES, FIRST_LOOK_MS = 5, 4_000
# Streamlit's own: its navigation is no proper list, nested landmarks, and its progress has no name
NOT_OURS = ["list", "listitem", "svg-img-alt"]
STILL = """() => !document.querySelector('[data-stale="true"]') && document.getAnimations().every(
  (one) => one.playState !== 'running' || one.effect.getTiming().iterations === Infinity)"""


def idle(page: Page) -> None:
    """Until the page's script has ended."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def click_for(button: Locator, wanted: Locator) -> None:
    """Click until `wanted` shows, as a person does.

    A table that comes late moves what is below it: a button that moves away while it is held down
    was never clicked.
    """
    for _ in range(RETRIES):
        with suppress(TimeoutError):  # it is gone: what it does takes a while
            button.click(delay=50, timeout=FIRST_LOOK_MS)
        try:
            expect(wanted).to_be_visible(timeout=FIRST_LOOK_MS)
        except AssertionError:
            continue
        return
    expect(wanted).to_be_visible()


def go_to(page: Page, title: str) -> None:
    """Go to the page of this title by the navigation."""
    link = page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True)
    click_for(link, page.get_by_role("heading", name=title, exact=True))
    idle(page)


def press(page: Page, key: str) -> None:
    """Click the button of this key of Streamlit's, and wait for what comes of it."""
    idle(page)
    page.locator(f".st-key-{key} button").last.click(delay=50)
    idle(page)


def check_accessibility(page: Page, *, without: list[str] = NOT_OURS) -> None:
    """Assert that axe finds nothing, once nothing fades in or out: half a colour has no contrast.

    `without` names rules that are left out.
    """
    page.wait_for_function(STILL)
    rules = {rule: {"enabled": False} for rule in without}
    found = Axe().run(page, options={"rules": rules})
    assert found.violations_count == 0, found.generate_report()
