"""INSERT ... ON CONFLICT, the same on both databases."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session


def dialect_insert(db: Session, table: Any) -> Any:
    """The dialect's own `insert(table)`, which has `on_conflict_do_nothing` and `_do_update`."""
    if db.get_bind().dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)


def insert_if_absent(db: Session, table: Any, rows: list[dict[str, Any]]) -> int:
    """Insert the rows that break no UNIQUE; return how many were inserted.

    Safe against two writers at once: the database decides, not a SELECT before.
    """
    if not rows:
        return 0
    result = db.execute(dialect_insert(db, table).values(rows).on_conflict_do_nothing())
    return int(getattr(result, "rowcount", 0))


def changed_rows(result: sa.Result[Any]) -> int:
    """How many rows an UPDATE or DELETE touched."""
    return int(getattr(result, "rowcount", 0))
