"""The README's thumbs in a web page, before the README's Flask site and a real server."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from rlhf_core.accounts import tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.store.tables import Feedback
from tests.browser.hands import check_accessibility
from tests.live_server import LiveServer
from tests.readme_blocks import read_integration

pytestmark = pytest.mark.browser
PLACE = "the id that /ask gave"


@pytest.fixture
def site(
    live_server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """The site's address, and the id of the interaction that its page asks about."""
    with live_server.store.writing() as db:
        token = tokens.create_api_token(
            db, actor=SYSTEM, account_name="admin", name=f"site {uuid.uuid4().hex[:6]}",
            scopes=[Permission.SCORE, Permission.WRITE_INTERACTIONS, Permission.RATE],
        )  # fmt: skip
    (tmp_path / "my_assistant.py").write_text("def draft_answers(question): return ['Yes.']")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RLHF_URL", live_server.url)
    monkeypatch.setenv("RLHF_TOKEN", token)
    names: dict[str, Any] = {"__name__": "site"}
    exec(compile(read_integration("python", "Flask("), "README.md", "exec"), names)  # noqa: S102
    shown = []
    names["app"].get("/")(lambda: shown[-1])
    asked = names["app"].test_client().post("/ask", json={"question": "Why?", "user": "u"})
    answer_id = asked.get_json()["id"]
    snippet = read_integration("html", "thumbs").replace(PLACE, answer_id)
    shown.append(f"<!doctype html><html lang=en><title>Site</title><main><h1>Yes.</h1>{snippet}")
    server = make_server("127.0.0.1", 0, names["app"], threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", answer_id
    server.shutdown()
    thread.join(10)
    server.server_close()
    names["rlhf"].close()


def thumb_of(server: LiveServer, answer_id: str) -> int | None:
    with server.store.reading() as db:
        of_answer = Feedback.interaction_id == uuid.UUID(answer_id)
        thumb: int | None = db.scalar(sa.select(Feedback.thumb).where(of_answer))
    return thumb


def test_thumb_of_a_web_page_reaches_the_store_and_a_lost_one_is_said(
    site: tuple[str, str], live_server: LiveServer, browser: Browser
) -> None:
    url, answer_id = site
    page: Page = browser.new_page()
    page.goto(url)
    assert live_server.url not in page.content()  # neither an address nor a key
    good, bad = page.get_by_label("Good answer"), page.get_by_label("Bad answer")
    good.click()
    expect(page.get_by_role("status")).to_have_text("Thank you.")
    expect(good).to_have_attribute("aria-pressed", "true")
    assert thumb_of(live_server, answer_id) == 1
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "true")
    expect(good).to_have_attribute("aria-pressed", "false")
    assert thumb_of(live_server, answer_id) == -1
    check_accessibility(page)
    page.route("**/thumb", lambda route: route.abort())
    good.click()
    expect(page.get_by_role("status")).to_have_text("Not sent: try again.")
    assert thumb_of(live_server, answer_id) == -1
