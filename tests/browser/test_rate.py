import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from rlhf_core.accounts.permissions import Actor
from rlhf_core.store.tables import Feedback, Interaction, Rater, ReasoningStep
from rlhf_core.vocabulary import Role
from tests.browser.conftest import OpenAs
from tests.browser.hands import check_accessibility, idle
from tests.browser.rating_desk import key_of, keys_alive
from tests.builders import make_interaction
from tests.live_server import LiveServer, run_server

pytestmark = pytest.mark.browser

EVIL = "![x](https://evil.example/a.png) <img src='https://evil.example/b.png'> **bold**"


@pytest.fixture(scope="module")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of its own: rows of other tests would come first."""
    with run_server(tmp_path_factory.mktemp("rate")) as server:
        yield server


@pytest.fixture(scope="module")
def prompts(live_server: LiveServer) -> list[str]:
    """The prompts of eight stored items, in the order in which they are rated."""
    with live_server.store.writing() as db:
        for number in range(8):
            make_interaction(
                db,
                prompt=f"Question {number}: {EVIL}",
                steps=2,
                action_type="search",
                action_data={"query": EVIL},
                context=[{"role": "user", "content": EVIL}],
            )
        return list(db.scalars(sa.select(Interaction.prompt).order_by(Interaction.id)))


def shows(page: Page, prompt: str) -> None:
    expect(page.locator(".st-key-prompt")).to_contain_text(prompt[:12])
    idle(page)


def press(page: Page, key: str) -> None:
    keys_alive(page)
    page.keyboard.press(key, delay=30)


def stored_by(server: LiveServer, actor: Actor) -> list[tuple[str, int | None, int | None]]:
    """(prompt's beginning, rating, thumb) of the actor's current feedback, in order."""
    with server.store.reading() as db:
        rows = db.execute(
            sa.select(Interaction.prompt, Feedback.rating, Feedback.thumb)
            .join(Feedback, Feedback.interaction_id == Interaction.id)
            .join(Rater, Rater.id == Feedback.rater_id)
            .where(
                Rater.account_id == actor.account_id,
                Feedback.withdrawn_at.is_(None),
                Feedback.step_id.is_(None),
            )
            .order_by(Interaction.id)
        )
        return [(prompt[:10], rating, thumb) for prompt, rating, thumb in rows]


def test_rating_by_keys_with_undo_and_reload(
    live_server: LiveServer, open_as: OpenAs, prompts: list[str]
) -> None:
    page, actor = open_as(Role.RATER)
    order = []
    for key in ("4", "Y", "1", "n", "5"):
        idle(page)  # else the keys of the item before are still there
        expect(key_of(page, "rating_5").locator("kbd")).to_be_visible()  # the keys are alive
        expect(page.locator(".st-key-prompt")).to_be_visible()
        order.append(page.locator(".st-key-prompt").inner_text())
        prompt = re.search(r"Question \d", order[-1])
        assert prompt is not None
        order[-1] = prompt[0]
        press(page, key)
        expect(page.locator(".st-key-prompt")).not_to_contain_text(prompt[0])
        assert len(stored_by(live_server, actor)) == len(order)  # stored before the next one shows
    press(page, "u")
    shows(page, order[4])
    assert len(stored_by(live_server, actor)) == 4
    press(page, "ArrowLeft")
    shows(page, order[3])
    page.reload()
    shows(page, order[3])
    expect(key_of(page, "thumb_N").locator("button")).to_have_attribute("kind", "primary")
    expect(page.locator(".st-key-heading")).to_contain_text(re.compile(r"4 of \d+ rated"))
    press(page, "2")
    shows(page, order[4])
    press(page, "3")
    expect(page.locator(".st-key-prompt")).not_to_contain_text(order[4])
    assert sorted(stored_by(live_server, actor)) == sorted(
        [(order[0], 4, None), (order[1], None, 1), (order[2], 1, None), (order[3], 2, -1),
         (order[4], 3, None)]
    )  # fmt: skip


def test_steps_and_comment_by_keys(
    live_server: LiveServer, open_as: OpenAs, prompts: list[str]
) -> None:
    page, actor = open_as(Role.RATER)
    expect(key_of(page, "label_0_G").locator("kbd")).to_be_visible()
    press(page, "g")
    expect(key_of(page, "label_1_J").locator("kbd")).to_be_visible()  # the next step has the keys
    press(page, "j")
    expect(key_of(page, "label_1_J").locator("button")).to_have_attribute("kind", "primary")
    box = page.get_by_label("Comment (T)")
    box.fill("4 is what I would type, not press")
    press(page, "Control+Enter")
    expect(page.get_by_test_id("stToast")).to_contain_text("Comment saved")
    with live_server.store.reading() as db:
        rows = db.execute(
            sa.select(ReasoningStep.position, Feedback.label, Feedback.rating, Feedback.comment)
            .select_from(Feedback)
            .join(Rater, Rater.id == Feedback.rater_id)
            .outerjoin(ReasoningStep, ReasoningStep.id == Feedback.step_id)
            .where(Rater.account_id == actor.account_id)
            .order_by(Feedback.created_at)
        ).all()
    assert rows == [
        (0, 1, None, None),
        (1, -1, None, None),
        (None, None, None, "4 is what I would type, not press"),
    ]


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_page_has_no_accessibility_violation(
    open_as: OpenAs, prompts: list[str], scheme: str
) -> None:
    page, _ = open_as(Role.RATER, color_scheme=scheme)
    expect(key_of(page, "label_0_G").locator("kbd")).to_be_visible()
    press(page, "g")
    expect(key_of(page, "label_0_G").locator("button")).to_have_attribute("kind", "primary")
    expect(page.get_by_test_id("stToast")).to_have_count(0)
    idle(page)
    check_accessibility(page)


def test_phone_width_needs_no_sideways_scrolling(open_as: OpenAs, prompts: list[str]) -> None:
    page, _ = open_as(Role.RATER, viewport={"width": 390, "height": 844})
    for key in ("rating_1", "rating_5", "thumb_Y", "back", "undo", "next"):
        expect(key_of(page, key).locator("button")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_next_item_shows_from_its_beginning(open_as: OpenAs, prompts: list[str]) -> None:
    page, _ = open_as(Role.RATER, viewport={"width": 390, "height": 500})
    expect(key_of(page, "label_0_G").locator("kbd")).to_be_visible()
    main = page.get_by_test_id("stMain")
    for _ in range(2):
        shown = page.locator(".st-key-prompt").text_content() or ""
        idle(page)
        page.get_by_label("Comment (T)").scroll_into_view_if_needed()
        assert main.evaluate("main => main.scrollTop") > 100
        press(page, "3")
        expect(page.locator(".st-key-prompt")).not_to_have_text(shown)
        expect(page.get_by_role("heading", name="Rate")).to_be_in_viewport()
