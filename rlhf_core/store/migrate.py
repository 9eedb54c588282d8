"""Bringing the database's schema to the code's, and refusing to run where the two differ."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from rlhf_core.config import SOURCE_ROOT
from rlhf_core.errors import Conflict, InvalidInput, Unavailable
from rlhf_core.store.engine import Store, translate_outage

ADVISORY_LOCK = 0x524C4846  # any constant of our own: "RLHF"
LOCK_TIMEOUT_S = 600


def upgrade(store: Store, revision: str = "head") -> str:
    """Migrate up, also the job engine's tables; return the revision. Safe to run many at once."""
    with _one_at_a_time(store), translate_outage():
        _refuse_newer_schema(store)
        _run(store, "upgrade", revision)
        _upgrade_job_engine(store)
    return current_revision(store) or ""


def downgrade(store: Store, revision: str) -> str:
    """Migrate down to `revision` (`base` empties the database); return where it stands.

    Raises InvalidInput where there is no such revision below the database's.
    """
    with _one_at_a_time(store), translate_outage():
        _run(store, "downgrade", revision)
    return current_revision(store) or ""


def check(store: Store) -> str:
    """Return the revision if it is the code's; raise Conflict with what to do if it is not."""
    with translate_outage():
        current = current_revision(store)
    head = _scripts().get_current_head()
    if current == head:
        return current or ""
    _refuse_newer_schema(store)
    raise Conflict(
        f"The database has schema {current or 'none'}, this code needs {head}: "
        "run `python -m rlhf_core db upgrade`."
    )


def current_revision(store: Store) -> str | None:
    """The schema revision that the database stands at; None on an empty one."""
    with store.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer_schema(store: Store) -> None:
    current = current_revision(store)
    known = {script.revision for script in _scripts().walk_revisions()}
    if current is not None and current not in known:
        raise Conflict(
            f"The database has schema {current}, which this code does not know: "
            "it is newer; update the code."
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(SOURCE_ROOT / "migrations"))
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _run(store: Store, direction: str, revision: str) -> None:
    config = _config()
    with store.engine.connect() as connection:
        if store.is_sqlite:
            # A table rewrite drops the old table: with foreign keys on, that deletes the children.
            # Inside a transaction the pragma does nothing, and our connections open one at once.
            connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
        config.attributes["connection"] = connection
        try:
            getattr(command, direction)(config, revision)
            connection.commit()
            broken = 0
            if store.is_sqlite:
                check_all = connection.exec_driver_sql("PRAGMA foreign_key_check")
                broken = len(check_all.fetchall())
        except CommandError as error:
            known = ", ".join(script.revision for script in _scripts().walk_revisions())
            raise InvalidInput(
                f"Cannot {direction} to {revision!r} ({error}); there are {known} and base."
            ) from error
        finally:
            connection.rollback()
            if store.is_sqlite:
                connection.invalidate()  # its foreign_keys pragma is off: never hand it out again
        if broken:
            raise Conflict(f"The migration broke {broken} references; restore a backup.")


def _upgrade_job_engine(store: Store) -> None:
    from dbos import run_dbos_database_migrations

    run_dbos_database_migrations(system_database_url=store.url)


@contextmanager
def _one_at_a_time(store: Store) -> Iterator[None]:
    if not store.is_sqlite:
        with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Polled: a session waiting inside pg_advisory_lock() holds a snapshot, for which the
            # CREATE INDEX CONCURRENTLY of the one that has the lock would wait in turn, for ever.
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(ADVISORY_LOCK))):
                if time.monotonic() > deadline:
                    raise Unavailable("Another upgrade holds the database for 10 minutes already.")
                time.sleep(0.1)
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(ADVISORY_LOCK)))
        return
    path = Path(store.engine.url.database or "")
    try:
        handle = path.with_name(path.name + ".migrating").open("w")
    except OSError as error:
        raise Unavailable(f"Cannot write beside the database {path}: {error.strerror}.") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
