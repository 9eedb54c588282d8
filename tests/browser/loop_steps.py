"""The stations of the loop, as a person walks them from page to page."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from rlhf_core.config import SOURCE_ROOT
from tests.browser.hands import go_to, idle, press
from tests.live_server import SECRET_KEY, LiveServer

PICTURES = os.environ.get("RLHF_TEST_PICTURES")


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
    checked = page.locator(".st-key-import_start")
    try:
        expect(checked).to_be_visible(timeout=60_000)
    except AssertionError:  # a table that came late moved the button away under the click
        press(page, "import_check")
        expect(checked).to_be_visible(timeout=180_000)
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


def confirm_promotion(page: Page, name: str, reason: str, override: str | None = None) -> None:
    """In the dialog: why, why the rules are passed over, and the version's name."""
    page.locator(".st-key-promote_reason textarea").fill(reason)
    if override is not None:
        page.locator(".st-key-promote_override textarea").fill(override)
    page.locator(".st-key-promote_typed input").fill(name)
    expect(page.locator(".st-key-promote_confirm button")).to_be_enabled()
    picture(page, "promote")
    press(page, "promote_confirm")


def promote(page: Page) -> None:
    page.get_by_role("link", name="Promote it in Models").click()
    expect(page.get_by_role("heading", name="reward v1")).to_be_visible()
    press(page, "promote")
    confirm_promotion(page, "reward v1", "The first model, better than length.")
    expect(page.get_by_text("reward v1 serves.")).to_be_visible(timeout=180_000)  # loads it
    picture(page, "models")


def run_command(server: LiveServer, *words: str) -> Any:
    """What a command prints on the server's own machine."""
    done = subprocess.run(
        [sys.executable, "-m", "rlhf_core", *words, "--json"],
        env={**os.environ, "RLHF_DATA_DIR": str(server.data_dir), "RLHF_SECRET_KEY": SECRET_KEY},
        cwd=SOURCE_ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def create_token(server: LiveServer, *scopes: str) -> str:
    """A token of these scopes."""
    given = [word for scope in scopes for word in ("--scope", scope)]
    return str(run_command(server, "token", "create", "assistant", *given)["token"])
