import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Account, StoreFact
from rlhf_core.store.upsert import insert_if_absent
from rlhf_core.vocabulary import Role
from tests.databases import only_sqlite
from tests.postgres_databases import run_on_server


def run_at_once(count: int, work: Callable[[int], None]) -> list[Exception]:
    failures: list[Exception] = []
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except Exception as error:  # noqa: BLE001 (any failure is the finding)
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_read_then_write_from_eight_threads_is_never_locked_and_loses_nothing(store: Store) -> None:
    with store.writing() as db:
        db.add(StoreFact(name="count", value="0"))

    def add(_: int) -> None:
        for _ in range(25):
            with store.writing() as db:
                fact = db.get(StoreFact, "count", with_for_update=True)
                assert fact is not None
                fact.value = str(int(fact.value) + 1)

    assert run_at_once(8, add) == []
    with store.reading() as db:
        assert db.get_one(StoreFact, "count").value == "200"


def test_a_raising_block_leaves_nothing_behind(store: Store) -> None:
    def write_half() -> None:
        with store.writing() as db:
            db.add(StoreFact(name="half", value="x"))
            db.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    with store.reading() as db:
        assert db.get(StoreFact, "half") is None


def test_moments_come_back_in_utc_whatever_zone_they_had(store: Store) -> None:
    moment = datetime(2026, 3, 29, 3, 30, tzinfo=timezone(timedelta(hours=2)))
    with store.writing() as db:
        db.add(Account(name="zone", role=Role.RATER, created_at=moment))
    with store.reading() as db:
        found = db.scalars(sa.select(Account).where(Account.name == "zone")).one()
        assert found.created_at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
        assert found.created_at.tzinfo is UTC


def test_a_moment_without_a_zone_is_refused(store: Store) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 (that is the point)
    with pytest.raises(sa.exc.StatementError, match="time zone"), store.writing() as db:
        db.add(Account(name="naive", role=Role.RATER, created_at=naive))


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO accounts (id, name, role, created_at) "
        "VALUES ('00000000000070008000000000000001', 'x', 'king', '2026-01-01')",
        "INSERT INTO tokens (id, account_id, kind, token_hash, created_at) VALUES "
        "('00000000000070008000000000000002', '00000000000070008000000000000009', 'api', 'h', "
        "'2026-01-01')",
    ],
    ids=["value outside the closed set", "reference to nothing"],
)
def test_the_database_itself_refuses_wrong_rows(store: Store, statement: str) -> None:
    with pytest.raises(sa.exc.IntegrityError), store.writing() as db:
        db.execute(sa.text(statement))


def test_insert_if_absent_from_eight_threads_inserts_once(store: Store) -> None:
    inserted: list[int] = []

    def insert(number: int) -> None:
        with store.writing() as db:
            inserted.append(
                insert_if_absent(db, StoreFact, [{"name": "one", "value": str(number)}])
            )

    assert run_at_once(8, insert) == []
    assert sum(inserted) == 1


def test_a_lost_database_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "folder.db"
    folder.mkdir()
    with (
        pytest.raises(Unavailable, match="does not answer"),
        Store(f"sqlite:///{folder}").reading() as db,
    ):
        db.execute(sa.text("SELECT 1"))


LAST_MOMENT = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)


def read_back(store: Store, moment: datetime) -> datetime:
    with store.writing() as db:
        db.add(Account(name="late", role=Role.RATER, created_at=moment))
    with store.reading() as db:
        return db.scalars(sa.select(Account.created_at).where(Account.name == "late")).one()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_last_moment_of_9999_is_read_back_whatever_zone_the_database_has(
    database_url: str, postgres_socket: str
) -> None:
    name = sa.make_url(database_url).database
    run_on_server(postgres_socket, f"ALTER DATABASE {name} SET timezone TO 'Europe/Berlin'")
    store = Store(database_url)
    assert read_back(store, LAST_MOMENT) == LAST_MOMENT
    store.close()


@pytest.mark.postgres
@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_options_and_timeout_of_the_url_stand_beside_ours(database_url: str) -> None:
    def show(store: Store, name: str) -> str:
        with store.reading() as db:
            return str(db.scalar(sa.text(f"SHOW {name}")))

    given = Store(f"{database_url}&options=-c%20statement_timeout%3D4321&connect_timeout=7")
    assert (show(given, "statement_timeout"), show(given, "timezone")) == ("4321ms", "UTC")
    with given.engine.connect() as connection:
        parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    assert parameters["connect_timeout"] == "7"
    given.close()


def hold_connections(store: Store, count: int) -> list[Exception]:
    """Failures of `count` threads that each hold a connection until all have one."""
    all_have_one = threading.Barrier(count)

    def hold(_: int) -> None:
        with store.reading() as db:
            db.execute(sa.text("SELECT 1"))
            all_have_one.wait(timeout=60)

    return run_at_once(count, hold)


@only_sqlite
def test_40_threads_read_sqlite_at_once_and_none_waits_for_a_connection(store: Store) -> None:
    assert hold_connections(store, 40) == []


def test_exhausted_pool_is_a_sentence(store: Store) -> None:
    pool = store.engine.pool
    assert isinstance(pool, sa.QueuePool)
    pool._timeout = 0.1
    pool._max_overflow = 0
    held = [store.engine.connect() for _ in range(pool.size())]
    with pytest.raises(Unavailable, match="in use; try again"), store.reading() as db:
        db.execute(sa.text("SELECT 1"))
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    "url", ["mysql://kim:geheim@db/rlhf", "postgresql+asyncpg://kim:geheim@db/x", "geheim"]
)
def test_other_database_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"SQLite and PostgreSQL|no URL") as caught:
        Store(url)
    assert "geheim" not in str(caught.value)


def test_database_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=f"{tmp_path}/file/data of the database"):
        Store(f"sqlite:///{tmp_path}/file/data/rlhf.db")
