"""A rater at the keyboard: helpers of the browser tests of the rate page."""

import json
import re
import uuid
from pathlib import Path

import sqlalchemy as sa
from playwright.sync_api import Locator, Page, expect

from rlhf_core.accounts.permissions import Actor
from rlhf_core.store.tables import Feedback, Interaction, Rater, UnsentText
from tests.browser.hands import idle
from tests.builders import make_interaction
from tests.live_server import LiveServer


def load_real_items(server: LiveServer, folder: Path, num: int) -> list[uuid.UUID]:
    """Real questions and answers, stored in the order in which they are rated."""
    with (folder / "cohere_hf" / "responses.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(next(lines)) for _ in range(num)]
    with server.store.writing() as db:
        for row in rows:
            make_interaction(
                db, prompt=row["prompt"], completion=row["response"], source="cohere_hf",
                external_id=row["response_id"], action_type=row["source"],
            )  # fmt: skip
        return list(db.scalars(sa.select(Interaction.id).order_by(Interaction.id)))


def keys_alive(page: Page) -> None:
    """Until what sees to the keys is there: it comes after the first draw."""
    expect(page.locator(".rl-early[data-ready]")).to_be_attached()
    idle(page)


def key_of(page: Page, name: str) -> Locator:
    """What holds the button of this name, whose key ends in the item that it is about."""
    return page.locator(f'[class*="st-key-{name}"]')


def wait_for_item(page: Page, item: uuid.UUID) -> None:
    """Until this item is on screen and its keys are alive."""
    expect(key_of(page, f"rating_5_{item.hex}").locator("kbd")).to_be_visible()
    keys_alive(page)


def wait_for_unsent(page: Page, server: LiveServer, text: str) -> None:
    """Until what was typed, and not sent, is stored."""
    for _ in range(100):
        with server.store.reading() as db:
            if text in db.scalars(sa.select(UnsentText.content)).all():
                return
        page.wait_for_timeout(100)
    raise AssertionError(f"{text!r} was not kept")


def shown_item(page: Page) -> uuid.UUID:
    match = re.search(r"item=([0-9a-f-]{36})", page.url)
    assert match is not None, page.url
    return uuid.UUID(match[1])


def ratings_of(server: LiveServer, actor: Actor) -> dict[uuid.UUID, int | str]:
    """What the actor says now of each item: the rating, or `up` or `down`."""
    with server.store.reading() as db:
        rows = db.execute(
            sa.select(Feedback.interaction_id, Feedback.rating, Feedback.thumb)
            .join(Rater, Rater.id == Feedback.rater_id)
            .where(
                Rater.account_id == actor.account_id,
                Feedback.withdrawn_at.is_(None),
                Feedback.step_id.is_(None),
            )
        )
        return {item: rating or {1: "up", -1: "down"}[thumb] for item, rating, thumb in rows}
