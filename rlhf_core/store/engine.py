"""Opening the database. SQLite and PostgreSQL behave alike behind `Store`.

SQLite: WAL, foreign keys on, and a writing transaction takes the write lock at its start
(`BEGIN IMMEDIATE`). With the driver's deferred BEGIN, two transactions that read and then write
end in "database is locked" whatever the timeout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.config import get_settings
from rlhf_core.errors import Unavailable

SQLITE_BUSY_TIMEOUT_S = 30.0


class Store:
    """An open database. Thread-safe; one a process."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.engine = _sqlite_engine(url) if self.is_sqlite else _postgres_engine(url, pool_size)
        self._writer = self.engine.execution_options(rlhf_writes=True)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reads. Nothing written in it is kept."""
        with translate_outage(), Session(self.engine, expire_on_commit=False) as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises."""
        with translate_outage(), Session(self._writer, expire_on_commit=False) as db, db.begin():
            yield db

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def translate_outage() -> Iterator[None]:
    """Turn a lost, locked or full database into `Unavailable`."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
        raise Unavailable(f"The database does not answer ({reason}); try again.") from error


def _postgres_engine(url: str, pool_size: int) -> sa.Engine:
    return sa.create_engine(
        url, pool_pre_ping=True, pool_size=pool_size, max_overflow=pool_size, pool_timeout=10
    )


def _sqlite_engine(url: str) -> sa.Engine:
    path = sa.make_url(url).database
    if path and path != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",  # an acknowledged rating survives a power cut
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-65536",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("rlhf_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@lru_cache
def get_store() -> Store:
    """The store of this process, opened from the settings at the first call."""
    return Store(get_settings().resolved_database_url)
