"""Days whose daily counts must be made again."""

import uuid
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Feedback, Interaction, RollupDirtyDay
from rlhf_core.store.upsert import insert_ignoring

_TABLE = table_of(RollupDirtyDay)
_locked = sa.select(sa.func.count()).select_from(
    sa.select(_TABLE.c.day)
    .where(_TABLE.c.day.in_(sa.bindparam("days", expanding=True)))
    .with_for_update(read=True, key_share=True)
    .subquery()
)


def mark_days_dirty(db: Session, moments: Iterable[datetime]) -> None:
    """Mark the UTC days of these moments, in the caller's transaction.

    On PostgreSQL the mark is also locked (shared: writers do not wait for each other). Else the one
    who makes the counts could take an old mark away and count before this transaction is visible.
    """
    days = sorted({moment.astimezone(UTC).date() for moment in moments})  # one order: no deadlock
    now = utcnow()
    rows = [{"day": day, "marked_at": now} for day in days]
    if not rows:
        return
    insert = insert_ignoring(db, _TABLE)
    if db.get_bind().dialect.name == "sqlite":
        db.execute(insert, rows)
        return
    while db.scalar(_locked, {"days": days}) != len(days):  # mostly they are marked already
        db.execute(insert, rows)


def mark_days_of_feedback(db: Session, ids: Collection[uuid.UUID]) -> None:
    """Mark the days on which these rows count: their own, and that of the interaction."""
    own, said_of = table_of(Feedback), table_of(Interaction)
    rows = db.execute(
        sa.select(own.c.occurred_at, said_of.c.occurred_at)
        .join(said_of, said_of.c.id == own.c.interaction_id)
        .where(own.c.id.in_(ids))
    )
    mark_days_dirty(db, [moment for row in rows for moment in row])
