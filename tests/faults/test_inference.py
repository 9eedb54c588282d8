"""The inference process as the launcher runs it: killed, orphaned, restarted, overtaken."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_core.config import get_settings
from rlhf_core.registry.service import REWARD_MODEL
from rlhf_core.serving.client import DeploymentHealth, InferenceClient
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import ServedLogEntry
from tests.core.serving.deployments import end_deployment, run_deployment
from tests.core.serving.test_client import free_port
from tests.core.serving.world import (
    BAD,
    GOOD,
    PROMPT,
    promote_reward_model,
    register_reward_model,
)
from tests.databases import only_sqlite

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0

Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def start(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the process on the test's database and port, its stdin held by the test."""
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(free_port()))
    get_settings.cache_clear()
    running: list[subprocess.Popen[bytes]] = []

    def run() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "rlhf_core", "inference", "--exit-with-parent", "--json"]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
        )
        running.append(process)
        assert process.stdout is not None
        assert b"port" in process.stdout.readline()
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()


@contextmanager
def asking() -> Iterator[InferenceClient]:
    client = InferenceClient(timeout_s=30)
    yield client
    client.close()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@only_sqlite
def test_killed_process_means_the_original_order_and_its_successor_serves(
    store: Store, start: Start
) -> None:
    with store.writing() as db:
        promote_reward_model(db)
    first = start()
    with asking() as client:
        wait_for(lambda: client.health().is_ready)
        assert client.rerank(PROMPT, [BAD, GOOD]).ranking == (1, 0)
        first.kill()
        first.wait()
        found = client.rerank(PROMPT, [BAD, GOOD])
        assert (found.ranking, found.is_fallback) == ((0, 1), True)
        assert found.reason == "The inference process does not run."
        start()
        wait_for(lambda: client.health().is_ready)
        again = client.rerank(PROMPT, [BAD, GOOD])
        assert (again.ranking, again.is_fallback, again.version) == ((1, 0), False, "reward v1")


@pytest.mark.slow
def test_promotion_is_followed_under_load_and_no_request_is_dropped(
    store: Store, start: Start
) -> None:
    process = start()
    with asking() as client:
        wait_for(lambda: client.health().problem == "No model is promoted yet.")
        assert client.rerank(PROMPT, [BAD, GOOD]).is_fallback
        with store.writing() as db:
            promote_reward_model(db)
        wait_for(lambda: client.health().is_ready)
        seen: list[str | None] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                found = client.rerank(PROMPT, [BAD, GOOD])
                seen.append(None if found.is_fallback else found.version)

        asker = threading.Thread(target=ask)
        asker.start()
        with store.writing() as db:
            promote_reward_model(db)
        wait_for(lambda: client.health().version == "reward v2")
        with store.writing() as db:
            broken = promote_reward_model(db)
            next(broken.folder.glob("*.skops")).write_bytes(b"")
        wait_for(lambda: "reward v3 cannot be served" in str(client.health().problem))
        assert client.health().version == "reward v2"
        assert str(client.health().problem).endswith("reward v2 serves on.")
        stop.set()
        asker.join()
    assert set(seen) == {"reward v1", "reward v2"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_S) == 0
    with store.reading() as db:
        noted = db.scalar(sa.select(sa.func.count()).where(ServedLogEntry.is_fallback.is_(False)))
    assert noted == len(seen), "each answer is in the log, also the last before the end"


@pytest.mark.slow
@only_sqlite
def test_a_canary_is_taken_up_by_the_running_process_and_leaves_it_at_once(
    store: Store, start: Start
) -> None:
    with store.writing() as db:
        first = promote_reward_model(db)
        second, broken = register_reward_model(db), register_reward_model(db)
        next(broken.folder.glob("*.skops")).write_bytes(b"")
    start()
    with asking() as client:

        def ask() -> str | None:
            return client.rerank(PROMPT, [BAD, GOOD]).version

        def canary() -> DeploymentHealth:
            return client.health().deployments[REWARD_MODEL]

        wait_for(lambda: client.health().is_ready)
        with store.writing() as db:
            running = run_deployment(db, broken, first, percent=100.0)
        wait_for(lambda: canary().problem is not None)
        assert "reward v3 cannot be served" in str(canary().problem)
        assert ask() == "reward v1"
        with store.writing() as db:
            end_deployment(db, running)
            running = run_deployment(db, second, first, percent=100.0)
        wait_for(lambda: canary().canary == "reward v2")
        assert (ask(), canary().problem) == ("reward v2", None)
        with store.writing() as db:
            end_deployment(db, running)
        wait_for(lambda: ask() == "reward v1")
        assert not client.rerank(PROMPT, [BAD, GOOD]).is_fallback


@only_sqlite
def test_process_ends_with_its_parent(start: Start) -> None:
    process = start()
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=PATIENCE_S) == 0


@only_sqlite
def test_second_process_on_the_port_says_so_and_ends(start: Start) -> None:
    start()
    second = subprocess.run(
        [sys.executable, "-m", "rlhf_core", "inference"],
        cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert second.returncode == 1
    assert "is taken" in second.stderr
    assert "Traceback" not in second.stderr
