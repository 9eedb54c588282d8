"""The real files in one database, for all tests of figures that were counted without this code."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.store.engine import Store
from tests.core.analytics.real_files import import_real_files


@pytest.fixture(scope="session")
def facts(shared_data: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((shared_data / "FACTS.json").read_text())
    return known


@pytest.fixture(scope="session")
def real_store(
    shared_data: Path, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    own = tmp_path_factory.mktemp("real")
    shutil.copy(_import_once(shared_data, sqlite_template, tmp_path_factory), own / "rlhf.db")
    store = Store(f"sqlite:///{own / 'rlhf.db'}")
    yield store
    store.close()


def _import_once(
    shared_data: Path, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The database of the first test process that asks, which the others wait for."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real_files"
    folder.mkdir(exist_ok=True)
    made = folder / "made.db"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            shutil.copy(sqlite_template, folder / "rlhf.db")
            store = Store(f"sqlite:///{folder / 'rlhf.db'}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RLHF_SECRET_KEY", "test-key")
                import_real_files(store, shared_data, folder)
            with store.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            store.close()
            (folder / "rlhf.db").rename(made)
    return made
