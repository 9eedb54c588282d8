"""INSERT ... ON CONFLICT, the same on both databases."""

from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session


def dialect_insert(db: Session, table: Any) -> Any:
    """The dialect's own `insert(table)`, which has `on_conflict_do_nothing` and `_do_update`.

    It reports how many rows it inserted, which on PostgreSQL an INSERT otherwise does not.
    """
    return _dialect_insert(db.get_bind().dialect.name == "sqlite", table)


def insert_ignoring(db: Session, table: sa.Table) -> Any:
    """The dialect's `insert(table)` that passes over rows which break a UNIQUE."""
    return _insert_ignoring(db.get_bind().dialect.name == "sqlite", table)


@lru_cache  # building it takes as long as running it
def _insert_ignoring(is_sqlite: bool, table: sa.Table) -> Any:
    return _dialect_insert(is_sqlite, table).on_conflict_do_nothing()


def _dialect_insert(is_sqlite: bool, table: Any) -> Any:
    insert = sqlite.insert(table) if is_sqlite else postgresql.insert(table)
    return insert.execution_options(preserve_rowcount=True)


def insert_if_absent(db: Session, table: Any, rows: list[dict[str, Any]]) -> int:
    """Insert the rows that break no UNIQUE; return how many were inserted.

    Safe against two writers at once: the database decides, not a SELECT before.
    """
    if not rows:
        return 0
    statement = dialect_insert(db, sa.inspect(table).local_table).values(rows)
    result = db.execute(statement.on_conflict_do_nothing().returning(sa.literal(1)))
    return len(result.all())


def changed_rows(result: sa.Result[Any]) -> int:
    """How many rows an UPDATE, a DELETE or a `dialect_insert` touched."""
    count = int(getattr(result, "rowcount", -1))
    if count < 0:
        raise TypeError("this statement counts no rows; build an INSERT with dialect_insert()")
    return count
