from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, expect

from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback
from rlhf_core.vocabulary import Role
from tests.browser.rating_desk import keys_alive
from tests.builders import make_interaction
from tests.live_server import run_server

pytestmark = pytest.mark.browser


def test_killed_server_keeps_a_rating_once_the_next_item_shows(
    tmp_path: Path, browser: Browser
) -> None:
    with run_server(tmp_path) as server:
        with server.store.writing() as db:
            for _ in range(4):
                make_interaction(db)
        _, link = server.make_account(Role.RATER)
        page = browser.new_page()
        page.goto(link)
        prompt = page.locator(".st-key-prompt")
        for key in "53":
            expect(page.locator('[class*="st-key-rating_5"] kbd')).to_have_count(1)
            keys_alive(page)
            shown = prompt.text_content() or ""  # as the line below compares it
            page.keyboard.press(key, delay=30)
            expect(prompt).not_to_have_text(shown)
        server.kill()
        page.close()
    store = Store(f"sqlite:///{tmp_path / 'rlhf.db'}")
    with store.reading() as db:
        assert sorted(db.scalars(sa.select(Feedback.rating))) == [3, 5]
    store.close()
