"""Many rows at once: prepared tuples straight to the driver, COPY on PostgreSQL.

The values are what both databases read alike: ids as 32 hexadecimal digits, moments as
`YYYY-MM-DD HH:MM:SS.ffffff` in UTC, JSON as text, truth as 0 and 1. A row that breaks a UNIQUE
raises; the caller looks for known rows first and tries its transaction again after a race.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.store.engine import Store

BULK_PRAGMAS = (
    # A commit inside an import need not reach the disk at once: the checkpoint at the end does.
    "synchronous=NORMAL",
    "wal_autocheckpoint=16000",
    "cache_size=-49152",
)
LOOKUP_SIZE = 5_000
RACES = {"23505", "40P01", "40001"}  # unique violation, deadlock, serialisation failure


@contextmanager
def open_bulk_store(url: str) -> Iterator[Store]:
    """A second store on the same database, set for long writes; durable when the block ends."""
    store = Store(url, pool_size=2)
    if store.is_sqlite:

        @sa.event.listens_for(store.engine, "connect")
        def _set_bulk_pragmas(connection: Any, _record: Any) -> None:
            for pragma in BULK_PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")

    try:
        yield store
    finally:
        if store.is_sqlite:
            connection = store.engine.raw_connection()
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            connection.close()
        store.close()


def insert_rows(
    db: Session, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert the rows (values in the order of `columns`) in the session's transaction."""
    if not rows:
        return
    names = ", ".join(f'"{name}"' for name in columns)
    connection = db.connection()
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        connection.exec_driver_sql(
            f'INSERT INTO "{table}" ({names}) VALUES ({marks})',  # noqa: S608 - our own names
            [tuple(row) for row in rows],
        )
        return
    connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
    _copy_rows(
        connection.connection.driver_connection, f'COPY "{table}" ({names}) FROM STDIN', rows
    )


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


def to_moment_text(moment: datetime) -> str:
    """An aware moment as both databases read it.

    Raises:
        OverflowError: it lies outside the years 1 to 9999 in UTC.
    """
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(" ", "microseconds")[:26]


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
