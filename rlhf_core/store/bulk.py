"""Many rows at once: prepared tuples straight to the driver, COPY on PostgreSQL.

The values are what both databases read alike: ids as 32 hexadecimal digits, moments as
`YYYY-MM-DD HH:MM:SS.ffffff` in UTC, JSON as text, truth as 0 and 1. A row that breaks a UNIQUE
raises; the caller looks for known rows first and tries its transaction again after a race.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.store.engine import Store

BULK_PRAGMAS = (
    # A commit inside an import need not reach the disk at once: the checkpoint at the end does.
    "synchronous=NORMAL",
    "wal_autocheckpoint=48000",  # pages: the same ones change in batch after batch
    "journal_size_limit=67108864",
    "cache_size=-49152",
    # Each reference is looked up or written in the transaction that uses it, under the write lock;
    # to have every row checked again takes a tenth of the time.
    "foreign_keys=OFF",
)
LOOKUP_SIZE = 5_000
RACES = {"23505", "40P01", "40001"}  # unique violation, deadlock, serialisation failure


@contextmanager
def open_bulk_store(url: str) -> Iterator[Store]:
    """A second store on the same database, set for long writes; durable when the block ends.

    On SQLite it checks no foreign key: write only references that the same transaction has read.
    """
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
    db: Session, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert the rows (values in the order of `columns`) in the session's transaction."""
    if not rows:
        return
    columns, rows = _without_empty_columns(columns, rows)
    names = ", ".join(f'"{name}"' for name in columns)
    connection = db.connection()
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        statement = f'INSERT INTO "{table}" ({names}) VALUES ({marks})'  # noqa: S608 - our own names
        connection.exec_driver_sql(statement, rows)
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
        n for n, values in enumerate(zip(*rows, strict=True)) if any(v is not None for v in values)
    ]
    names = [columns[n] for n in filled]
    if len(filled) == len(columns):
        return names, list(rows)
    take = itemgetter(*filled)
    return names, [take(row) for row in rows]


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
