"""What a person does at a page that may still be drawing itself."""

from playwright.sync_api import Locator, Page, expect

RETRIES, FIRST_LOOK_MS = 5, 4_000


def idle(page: Page) -> None:
    """Until the page's script has ended."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def click_for(button: Locator, wanted: Locator) -> None:
    """Click until `wanted` shows, as a person does.

    A table that comes late moves what is below it: a button that moves away while it is held down
    was never clicked.
    """
    for _ in range(RETRIES):
        button.click(delay=50)
        try:
            expect(wanted).to_be_visible(timeout=FIRST_LOOK_MS)
        except AssertionError:
            continue
        return
    expect(wanted).to_be_visible()
