"""Alembic's entry: runs on the connection that `rlhf_core.store.migrate` hands over."""

from typing import Any

import sqlalchemy as sa
from alembic import context

import rlhf_core.store.tables  # noqa: F401  (fills the metadata)
from rlhf_core.store.base import JSON_TYPE, Base, UtcDateTime


def include_object(
    _object: Any, _name: str | None, kind: str, reflected: bool, compare_to: Any
) -> bool:
    """Leave the job engine's tables, which lie in the same SQLite file, alone."""
    return not (kind in ("table", "index") and reflected and compare_to is None)


def render_item(kind: str, item: Any, _autogen_context: Any) -> str | bool:
    """Write plain SQLAlchemy types into migrations, so that they never import our code."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and item is JSON_TYPE:
        return "JSON"  # defined in each migration, see script.py.mako
    return False


connection: sa.Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    include_object=include_object,
    render_item=render_item,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
