"""A trainer launches a policy in a real browser, follows it, and copies it with changes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import ArtifactInfo, write_artifact
from rlhf_core.config import get_settings
from rlhf_core.registry.service import promote_version, register_version
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import ModelKind, Role
from tests.browser.conftest import OpenAs
from tests.browser.hands import click_for, go_to
from tests.learning.rated import add_rated, make_rows
from tests.live_server import LiveServer, run_server

pytestmark = pytest.mark.browser


@pytest.fixture
def live_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server of its own: its rows would be in the way of the other tests."""
    with run_server(tmp_path / "policies") as server:
        yield server


def fill(server: LiveServer) -> None:
    """Rated interactions, and a reward model that serves; its files are never opened here."""
    folder = server.data_dir / "artifacts" / "reward" / "one"
    artifact: ArtifactInfo = write_artifact(
        folder, lambda inside: (inside / "head.json").write_text("{}")
    )
    report = TrainReport(
        artifact_dir=artifact.path, metrics={"auc": 0.8}, params={}, seed=0, num_rows=240
    )
    with server.store.writing() as db:
        add_rated(db, make_rows(240))
        version = register_version(
            db, actor=SYSTEM, model_name="reward", kind=ModelKind.REWARD_SBERT, report=report,
            artifact=artifact,
        )  # fmt: skip
        promote_version(db, version.id, actor=SYSTEM, reason="test")


def test_policy_is_launched_in_one_click_and_copied_with_changes(
    live_server: LiveServer, open_as: OpenAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_DATA_DIR", str(live_server.data_dir))
    get_settings.cache_clear()
    fill(live_server)
    page, _ = open_as(Role.TRAINER)
    go_to(page, "Launch training")
    page.locator(".st-key-launch_part").get_by_text("Policy", exact=True).click()
    expect(page.get_by_text("PPO (recommended)")).to_be_visible()
    expect(page.get_by_text("fits in")).to_be_visible()
    click_for(
        page.locator(".st-key-start button").last, page.get_by_role("heading", name="Policy (PPO)")
    )
    expect(page.get_by_text("It is next in the queue gpu")).to_be_visible()
    click_for(
        page.locator(".st-key-clone_run button"),
        page.get_by_text("Copied from the run Policy (PPO)"),
    )
    expect(page.get_by_text("A run with these parameters is queued already.")).to_be_visible()
