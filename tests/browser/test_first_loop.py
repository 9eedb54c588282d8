"""The whole loop as a new user walks it.

It walks on real data. With RLHF_TEST_PICTURES=FOLDER it walks on data of this project's own making
and takes the README's pictures.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from rlhf_core.config import SOURCE_ROOT
from tests.browser.assistant_ratings import write_ratings
from tests.browser.conftest import TIMEOUT_MS
from tests.browser.hands import go_to, idle, press
from tests.live_server import SECRET_KEY, LiveServer, find_free_port, run_server

pytestmark = pytest.mark.browser

PICTURES = os.environ.get("RLHF_TEST_PICTURES")
NUM_PROMPTS = 40


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


def picture(page: Page, name: str) -> None:
    if PICTURES:
        idle(page)
        expect(page.get_by_test_id("stToast")).to_have_count(0)
        page.wait_for_timeout(1_000)
        page.screenshot(path=Path(PICTURES) / f"{name}.png")


def import_files(page: Page, files: tuple[Path, Path | None]) -> None:
    go_to(page, "Import and export")
    ratings, texts = files
    page.locator(".st-key-import_file input[type=file]").set_input_files(ratings)
    expect(page.locator(".st-key-import_mapping")).to_be_visible()
    idle(page)
    if texts is not None:
        page.locator(".st-key-import_join summary").click()
        page.locator(".st-key-import_second input[type=file]").set_input_files(texts)
        expect(page.locator(".st-key-import_join_on")).to_be_visible()
    expect(page.locator(".st-key-import_check button")).to_be_visible()
    picture(page, "import")
    press(page, "import_check")
    expect(page.locator(".st-key-import_start")).to_be_visible(timeout=180_000)
    press(page, "import_start")
    expect(page.get_by_text("The import is finished.")).to_be_visible(timeout=180_000)


def rate_five(page: Page) -> None:
    go_to(page, "Rate")
    for number, key in enumerate(("4", "y", "2", "n", "5")):
        expect(page.locator(".st-key-prompt")).to_be_visible()
        expect(page.locator('[class*="st-key-rating_5"] kbd')).to_be_visible()  # the keys are alive
        if number == 2:
            picture(page, "rate")
        idle(page)
        item = page.url  # which names the item; two completions may read the same
        page.keyboard.press(key, delay=30)
        expect(page).not_to_have_url(item)
        idle(page)
    expect(page.locator(".st-key-heading")).to_contain_text("5 of ")


def freeze(page: Page) -> None:
    go_to(page, "Datasets")
    expect(page.locator(".st-key-dataset_start button")).to_be_enabled()
    picture(page, "datasets")
    press(page, "dataset_start")
    expect(page.get_by_role("heading", name="ratings v1")).to_be_visible()
    picture(page, "dataset")


def train(page: Page) -> None:
    go_to(page, "Launch training")
    page.locator(".st-key-dataset_scores input").click()
    page.get_by_role("option", name="ratings v1").click()
    idle(page)
    expect(page.locator(".st-key-version_counts")).to_be_visible()
    expect(page.locator(".st-key-start button")).to_be_enabled()
    picture(page, "launch")
    press(page, "start")
    finish_run(page, "Promote it in Models")
    picture(page, "runs")


def finish_run(page: Page, link: str) -> None:
    """Follow the run that was just started until it leads on."""
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=link)).to_be_visible(timeout=240_000)
    idle(page)


def promote(page: Page) -> None:
    page.get_by_role("link", name="Promote it in Models").click()
    expect(page.get_by_role("heading", name="reward v1")).to_be_visible()
    press(page, "promote")
    page.locator(".st-key-promote_reason textarea").fill("The first model, better than length.")
    page.locator(".st-key-promote_typed input").fill("reward v1")
    expect(page.locator(".st-key-promote_confirm button")).to_be_enabled()
    picture(page, "promote")
    press(page, "promote_confirm")
    expect(page.get_by_text("reward v1 serves.")).to_be_visible(timeout=180_000)  # loads it
    picture(page, "models")


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


def create_token(server: LiveServer) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_core", "token", "create", "assistant",
         "--scope", "score", "--json"],
        env={**os.environ, "RLHF_DATA_DIR": str(server.data_dir), "RLHF_SECRET_KEY": SECRET_KEY},
        cwd=SOURCE_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["token"])


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
    headers = {"Authorization": f"Bearer {create_token(whole_server)}"}
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
