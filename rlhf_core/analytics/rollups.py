"""Daily counts, made anew for the days that a change marked (`mark_days_dirty`).

Exact beside concurrent writers. PostgreSQL: a writer keeps its day's mark locked (shared) until it
commits. Here only marks that nobody holds are taken, and locked, so nobody can commit a change of
these days before the counts are there; and each statement sees what was committed before it began.
A day that a writer holds keeps its mark, for the next time. SQLite has one writer at a time.
"""

import time
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
from rlhf_core.errors import Unavailable
from rlhf_core.store.base import Base, table_of
from rlhf_core.store.engine import Store
from rlhf_core.store.queries.dirty_days import mark_days_dirty
from rlhf_core.store.tables import (
    Event,
    Feedback,
    FeedbackAspect,
    FeedbackRollup,
    Interaction,
    InteractionRollup,
    Rater,
    ReasoningStep,
    RollupDirtyDay,
)

REBUILD_LOCK = 7_205_311_940_816_553  # PostgreSQL: one rebuilds at a time
DAYS_A_STATEMENT = 400
DAYS_A_ROUND = 7
"""A transaction of the counts is kept this short: on SQLite nobody else writes meanwhile."""

_MARK = table_of(RollupDirtyDay)


def has_dirty_days(db: Session, *, for_s: float = 0.0) -> bool:
    """Whether a day was marked `for_s` seconds ago or before that, and is not counted yet."""
    query = sa.select(sa.literal(1)).select_from(_MARK).where(*_marked_for(for_s)).limit(1)
    return db.scalar(query) is not None


def has_new_days(db: Session) -> bool:
    """Whether a marked day has no counts yet, as after an import: not even old ones."""
    counted = (sa.exists().where(table.day == _MARK.c.day)
               for table in (InteractionRollup, FeedbackRollup))  # fmt: skip
    query = sa.select(sa.literal(1)).select_from(_MARK).where(*map(sa.not_, counted)).limit(1)
    return db.scalar(query) is not None


def refresh_rollups(
    db: Session, *, max_days: int | None = None, for_s: float = 0.0, waits: bool = True
) -> int:
    """Count the days marked for `for_s` seconds or longer, the latest first.

    It is done in the caller's writing transaction, which on PostgreSQL must be READ COMMITTED, as
    it is by default. Returns how many of these days stay marked: those beyond `max_days`, those
    that another transaction is changing, and all where another one counts and nobody `waits`.
    """
    is_sqlite = db.get_bind().dialect.name == "sqlite"
    if is_sqlite or _lock_rebuild(db, waits=waits):
        query = sa.select(_MARK.c.day).where(*_marked_for(for_s)).order_by(_MARK.c.day.desc())
        days = sorted(db.scalars(query.limit(max_days).with_for_update(skip_locked=True)))
        if days and not is_sqlite:
            _renew_statistics(db)
        for at in range(0, len(days), DAYS_A_STATEMENT):
            _rebuild(db, days[at : at + DAYS_A_STATEMENT])
    query = sa.select(sa.func.count()).select_from(_MARK).where(*_marked_for(for_s))
    return db.scalar(query) or 0


def refresh_in_rounds(store: Store, *, for_s: float = 0.0, max_s: float | None = None) -> int:
    """Count the days marked for `for_s` seconds or longer, few a transaction; how many are left.

    With `max_s` nothing is begun after that time, nor while another one counts, and a database that
    is busy is no error: the worker counts the rest.
    """
    until = None if max_s is None else time.monotonic() + max_s
    with store.reading() as db:
        if not has_dirty_days(db, for_s=for_s):
            return 0
    remaining: int | None = None
    while until is None or remaining is None or time.monotonic() < until:
        before = remaining
        try:
            with store.writing() as db:
                remaining = refresh_rollups(
                    db, max_days=DAYS_A_ROUND, for_s=for_s, waits=until is None
                )
        except Unavailable:
            if until is None:
                raise
            return before or 1
        if remaining == 0 or (before is not None and remaining >= before):
            break  # no fewer than before: somebody else is at work on them
    return remaining or 0


@contextmanager
def reading_fresh(
    store: Store, *, for_s: float = 0.0, max_s: float | None = None
) -> Iterator[Session]:
    """A session for reads, after the days marked for `for_s` seconds or longer were counted.

    Writes only where there are such days. With `max_s` the counts may be old where it takes longer.
    """
    refresh_in_rounds(store, for_s=for_s, max_s=max_s)
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


def _marked_for(for_s: float) -> list[sa.ColumnElement[bool]]:
    return [_MARK.c.marked_at <= utcnow() - timedelta(seconds=for_s)] if for_s > 0 else []


def _lock_rebuild(db: Session, *, waits: bool) -> bool:
    """Be the one who counts, on PostgreSQL; False where another one is, and nobody waits."""
    if waits:
        db.execute(sa.select(sa.func.pg_advisory_xact_lock(REBUILD_LOCK)))
        return True
    return bool(db.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(REBUILD_LOCK))))


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
        "AND (c.reltuples < 0 OR s.n_mod_since_analyze > 1000 + 0.2 * c.reltuples"
        # an ANALYZE that was rolled back leaves the count of rows, and nothing else
        " OR (c.reltuples > 0 AND NOT EXISTS (SELECT FROM pg_stats p"
        "     WHERE p.schemaname = s.schemaname AND p.tablename = c.relname)))"
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
