"""Who loses a role or an account can do nothing more in a page that stays open."""

import uuid
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from rlhf_core.accounts import service as accounts
from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.config import get_settings
from rlhf_core.jobs import service as jobs
from rlhf_core.registry import service as registry
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, Role
from tests.browser.conftest import OpenAs
from tests.browser.hands import click_for, go_to, idle
from tests.core.registry.world import make_version
from tests.live_server import LiveServer

pytestmark = pytest.mark.browser

Loss = Callable[[LiveServer, Actor], None]


def demote(server: LiveServer, actor: Actor) -> None:
    with server.store.writing() as db:
        accounts.set_role(db, actor=SYSTEM, account_name=actor.name, role=Role.RATER)


def disable(server: LiveServer, actor: Actor) -> None:
    with server.store.writing() as db:
        accounts.disable_account(db, actor=SYSTEM, account_name=actor.name)


@pytest.fixture
def open_run(open_as: OpenAs, live_server: LiveServer) -> Iterator[tuple[Page, Actor, uuid.UUID]]:
    """The page of runs with one that waits, as its trainer sees it."""
    page, actor = open_as(Role.TRAINER)
    with live_server.store.writing() as db:
        job_id = jobs.enqueue_job(db, actor=actor, kind=JobKind.TRAIN_SBERT, params={"seed": 1}).id
    go_to(page, "Runs")
    expect(page.locator(".st-key-cancel_run")).to_be_visible()
    yield page, actor, job_id
    with live_server.store.writing() as db:
        db.execute(sa.delete(Job).where(Job.id == job_id))


def test_runs_are_out_of_sight_at_the_next_tick(
    open_run: tuple[Page, Actor, uuid.UUID], live_server: LiveServer
) -> None:
    page, actor, _ = open_run
    demote(live_server, actor)
    expect(page.get_by_role("alert")).to_contain_text("not open to the role rater")
    expect(page.locator(".st-key-cancel_run")).to_have_count(0)


def test_open_dialog_stops_no_run(
    open_run: tuple[Page, Actor, uuid.UUID], live_server: LiveServer
) -> None:
    page, actor, job_id = open_run
    confirm = page.locator(".st-key-confirm_cancel button")
    click_for(page.locator(".st-key-cancel_run button"), confirm)
    demote(live_server, actor)
    confirm.click(delay=50)
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("not open to the role")
    with live_server.store.reading() as db:
        assert jobs.get_job(db, job_id).cancel_requested_at is None


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (demote, "not open to the role rater"),
        pytest.param(disable, "You are signed out", marks=pytest.mark.slow),
    ],
)
def test_open_dialog_promotes_nothing(
    open_as: OpenAs,
    live_server: LiveServer,
    monkeypatch: pytest.MonkeyPatch,
    lose: Loss,
    said: str,
) -> None:
    page, actor = open_as(Role.TRAINER)
    monkeypatch.setenv("RLHF_DATA_DIR", str(live_server.data_dir))
    get_settings.cache_clear()
    with live_server.store.writing() as db:
        version = make_version(db)
    go_to(page, "Models")
    idle(page)
    click_for(
        page.locator(".st-key-promote button"), page.locator(".st-key-promote_reason textarea")
    )
    page.locator(".st-key-promote_reason textarea").fill("better")
    page.locator(".st-key-promote_typed input").fill(version.name)
    expect(page.locator(".st-key-promote_confirm button")).to_be_enabled()
    idle(page)
    lose(live_server, actor)
    page.locator(".st-key-promote_confirm button").click(delay=50)
    expect(page.get_by_text(said).or_(page.get_by_label("Password")).first).to_be_visible()
    with live_server.store.reading() as db:
        assert registry.get_alias(db, "reward", actor=SYSTEM).number is None
