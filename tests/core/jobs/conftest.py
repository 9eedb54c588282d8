"""A world with real workers around each test database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_core.config import get_settings
from rlhf_core.store.engine import Store
from tests.core.jobs.world import World


@pytest.fixture
def world(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("RLHF_DEAD_AFTER_S", "60")
    monkeypatch.setenv("RLHF_RUN_GRACE_S", "1")
    get_settings.cache_clear()
    world = World(store, tmp_path)
    yield world
    world.stop_all()
