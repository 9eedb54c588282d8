"""Signing in and out in a real browser, and what a page without the launcher shows."""

import os
import re
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pages._ui.guard import NOT_LAUNCHED
from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import SOURCE_ROOT
from rlhf_core.vocabulary import Role
from tests.browser.conftest import OpenAs
from tests.browser.hands import check_accessibility
from tests.live_server import LiveServer, find_free_port

PASSWORD = "correct horse battery"
HOSTILE = "![x](https://evil.example/p.png) [y](https://evil.example) www.evil.example"
KEEP_SOME = """every => {
  const all = [...document.querySelectorAll('section.route')]
  all.filter((_, at) => at % every).forEach(section => section.remove())
  return document.querySelectorAll('section.route').length
}"""

pytestmark = pytest.mark.browser


@pytest.fixture(params=["light", "dark"])
def stranger(
    request: pytest.FixtureRequest, browser: Browser, live_server: LiveServer
) -> Iterator[Page]:
    """A page of a browser that is not signed in."""
    context = browser.new_context(color_scheme=request.param, base_url=live_server.url)
    yield context.new_page()
    context.close()


def test_password_signs_in_and_leads_to_the_page_that_was_asked_for(
    stranger: Page, live_server: LiveServer
) -> None:
    name = f"kim {uuid.uuid4().hex[:6]}"
    with live_server.store.writing() as db:
        service.create_account(db, actor=SYSTEM, name=name, role=Role.RATER, password=PASSWORD)
    stranger.goto("/?item=1")
    expect(stranger.get_by_role("heading", name="RLHF Loop")).to_be_visible()
    check_accessibility(stranger)
    expect(stranger.get_by_label("Name")).to_be_focused()
    stranger.keyboard.type(name)
    stranger.keyboard.press("Tab")
    stranger.keyboard.type("wrong")
    stranger.keyboard.press("Enter")
    expect(stranger.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    expect(stranger.get_by_label("Name")).to_have_value(name)
    check_accessibility(stranger)
    stranger.get_by_label("Password").fill(PASSWORD)
    stranger.keyboard.press("Enter")
    expect(stranger.locator(".st-key-sign_out")).to_be_visible()
    expect(stranger).to_have_url(re.compile(r"/rate\?item=1$"))


def test_sign_out_leads_to_the_sign_in_page(open_as: OpenAs, live_server: LiveServer) -> None:
    page, _ = open_as(Role.RATER)
    page.locator(".st-key-sign_out button").click(delay=50)
    expect(page).to_have_url(f"{live_server.url}/login")
    page.goto(f"{live_server.url}/?item=1")
    expect(page).to_have_url(f"{live_server.url}/login?next=%2F%3Fitem%3D1")


@pytest.mark.slow
def test_documentation_of_the_api_opens_in_the_browser(
    open_as: OpenAs, live_server: LiveServer
) -> None:
    page, _ = open_as(Role.TRAINER)
    page.goto(f"{live_server.url}/api/docs")
    expect(page.get_by_role("heading", name="RLHF Loop API")).to_be_visible()
    num_left = page.evaluate(KEEP_SOME, 12)  # they are drawn alike, and axe looks at each for long
    assert num_left >= 10
    check_accessibility(page)


def test_hostile_name_is_shown_as_text_and_loads_nothing(
    browser: Browser, live_server: LiveServer
) -> None:
    with live_server.store.writing() as db:
        service.create_account(db, actor=SYSTEM, name=HOSTILE, role=Role.RATER)
        link = tokens.create_sign_in_link(db, actor=SYSTEM, account_name=HOSTILE)
    context = browser.new_context(base_url=live_server.url)
    page = context.new_page()
    calls: list[str] = []
    page.on("request", lambda request: calls.append(request.url))
    page.goto(f"/login?token={link}")
    account = page.locator(".st-key-account")
    expect(account).to_contain_text("[x](https:")
    expect(account.locator("a, img")).to_have_count(0)
    assert not [url for url in calls if "evil" in url]
    context.close()


def test_streamlit_run_without_the_launcher_shows_only_what_to_run(
    browser: Browser, tmp_path: Path
) -> None:
    port = find_free_port()
    environment = {**os.environ, "RLHF_DATA_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)],
        cwd=SOURCE_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_up(process, url)
        page = browser.new_page()
        for path in ("", "/rate", "/transfer"):
            page.goto(url + path)
            expect(page.get_by_role("alert")).to_contain_text(NOT_LAUNCHED.split("`")[0].strip())
            expect(page.get_by_role("button", name="Sign out")).to_have_count(0)
        page.close()
    finally:
        process.kill()
        process.wait()


def wait_until_up(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2):  # noqa: S310
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("streamlit did not start")
