"""Many rows at once: prepared tuples straight to the driver, COPY on PostgreSQL.

The values are what both databases read alike: ids as 32 hexadecimal digits, moments as
`clock.to_moment_text` writes them, JSON as text, truth as 0 and 1. A row that breaks a UNIQUE
raises; the caller looks for known rows first and tries its transaction again after a race.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.errors import Unavailable
from rlhf_core.store.engine import Store

BULK_PRAGMAS = (
    # A commit inside an import need not reach the disk at once: the checkpoint at the end does.
    "synchronous=NORMAL",
    "wal_autocheckpoint=0",  # see `BulkStore.tidy`
    "journal_size_limit=67108864",
    # Each reference is looked up or written in the transaction that uses it, under the write lock;
    # to have every row checked again takes a tenth of the time.
    "foreign_keys=OFF",
)
TIDY_EVERY = 6  # transactions: the same pages change in one after the other
SQLITE_VARIABLES = 999  # of a statement, in any build
LOOKUP_SIZE = 5_000
RACES = {"23505", "40P01", "40001"}  # unique violation, deadlock, serialisation failure


class BulkStore(Store):
    """A second store on the same database, set for long writes; durable when it is closed.

    On SQLite it checks no foreign key: write only references that the same transaction has read.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=2)
        self._num_written = 0
        self._helper = ThreadPoolExecutor(1)
        self._tidying: Future[None] | None = None
        if self.is_sqlite:

            @sa.event.listens_for(self.engine, "connect")
            def _set_bulk_pragmas(connection: Any, _record: Any) -> None:
                for pragma in BULK_PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")

    def tidy(self) -> None:
        """To be called after each transaction: keeps SQLite's log short.

        Now and then a thread brings the log into the database, which is mostly waiting for the
        disk. What was written meanwhile follows here, so that the log can begin anew.
        """
        self._num_written += 1
        if self._tidying is not None and self._tidying.done():
            self._tidying.result()
            self._tidying = None
            self._bring_to_disk()
        elif self._tidying is None and self._num_written >= TIDY_EVERY:
            self._num_written = 0
            self._tidying = self._helper.submit(self._bring_to_disk)

    def _bring_to_disk(self) -> None:
        if not self.is_sqlite:
            return
        # Apart from the pool: a write through this connection would fill a second cache of pages.
        try:
            with closing(sqlite3.connect(self.engine.url.database or "")) as connection:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.OperationalError as error:
            raise Unavailable(f"The database cannot be written ({error}); try again.") from error

    def close(self) -> None:
        """Bring all to the disk, then close the connections."""
        self._helper.shutdown()
        try:
            self._bring_to_disk()
        finally:
            super().close()


def insert_rows(
    db: Session, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert the rows (values in the order of `columns`) in the session's transaction."""
    if not rows:
        return
    columns, rows = _without_empty_columns(columns, rows)
    names = ", ".join(f'"{name}"' for name in columns)
    connection = db.connection()
    if connection.dialect.name == "sqlite":
        start = f'INSERT OR ROLLBACK INTO "{table}" ({names}) VALUES '  # noqa: S608 - our own names
        _insert_together(connection, start, rows)
        return
    connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
    _copy_rows(
        connection.connection.driver_connection, f'COPY "{table}" ({names}) FROM STDIN', rows
    )


def _without_empty_columns(
    columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Leave out what is None in all rows: sqlite3 takes longer to bind a None than a text."""
    filled = [
        n
        for n, values in enumerate(zip(*rows, strict=True))
        if values[0] is not None or values.count(None) < len(values)
    ]
    names = [columns[n] for n in filled]
    if len(filled) == len(columns):
        return names, list(rows)
    take = itemgetter(*filled)
    return names, [take(row) for row in rows]


def _insert_together(
    connection: sa.Connection, start: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Many rows a statement, which takes half the time of one each.

    OR ROLLBACK: the whole transaction is lost when a row breaks a rule, as the caller wants it; to
    be able to take back the statement alone, SQLite would first copy each page that it changes.
    """
    mark = f"({', '.join('?' * len(rows[0]))})"
    at_once = max(1, SQLITE_VARIABLES // len(rows[0]))
    whole = len(rows) // at_once * at_once
    together = [
        tuple(chain.from_iterable(rows[at : at + at_once])) for at in range(0, whole, at_once)
    ]
    if together:
        connection.exec_driver_sql(start + ", ".join([mark] * at_once), together)
    if whole < len(rows):
        connection.exec_driver_sql(start + mark, list(rows[whole:]))


def _copy_rows(driver: Any, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    import psycopg

    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for at in range(0, len(rows), 500):
                copy.write("".join(map(_copy_line, rows[at : at + 500])))
    except psycopg.OperationalError as error:
        raise sa.exc.OperationalError(statement, None, error) from error


def is_race(error: BaseException) -> bool:
    """Whether another writer was first (PostgreSQL): roll back, look again, try again."""
    original = getattr(error, "orig", None) or error
    return getattr(original, "sqlstate", None) in RACES


def find_rows(
    db: Session, table: str, columns: Sequence[str], key: str, values: Iterable[str], **equal: str
) -> Iterator[tuple[Any, ...]]:
    """The rows whose `key` is one of the values and whose other named columns are equal.

    Plain driver values come back: ids as text on SQLite, as UUID on PostgreSQL. The values are one
    parameter, which is several times quicker than one each.
    """
    wanted = list(values)
    if not wanted:
        return
    connection = db.connection()
    names = ", ".join(f'"{name}"' for name in columns)
    is_sqlite = connection.dialect.name == "sqlite"
    mark = "?" if is_sqlite else "%s"
    among = "IN (SELECT value FROM json_each(?))" if is_sqlite else "= ANY(%s)"
    rest = "".join(f' AND "{name}" = {mark}' for name in equal)
    statement = f'SELECT {names} FROM "{table}" WHERE "{key}" {among}{rest}'  # noqa: S608 - our own names
    asked = json.dumps(wanted) if is_sqlite else wanted
    for row in connection.exec_driver_sql(statement, (asked, *equal.values())):
        yield tuple(row)


def in_slices(values: Iterable[Any]) -> Iterator[list[Any]]:
    """The values in lists that fit the parameters of one statement."""
    kept = list(values)
    for at in range(0, len(kept), LOOKUP_SIZE):
        yield kept[at : at + LOOKUP_SIZE]


def _copy_line(row: Sequence[Any]) -> str:
    return "\t".join(map(_copy_value, row)) + "\n"


def _copy_value(value: Any) -> str:
    if value is None:
        return "\\N"
    if not isinstance(value, str):
        return str(value)
    text: str = value
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if text.isprintable():
        return text
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
