"""The whole loop as a new user walks it.

It walks on real data. With RLHF_TEST_PICTURES=FOLDER it walks on data of this project's own making
and takes the README's pictures.
"""

import json
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.assistant_ratings import write_ratings
from tests.browser.conftest import TIMEOUT_MS
from tests.browser.hands import go_to, press
from tests.browser.loop_steps import (
    PICTURES,
    create_token,
    finish_run,
    freeze,
    import_files,
    picture,
    promote,
    rate_five,
    train,
)
from tests.live_server import LiveServer

pytestmark = pytest.mark.browser

NUM_PROMPTS = 40


@pytest.fixture(scope="module")
def files(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path | None]:
    """A file of ratings, and the one that holds the texts they are about."""
    folder = tmp_path_factory.mktemp("ratings")
    if PICTURES:
        write_ratings(folder / "ratings.csv")
        return folder / "ratings.csv", None
    origin = request.getfixturevalue("shared_data") / "cohere_hf"
    groups: dict[str, None] = {}
    with (origin / "responses.jsonl").open() as lines:
        for line in lines:
            groups.setdefault(json.loads(line)["group_id"])
    chosen = set(list(groups)[:NUM_PROMPTS])
    for name in ("ratings.jsonl", "responses.jsonl"):
        with (origin / name).open() as lines, (folder / name).open("w") as out:
            out.writelines(line for line in lines if json.loads(line)["group_id"] in chosen)
    return folder / "ratings.jsonl", folder / "responses.jsonl"


def evaluate(page: Page) -> None:
    """Examine the version on all rows, of which it was trained on many, and look at a mistake."""
    press(page, "evaluate_on")
    page.get_by_text("all rows (").click()
    expect(page.get_by_text("It was trained on some of these rows")).to_be_visible()
    press(page, "evaluate_start")
    finish_run(page, "See it in Models")
    page.get_by_role("link", name="See it in Models").click()
    expect(page.get_by_text("of the prompts leaked")).to_be_visible()
    expect(page.locator(".st-key-reliability .js-plotly-plot")).to_be_visible()
    page.get_by_role("tab", name="Worst mistakes").click()
    mistake = page.locator(".st-key-mistake_0")
    expect(mistake).to_contain_text("The model says")
    picture(page, "mistakes")
    mistake.get_by_role("link", name="Open").click()
    expect(page.locator(".st-key-completion")).to_be_visible()


def score(page: Page) -> None:
    go_to(page, "Models")
    page.get_by_role("button", name="Score stored interactions").click(delay=50)
    finish_run(page, "See it in Models")
    page.get_by_role("link", name="See it in Models").click()
    expect(page.get_by_text("stored interactions scored, mean reward")).to_be_visible()


def test_import_rate_freeze_train_promote_rerank_evaluate_and_score(
    whole_server: LiveServer, browser: Browser, files: tuple[Path, Path | None]
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(whole_server.first_link)
    expect(page.get_by_text("No feedback yet")).to_be_visible()
    import_files(page, files)
    rate_five(page)
    freeze(page)
    train(page)
    promote(page)

    candidates = ["asdf", "Open the settings, choose accounts, then add a new user and a password."]
    question = {"query": "How do I add a user to Windows?", "candidates": candidates}
    headers = {"Authorization": f"Bearer {create_token(whole_server, 'score')}"}
    for _ in range(60):  # the inference process notices the promotion within a second or so
        answer = httpx.post(
            f"{whole_server.url}/api/v1/rerank", json=question, headers=headers, timeout=30
        )
        assert answer.status_code == 200, answer.text
        if not answer.json()["is_fallback"]:
            break
        page.wait_for_timeout(1_000)
    reranked = answer.json()
    assert reranked["is_fallback"] is False
    assert [item["text"] for item in reranked["ranking"]] == candidates[::-1]
    evaluate(page)
    score(page)
    context.close()
