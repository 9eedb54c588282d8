"""Fifty real items by keys only, with undo and a reload; and keys that come too soon."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from rlhf_core.store.tables import Feedback, FeedbackAspect, FeedbackSpan
from tests.browser.conftest import Desk
from tests.browser.hands import idle
from tests.browser.rating_desk import (
    key_of,
    load_real_items,
    ratings_of,
    shown_item,
    wait_for_item,
    wait_for_unsent,
)

pytestmark = pytest.mark.browser

KEYS = {"1": 1, "2": 2, "3": 3, "4": 4, "5": 5, "y": "up", "n": "down"}


def test_fifty_real_items_by_keys_with_three_undone_and_a_reload(
    desk: Desk, shared_data: Path
) -> None:
    page, actor, server = desk
    items = load_real_items(server, shared_data, 50)
    page.goto(f"{server.url}/rate")
    meant: dict[object, int | str] = {}
    for number, item in enumerate(items):
        wait_for_item(page, item)
        key = list(KEYS)[number % len(KEYS)]
        page.keyboard.press(key)
        meant[item] = KEYS[key]
        if number == 24:
            for back in range(3):
                wait_for_item(page, items[25 - back])
                page.keyboard.press("u")
                del meant[items[24 - back]]
            wait_for_item(page, items[22])
            page.reload()
            wait_for_item(page, items[22])
            for again in items[22:25]:
                wait_for_item(page, again)
                page.keyboard.press("4")
                meant[again] = 4
    expect(page.get_by_text("All is rated")).to_be_visible()
    assert ratings_of(server, actor) == meant
    with server.store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 50


def strike(page: Page, keys: str) -> None:
    """Press keys all at once: the page gets to draw nothing in between."""
    page.evaluate(
        """keys => { for (const key of keys) document.body.dispatchEvent(
        new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true })); }""",
        keys,
    )


def test_burst_of_keys_rates_what_was_on_screen_once(desk: Desk, shared_data: Path) -> None:
    page, actor, server = desk
    items = load_real_items(server, shared_data, 12)
    page.goto(f"{server.url}/rate")
    wait_for_item(page, items[0])
    strike(page, "43215")
    expect(page.get_by_text("Not counted")).to_be_visible()
    wait_for_item(page, items[1])
    page.wait_for_timeout(700)
    idle(page)
    assert ratings_of(server, actor) == {items[0]: 4}
    strike(page, "a534254")  # four aspects, the whole, and one too many
    expect(key_of(page, f"rating_5_{items[2].hex}")).to_be_visible()
    idle(page)
    assert ratings_of(server, actor) == {items[0]: 4, items[1]: 5}
    with server.store.reading() as db:
        assert db.execute(
            sa.select(FeedbackAspect.name, FeedbackAspect.rating)
            .join(Feedback, Feedback.id == FeedbackAspect.feedback_id)
            .where(Feedback.interaction_id == items[1])
            .order_by(FeedbackAspect.name)
        ).all() == [("accuracy", 5), ("helpfulness", 3), ("safety", 4), ("tone", 2)]
    for _ in range(4):
        page.keyboard.down("3")  # held down: the browser repeats it
    page.keyboard.up("3")
    wait_for_item(page, items[3])
    assert ratings_of(server, actor)[items[2]] == 3
    assert len(ratings_of(server, actor)) == 3


def test_keys_are_dead_in_a_dialog_and_in_a_text(desk: Desk, shared_data: Path) -> None:
    page, actor, server = desk
    items = load_real_items(server, shared_data, 3)
    page.goto(f"{server.url}/rate")
    wait_for_item(page, items[0])
    page.keyboard.press("t")
    box = page.get_by_label("Comment (T)")
    expect(box).to_be_focused()
    page.keyboard.type("45 yes, undo")
    page.evaluate(
        """() => { const box = document.createElement('div'); box.setAttribute('role', 'dialog');
        box.id = 'fake'; box.style.position = 'fixed'; document.body.append(box); }"""
    )
    page.keyboard.press("Escape")
    expect(box).not_to_be_focused()
    page.keyboard.press("5")
    page.wait_for_timeout(800)
    assert ratings_of(server, actor) == {}
    page.evaluate("() => document.querySelector('#fake').remove()")
    wait_for_unsent(page, server, "45 yes, undo")
    page.reload()  # what was typed survives
    wait_for_item(page, items[0])
    expect(box).to_have_value("45 yes, undo")
    page.keyboard.press("5")
    wait_for_item(page, items[1])
    with server.store.reading() as db:
        assert db.execute(sa.select(Feedback.rating, Feedback.comment)).all() == [
            (5, "45 yes, undo")
        ]


@pytest.mark.slow
def test_correction_typed_and_not_sent_survives_a_reload(desk: Desk, shared_data: Path) -> None:
    page, _, server = desk
    items = load_real_items(server, shared_data, 2)
    page.goto(f"{server.url}/rate")
    wait_for_item(page, items[0])
    page.keyboard.press("e")
    box = page.get_by_label("Corrected completion")
    expect(box).to_be_focused()
    page.keyboard.press("Control+Home")
    page.keyboard.type("Well 4: ")
    expect(page.locator("ins").first).to_contain_text("Well")  # side by side, while typing
    page.reload()
    wait_for_item(page, items[0])
    expect(box).to_have_value(re.compile("^Well 4: "))
    page.keyboard.press("2")
    wait_for_item(page, items[1])
    with server.store.reading() as db:
        rating, correction = db.execute(sa.select(Feedback.rating, Feedback.correction)).one()
    assert rating == 2
    assert correction.startswith("Well 4: ")


def test_passage_is_tagged_by_keys_and_by_mouse(desk: Desk, shared_data: Path) -> None:
    page, _, server = desk
    items = load_real_items(server, shared_data, 1)
    page.goto(f"{server.url}/rate")
    wait_for_item(page, items[0])
    button = page.locator(".rl-mark")
    button.evaluate("button => { button.disabled = true; }")  # as until its script is loaded
    page.keyboard.press("m")
    page.wait_for_timeout(200)
    expect(page.locator(".rl-text[contenteditable]")).to_have_count(0)
    button.evaluate("button => { button.disabled = false; }")
    expect(page.locator(".rl-text[contenteditable]")).to_be_focused()
    for _ in range(7):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.press("2")
    expect(page.locator(".rl-text mark")).to_have_text(page.locator(".rl-said").inner_text()[1:8])
    idle(page)
    assert shown_item(page) == items[0]
    page.locator(".rl-text").dblclick(position={"x": 200, "y": 60})
    page.get_by_label("Note on the passage").fill("says who? 5")
    page.locator(".rl-tags button", has_text="wrong").click()
    expect(page.locator(".rl-list li")).to_have_count(2)
    idle(page)
    with server.store.reading() as db:
        columns = (FeedbackSpan.start_at, FeedbackSpan.end_at, FeedbackSpan.tag, FeedbackSpan.note)
        spans = db.execute(sa.select(*columns).order_by(FeedbackSpan.start_at)).all()
    assert spans[0] == (0, 7, "unsupported", None)
    assert spans[1][2:] == ("wrong", "says who? 5")
    page.locator(".rl-list button").first.click()
    expect(page.locator(".rl-list li")).to_have_count(1)
