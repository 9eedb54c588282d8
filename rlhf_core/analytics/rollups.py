"""Daily counts, made anew for the days that a change marked (`mark_days_dirty`).

Exact beside concurrent writers. PostgreSQL: a writer keeps its day's mark locked (shared) until it
commits. Here only marks that nobody holds are taken, and locked, so nobody can commit a change of
these days before the counts are there; and each statement sees what was committed before it began.
A day that a writer holds keeps its mark, for the next time. SQLite has one writer at a time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.analytics import rollup_statements as statements
from rlhf_core.analytics.filters import start_of_day
from rlhf_core.analytics.rollup_days import day_of
from rlhf_core.analytics.rollup_failures import rebuild_bad_exchanges
from rlhf_core.analytics.rollup_sessions import rebuild_sessions
from rlhf_core.analytics.rollup_steps import rebuild_steps
from rlhf_core.clock import utcnow
from rlhf_core.store.base import Base, table_of
from rlhf_core.store.engine import Store
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import (
    Event,
    Feedback,
    FeedbackAspect,
    Interaction,
    Rater,
    ReasoningStep,
    RollupDirtyDay,
)

REBUILD_LOCK = 7_205_311_940_816_553  # PostgreSQL: one rebuilds at a time
DAYS_A_STATEMENT = 400

_MARK = table_of(RollupDirtyDay)


def has_dirty_days(db: Session, *, for_s: float = 0.0) -> bool:
    """Whether a day was marked `for_s` seconds ago or before that, and is not counted yet."""
    query = sa.select(sa.literal(1)).select_from(_MARK).limit(1)
    if for_s > 0:
        query = query.where(_MARK.c.marked_at <= utcnow() - timedelta(seconds=for_s))
    return db.scalar(query) is not None


def refresh_rollups(db: Session, *, max_days: int | None = None) -> int:
    """Count the marked days anew, the latest first, in the caller's writing transaction.

    Returns how many days stay marked: those beyond `max_days`, and those that another transaction
    is changing. On PostgreSQL the transaction must be READ COMMITTED, as it is by default.
    """
    is_sqlite = db.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(REBUILD_LOCK)))
    query = sa.select(_MARK.c.day).order_by(_MARK.c.day.desc()).limit(max_days)
    days = sorted(db.scalars(query.with_for_update(skip_locked=True)))
    if days and not is_sqlite:
        _renew_statistics(db)
    for at in range(0, len(days), DAYS_A_STATEMENT):
        _rebuild(db, days[at : at + DAYS_A_STATEMENT])
    return db.scalar(sa.select(sa.func.count()).select_from(_MARK)) or 0


@contextmanager
def reading_fresh(store: Store, *, for_s: float = 0.0) -> Iterator[Session]:
    """A session for reads, after the days marked for `for_s` seconds or longer were counted.

    Writes only where there are such days.
    """
    with store.reading() as db:
        is_stale = has_dirty_days(db, for_s=for_s)
    if is_stale:
        with store.writing() as db:
            refresh_rollups(db)
    with store.reading() as db:
        yield db


def mark_everything(db: Session, *, actor: Actor) -> int:
    """Mark every day that has rows or counts; returns how many days are marked then.

    For repair: the writers mark what they change.
    """
    require(actor, Permission.RUN_JOBS)
    queries = [
        *(sa.select(day_of(db, table.occurred_at)) for table in (Interaction, Feedback, Event)),
        *(sa.select(table.c.day) for table in Base.metadata.sorted_tables if "day" in table.c),
    ]
    days = db.scalars(sa.union(*queries))
    mark_days_dirty(db, [start_of_day(day) for day in days])
    return db.scalar(sa.select(sa.func.count()).select_from(_MARK)) or 0


def _renew_statistics(db: Session) -> None:
    """Let the planner of PostgreSQL know of many new rows before it plans for them.

    The server does so by itself within minutes. Right after an import it still takes the tables for
    empty, and reads one of them once for each row of another: hours for a million rows.
    """
    names = [table_of(entity).name for entity in (Interaction, Feedback, FeedbackAspect, Rater,
                                                  ReasoningStep, Event)]  # fmt: skip
    stale = sa.text(
        "SELECT c.relname FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid "
        "WHERE c.relname IN :names AND s.schemaname = current_schema() "
        "AND (c.reltuples < 0 OR s.n_mod_since_analyze > 1000 + 0.2 * c.reltuples)"
    ).bindparams(sa.bindparam("names", names, expanding=True))
    for name in db.scalars(stale).all():
        db.execute(sa.text(f'ANALYZE "{name}"'))


def _rebuild(db: Session, days: list[date]) -> None:
    statements.rebuild_feedback(db, days)
    statements.rebuild_raters(db, days)
    statements.rebuild_aspects(db, days)
    statements.rebuild_interactions(db, days)
    rebuild_steps(db, days)
    rebuild_sessions(db, days)
    rebuild_bad_exchanges(db, days)
    db.execute(sa.delete(_MARK).where(_MARK.c.day.in_(days)))
