"""Ten real pairs compared by keys only, with undo and a reload; and the page as it looks."""

import json
import re
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, Page, expect

from rlhf_core.accounts.permissions import Actor
from rlhf_core.store.tables import Comparison, Rater
from rlhf_core.vocabulary import Choice, Role
from tests.browser.conftest import Desk
from tests.browser.hands import check_accessibility, idle
from tests.browser.rating_desk import key_of, keys_alive
from tests.builders import make_interaction
from tests.live_server import LiveServer

pytestmark = pytest.mark.browser

NUM_PAIRS = 10
KEYS = {"1": Choice.LEFT, "2": Choice.RIGHT, "0": Choice.TIE, "b": Choice.BOTH_BAD}
STRENGTHS = {"j": 1, "k": 2, "l": 3}
Said = tuple[uuid.UUID, uuid.UUID, Choice, int | None]


def load_real_pairs(server: LiveServer, folder: Path, num: int) -> dict[str, uuid.UUID]:
    """The interaction by the beginning of its completion."""
    made = {}
    with server.store.writing() as db, (folder / "pandalm" / "pairs.jsonl").open() as lines:
        while len(made) < 2 * num:
            row = json.loads(next(lines))
            texts = [" ".join(row[side].split())[:60] for side in ("response_a", "response_b")]
            if not all(texts) or texts[0] == texts[1] or made.keys() & set(texts):
                continue
            for side, text in zip("ab", texts, strict=True):
                made[text] = make_interaction(
                    db,
                    prompt="\n\n".join(filter(None, (row["instruction"], row["input"]))),
                    completion=row[f"response_{side}"],
                    source="pandalm",
                    external_id=f"{row['id']}/{side}",
                    model_name=row[f"model_{side}"],
                ).id
    return made


def wait_for_pair(page: Page, unlike: str) -> str:
    """Until another pair is on screen than the address `unlike` named, and its keys are alive."""
    expect(page).not_to_have_url(unlike)
    expect(page).to_have_url(re.compile("item="))
    expect(key_of(page, f"choice_1_{pair_of(page.url)}").locator("kbd")).to_be_visible()
    keys_alive(page)
    return page.url


def pair_of(url: str) -> str:
    """What the keys of a pair's buttons end in; the address names the pair."""
    named = url.partition("item=")[2].partition("&")[0]
    return "".join(part[-8:] for part in named.split("."))


def sides(page: Page, made: dict[str, uuid.UUID]) -> tuple[uuid.UUID, uuid.UUID]:
    """The completions as they stand on screen, from the left."""
    texts = [
        " ".join(page.locator(f".st-key-side_{n} [data-testid=stText]").first.inner_text().split())
        for n in (0, 1)
    ]
    left, right = (made[text[:60]] for text in texts)
    return left, right


def stored_by(server: LiveServer, actor: Actor) -> set[Said]:
    with server.store.reading() as db:
        rows = db.scalars(
            sa.select(Comparison)
            .join(Rater)
            .where(Rater.account_id == actor.account_id, Comparison.withdrawn_at.is_(None))
        )
        return {(r.left_interaction_id, r.right_interaction_id, r.choice, r.strength) for r in rows}


def test_ten_real_pairs_by_keys_with_three_undone_and_a_reload(
    desk: Desk, shared_data: Path
) -> None:
    page, actor, server = desk
    made = load_real_pairs(server, shared_data, NUM_PAIRS)
    page.goto(f"{server.url}/compare")
    meant: dict[str, Said] = {}
    url, addresses = "", []
    todo = [*KEYS] * 2 + ["1", "2"]
    for number, key in enumerate(todo):
        url = wait_for_pair(page, url)
        addresses.append(url)
        strength = None
        if KEYS[key] in (Choice.LEFT, Choice.RIGHT):
            word = list(STRENGTHS)[number % 3]
            strength = STRENGTHS[word]
            page.keyboard.press(word)
            button = key_of(page, f"strength_{strength}_{pair_of(url)}").locator("button")
            expect(button).to_have_attribute("kind", "primary")
            idle(page)
        meant[url] = (*sides(page, made), KEYS[key], strength)
        page.keyboard.press(key)
        if number == 5:
            wait_for_pair(page, url)
            break
    assert stored_by(server, actor) == set(meant.values())
    for address in reversed(addresses[3:6]):
        page.keyboard.press("u")
        expect(page).to_have_url(address)
        wait_for_pair(page, "")
        del meant[address]
        assert stored_by(server, actor) == set(meant.values())
    page.reload()
    url = wait_for_pair(page, "")
    assert url == addresses[3]  # the one taken back last
    page.keyboard.press("t")
    page.keyboard.type("1 and 2 are typed here, not pressed")
    page.keyboard.press("Escape")
    idle(page)
    url = ""
    for number in range(NUM_PAIRS - 3):
        url = wait_for_pair(page, url)
        key = list(KEYS)[number % 4]
        meant[url] = (*sides(page, made), KEYS[key], None)
        page.keyboard.press(key)
    expect(page.get_by_text("All is compared")).to_be_visible()
    assert len(meant) == NUM_PAIRS
    assert stored_by(server, actor) == set(meant.values())
    with server.store.reading() as db:
        reasons = db.scalars(sa.select(Comparison.reason).where(Comparison.reason.is_not(None)))
        assert list(reasons) == ["1 and 2 are typed here, not pressed"]


def test_pages_are_usable_in_light_dark_and_on_a_phone(
    desk: Desk, shared_data: Path, browser: Browser
) -> None:
    _, _, server = desk
    load_real_pairs(server, shared_data, 2)
    for scheme, width in (("light", 1280), ("dark", 390)):
        context = browser.new_context(
            viewport={"width": width, "height": 844},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = context.new_page()
        page.goto(server.make_account(Role.RATER)[1])
        page.goto(f"{server.url}/compare")
        wait_for_pair(page, "")
        for name in ("choice_1", "choice_B", "strength_3", "undo", "next"):
            expect(key_of(page, name).locator("button")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth") == width
        expect(page.get_by_test_id("stToast")).to_have_count(0)
        check_accessibility(page)
        url = page.url
        page.keyboard.press("2")
        wait_for_pair(page, url)
        page.goto(f"{server.url}/my_ratings")
        expect(page.get_by_test_id("stDataFrame")).to_be_visible()
        idle(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        expect(page.get_by_test_id("stToast")).to_have_count(0)
        check_accessibility(page)
        context.close()
