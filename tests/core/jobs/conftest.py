"""A world with real workers around each test database, and what tiny runs of policies need."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_core.config import get_settings
from rlhf_core.store.engine import Store
from tests.core.jobs.trained_policies import RULES
from tests.core.jobs.world import World
from tests.core.policies.tiny_policies import make_policy


@pytest.fixture
def world(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("RLHF_DEAD_AFTER_S", "60")
    monkeypatch.setenv("RLHF_RUN_GRACE_S", "1")
    get_settings.cache_clear()
    world = World(store, tmp_path)
    yield world
    world.stop_all()


@pytest.fixture(scope="session")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(autouse=True)
def _known_embeddings(settings_for_test: None, embeddings: Path) -> None:
    """The cache of embeddings is that of the tests before: most of them train on the same texts."""
    folder = get_settings().embedding_dir
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(embeddings, target_is_directory=True)


@pytest.fixture
def reward_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that may reward a policy; the processes that the test starts have them too."""
    monkeypatch.setenv("RLHF_REWARD_RULES", RULES)
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy to start from; nobody writes into its folder."""
    return make_policy(tmp_path_factory.mktemp("base"))
