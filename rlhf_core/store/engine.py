"""Opening the database. SQLite and PostgreSQL behave alike behind `Store`.

SQLite: WAL, foreign keys on, and a writing transaction takes the write lock at its start
(`BEGIN IMMEDIATE`). With the driver's deferred BEGIN, two transactions that read and then write
end in "database is locked" whatever the timeout.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, Unavailable

SQLITE_BUSY_TIMEOUT_S = 30.0
SQLITE_OVERFLOW = 40
"""Connections beyond the pool: the API's 40 threads at once never wait for one."""
CONNECT_TIMEOUT_S = 10
IDLE_S = 5.0
"""A connection that was used within this time is taken to live: it is not asked before each use."""
DRIVERS = {"sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"}


class Store:
    """An open database. Thread-safe; one a process.

    Raises InvalidInput for a URL of neither SQLite nor PostgreSQL, Unavailable where the folder of
    a SQLite file cannot be made.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        parsed = _parse(url)
        self.url = url
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        open_engine = _sqlite_engine if self.is_sqlite else _postgres_engine
        self.engine = open_engine(parsed, pool_size)
        self._writer = self.engine.execution_options(rlhf_writes=True)
        self._glancer = self.engine
        if not self.is_sqlite:
            self._glancer = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reads. Nothing written in it is kept."""
        with translate_outage(), Session(self.engine, expire_on_commit=False) as db:
            yield db

    @contextmanager
    def glancing(self) -> Iterator[Session]:
        """A session for a few short reads, without the messages that begin and end a transaction.

        On PostgreSQL each query sees what is committed at its moment, as in `reading`; but rows
        cannot be fetched in portions.
        """
        with translate_outage(), Session(self._glancer, expire_on_commit=False) as db:
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
    """Turn a lost, locked, full or busy database into `Unavailable`."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
        raise Unavailable(f"The database does not answer ({reason}); try again.") from error
    except sa.exc.TimeoutError as error:
        raise Unavailable("All connections to the database are in use; try again.") from error


def _parse(url: str) -> sa.URL:
    """The URL, if it is of a database that we know. No message shows it: it may hold a password."""
    needed = "RLHF_DATABASE_URL must be sqlite:///<file> or postgresql://<user>@<host>/<database>"
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise InvalidInput(f"{needed}; the given one is no URL.") from error
    if parsed.drivername not in DRIVERS:
        raise InvalidInput(
            f"{needed}: only SQLite and PostgreSQL are supported, not {parsed.drivername}."
        )
    return parsed


def _postgres_engine(url: sa.URL, pool_size: int) -> sa.Engine:
    # In the zone of a database east of UTC, the last moments of the year 9999 cannot be read.
    # Said here, options replace those of the URL: they go in front.
    given = url.normalized_query.get("options") or (os.environ.get("PGOPTIONS", ""),)
    connect_args: dict[str, Any] = {"options": " ".join([*given, "-c timezone=UTC"]).strip()}
    if "connect_timeout" not in url.query:
        connect_args["connect_timeout"] = CONNECT_TIMEOUT_S
    engine = sa.create_engine(
        url,
        connect_args=connect_args,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
    )

    @sa.event.listens_for(engine, "checkin")
    def _note_use(_connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def _ask_whether_it_lives(connection: Any, record: Any, _proxy: Any) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at <= IDLE_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError(str(error)) from error  # it opens new ones

    return engine


def _sqlite_engine(url: sa.URL, pool_size: int) -> sa.Engine:
    pool: dict[str, Any] = {}
    if url.database and url.database != ":memory:":
        pool = {"pool_size": pool_size, "max_overflow": SQLITE_OVERFLOW}
        folder = Path(url.database).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"The folder {folder} of the database cannot be made ({error.strerror}); "
                "set RLHF_DATA_DIR or RLHF_DATABASE_URL to a place that can be written."
            ) from error
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_S}, **pool)

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
