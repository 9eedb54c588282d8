"""The loop from ratings to the version that all users get, and back, walked in a browser."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.assistant_ratings import write_ratings
from tests.browser.conftest import TIMEOUT_MS
from tests.browser.hands import go_to, idle, press
from tests.browser.loop_steps import (
    confirm_promotion,
    create_token,
    finish_run,
    freeze,
    import_files,
    promote,
    rate_five,
    run_command,
    train,
)
from tests.core.policies.tiny_policies import make_policy
from tests.live_server import LiveServer

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NUM_USERS = 60
LONG_MS = 60_000


def train_policies(server: LiveServer, base: Path) -> None:
    """Two versions of one policy, of different patience with the same good answers."""
    for epochs in ("1", "2"):
        run_command(
            server, "train", "sft", "--base", str(base), "--epochs", epochs, "--cpu",
            "--response-tokens", "24", "--held-out", "none", "--wait",
        )  # fmt: skip
    run_command(server, "dataset", "freeze", "--purpose", "prompts")


def open_version(page: Page, server: LiveServer, number: int) -> None:
    """The page of a version of the assistant."""
    every = run_command(server, "models", "list", "--model", "assistant")
    (found,) = [one["id"] for one in every if one["number"] == number]
    page.goto(f"{server.url}/registry?version={found}")
    expect(page.get_by_role("heading", name=f"assistant v{number}")).to_be_visible()
    idle(page)


def ask_and_rate(server: LiveServer, headers: dict[str, str]) -> dict[str, list[str]]:
    """Users talk to the assistant; they like what the second version says. Who answered whom."""
    users: dict[str, list[str]] = {}
    with httpx.Client(base_url=f"{server.url}/api", headers=headers, timeout=60) as client:
        for number in range(NUM_USERS):
            asked = {
                "model": "assistant", "user": f"user {number}", "max_tokens": 6,
                "messages": [{"role": "user", "content": "book the van for Tuesday"}],
            }  # fmt: skip
            answer = client.post("/v1/chat/completions", json=asked)
            assert answer.status_code == 200, answer.text
            said: dict[str, Any] = answer.json()
            users.setdefault(said["model"], []).append(f"user {number}")
            is_good = said["model"].endswith("v2") or number % 5 == 0
            thumb = {
                "chat_id": said["id"], "message_id": said["id"],
                "feedback_type": "up" if is_good else "down",
            }  # fmt: skip
            assert client.post("/assistant/feedback", json=thumb).status_code == 201
    return users


def test_a_better_version_reaches_all_users_by_evidence_and_leaves_in_one_click(
    whole_server: LiveServer, browser: Browser, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(whole_server.first_link)
    write_ratings(tmp_path / "ratings.csv")
    import_files(page, (tmp_path / "ratings.csv", None))
    rate_five(page)
    freeze(page)
    train(page)
    promote(page)
    train_policies(whole_server, make_policy(tmp_path / "base", seed=3))

    open_version(page, whole_server, 1)
    press(page, "promote")
    confirm_promotion(page, "assistant v1", "The first one.")
    expect(page.get_by_text("assistant v1 is production.")).to_be_visible()

    go_to(page, "Compare versions")
    page.locator(".st-key-compare_on button").last.click()
    page.locator(".st-key-compare_with_learned label").first.click()  # few prompts are left
    press(page, "compare_start")
    finish_run(page, "See it in Compare versions")
    page.get_by_role("link", name="See it in Compare versions").click()
    expect(page.get_by_text("95 %").first).to_be_visible()

    # a few users get the second one, and say what they think
    page.goto(f"{whole_server.url}/rollout?model=assistant")
    page.locator(".st-key-rollout_share_canary input").fill("50")
    page.keyboard.press("Enter")
    idle(page)
    page.locator(".st-key-rollout_judged").get_by_text("Open-ended").click()
    idle(page)
    press(page, "rollout_start")
    page.locator(".st-key-rollout_reason textarea").fill("More patient.")
    page.locator(".st-key-rollout_typed input").fill("assistant v2")
    expect(page.locator(".st-key-rollout_start_confirm button")).to_be_enabled()
    press(page, "rollout_start_confirm")
    expect(page.get_by_text("50 % of the users").first).to_be_visible()
    token = create_token(whole_server, "score", "write_interactions")
    page.wait_for_timeout(3_000)  # both versions are loaded and warm before traffic divides
    users = ask_and_rate(whole_server, {"Authorization": f"Bearer {token}"})
    assert set(users) == {"assistant v1", "assistant v2"}
    again = ask_and_rate(whole_server, {"Authorization": f"Bearer {token}"})
    assert again == users  # who has a version keeps it
    expect(page.get_by_text("Better").first).to_be_visible(timeout=LONG_MS)

    page.wait_for_timeout(15_000)  # rows of a day that is counted again are some ten seconds old
    page.get_by_role("link", name="What users said of assistant v2").click()
    expect(page.get_by_role("heading", name="Rows of feedback")).to_be_visible()
    num_rows = 2 * len(users["assistant v2"])  # each spoke twice
    expect(page.get_by_text(f"of {num_rows}, the latest first")).to_be_visible()
    page.goto(f"{whole_server.url}/rollout?model=assistant")

    press(page, "rollout_promote")
    confirm_promotion(page, "assistant v2", "Users like it better.", "It was not examined yet.")
    expect(page.get_by_text("assistant v2 is production.")).to_be_visible()
    open_version(page, whole_server, 2)
    press(page, "rollback")
    page.locator(".st-key-rollback_reason textarea").fill("To see that it goes back.")
    press(page, "rollback_confirm")
    expect(page.get_by_text("assistant v1 is production.")).to_be_visible()
    live = run_command(whole_server, "models", "live", "--model", "assistant")
    assert "assistant v1" in str(live)
    context.close()
