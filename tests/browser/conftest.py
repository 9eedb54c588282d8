"""A real server and a real Chromium, each started once a test process."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect, sync_playwright

from rlhf_core.accounts.permissions import Actor
from rlhf_core.store.tables import Interaction
from rlhf_core.vocabulary import Role
from tests.conftest import miss
from tests.live_server import LiveServer, find_free_port, run_server

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--use-fake-device-for-media-stream",  # a microphone that beeps
    "--use-fake-ui-for-media-stream",  # and nobody asks whether it may be used
]
TIMEOUT_MS = 30_000  # a busy machine; what is there sooner is found sooner

OpenAs = Callable[..., tuple[Page, Actor]]
Desk = tuple[Page, Actor, LiveServer]


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The server that all browser tests of this process share, each with accounts of its own."""
    with run_server(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that CHROMIUM names; none is downloaded."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    path = next((found for name in names if name and (found := shutil.which(name))), None)
    if path is None:
        miss("no Chromium: install the package chromium, or set CHROMIUM")
        return
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(autouse=True)
def _close_pages(browser: Browser) -> Iterator[None]:
    """A page that stays open goes on asking its server, and takes time from all other tests."""
    yield
    for context in browser.contexts:
        context.close()


@pytest.fixture(scope="session")
def desk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """The server of those who rate all there is: one test at a time, each with its own items."""
    with run_server(tmp_path_factory.mktemp("desk")) as server:
        yield server


@pytest.fixture
def desk(browser: Browser, desk_server: LiveServer) -> Iterator[Desk]:
    """A rater of their own at a server that holds nothing to rate yet."""
    with desk_server.store.writing() as db:
        db.execute(sa.delete(Interaction))  # what was said of them goes with them
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    actor, link = desk_server.make_account(Role.RATER)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto(link)
    yield page, actor, desk_server
    context.close()


@pytest.fixture
def whole_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server with its inference process and worker, as `make run` starts it."""
    with run_server(
        tmp_path,
        RLHF_START_CHILDREN="true",
        RLHF_INFERENCE_PORT=str(find_free_port()),
        RLHF_INFERENCE_TIMEOUT_S="10",  # a busy machine is not what is tested here
    ) as server:
        yield server


@pytest.fixture
def open_as(browser: Browser, live_server: LiveServer, tmp_path: Path) -> Iterator[OpenAs]:
    """`open_as(Role.RATER)` signs a new account in by its link and returns page and actor.

    Keywords go to the browser's context (`color_scheme`, `viewport`). The test fails where a page
    raised an error, showed an exception, or called another machine.
    """
    contexts, pages, errors = [], [], []

    def open_page(role: Role, **options: Any) -> tuple[Page, Actor]:
        context = browser.new_context(**options)
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        pages.append(page)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: _note_call_outside(request.url, live_server, errors))
        actor, link = live_server.make_account(role)
        page.goto(link)
        return page, actor

    yield open_page
    shown = [page.get_by_test_id("stException").count() for page in pages if not page.is_closed()]
    for context in contexts:
        context.close()
    assert not errors
    assert not any(shown)


def _note_call_outside(url: str, server: LiveServer, errors: list[str]) -> None:
    if not url.startswith((server.url, server.url.replace("http", "ws"), "data:", "blob:")):
        errors.append(f"called {url}")
