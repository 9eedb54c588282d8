"""Deciding disputes by keys alone, in a real browser."""

import uuid

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from rlhf_core.accounts.permissions import Actor
from rlhf_core.store.tables import Adjudication, Feedback
from rlhf_core.vocabulary import AdjudicationDecision, Role
from tests.browser.conftest import OpenAs
from tests.builders import make_actor, make_feedback, make_interaction
from tests.live_server import LiveServer

pytestmark = pytest.mark.browser
NUM_RATERS = 4  # on either side


@pytest.fixture(autouse=True)
def _nothing_said_before(live_server: LiveServer) -> None:
    """What other tests left in this database may be disputed too."""
    with live_server.store.writing() as db:
        db.execute(sa.delete(Feedback))


def make_dispute(server: LiveServer, prompt: str) -> uuid.UUID:
    with server.store.writing() as db:
        item = make_interaction(db, prompt=prompt).id
        for number in range(2 * NUM_RATERS):
            rater = make_actor(db, name=f"disputing {uuid.uuid4().hex[:8]}")
            make_feedback(db, item, actor=rater, rating=5 if number % 2 else 1)
    return item


def standing(server: LiveServer, item: uuid.UUID) -> tuple[object, ...] | None:
    with server.store.reading() as db:
        row = db.execute(
            sa.select(Adjudication.decision, Adjudication.rating, Adjudication.reason).where(
                Adjudication.interaction_id == item, Adjudication.superseded_at.is_(None)
            )
        ).one_or_none()
        return None if row is None else tuple(row)


def test_a_key_a_reason_and_the_next_dispute_shows(
    open_as: OpenAs, live_server: LiveServer
) -> None:
    prompts = [f"Disputed {name} {uuid.uuid4().hex[:6]}?" for name in ("one", "two")]
    first, second = (make_dispute(live_server, prompt) for prompt in prompts)
    page, actor = open_as(Role.ANALYST, viewport={"width": 390, "height": 844})
    assert isinstance(actor, Actor)
    page.goto(f"{live_server.url}/disputes")
    expect(page.get_by_text(prompts[0]).first).to_be_visible()
    keys = page.locator(".st-key-keys kbd")
    expect(keys.first).to_be_visible()
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= 390

    page.keyboard.press("4")
    box = page.get_by_label("Why? Kept with the decision")
    expect(box).to_be_focused()
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Give a reason")).to_be_visible()
    assert standing(live_server, first) is None
    box.focus()
    page.keyboard.type("5 is too much, X is wrong.")  # keys of the page are dead meanwhile
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text(prompts[1]).first).to_be_visible()
    expect(keys.first).to_be_visible()
    assert standing(live_server, first) == (
        AdjudicationDecision.RESOLVED, 4, "5 is too much, X is wrong.",
    )  # fmt: skip

    page.keyboard.press("x")
    expect(box).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert standing(live_server, second) is None
    expect(keys.first).to_be_visible()  # they live again
    page.keyboard.press("x")
    expect(box).to_be_focused()
    page.keyboard.type("Spam.")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text(prompts[1])).to_have_count(0)
    assert standing(live_server, second) == (AdjudicationDecision.EXCLUDED, None, "Spam.")
