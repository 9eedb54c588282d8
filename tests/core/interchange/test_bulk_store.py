from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_core.clock import new_hex_ids
from rlhf_core.store import bulk
from rlhf_core.store.base import Base
from rlhf_core.store.bulk import BulkStore, insert_rows
from rlhf_core.store.tables import Rater

COLUMNS = ("id", "pseudonym", "rater_kind", "account_id", "is_demo", "created_at")


def raters(start: int, count: int) -> list[tuple[object, ...]]:
    return [
        (own, f"u_{n}", "sme", None, 0, "2026-01-01 00:00:00.000000")
        for n, own in enumerate(new_hex_ids(count), start)
    ]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "bulk.db"


def open_bulk(database: Path) -> BulkStore:
    store = BulkStore(f"sqlite:///{database}")
    Base.metadata.create_all(store.engine)
    return store


@pytest.mark.parametrize("count", [1, 198, 199, 200, 1000])
def test_any_number_of_rows_is_inserted_once_and_in_order(database: Path, count: int) -> None:
    rows = raters(0, count)
    with closing(open_bulk(database)) as store:
        with store.writing() as db:
            insert_rows(db, "raters", COLUMNS, rows)
        with store.reading() as db:
            stored = db.execute(sa.select(Rater.id, Rater.pseudonym).order_by(sa.text("rowid")))
            assert [(own.hex, name) for own, name in stored] == [row[:2] for row in rows]


def test_a_row_that_breaks_a_rule_takes_the_whole_transaction_back(database: Path) -> None:
    rows = raters(0, 600)
    with closing(open_bulk(database)) as store:
        with pytest.raises(sa.exc.IntegrityError), store.writing() as db:
            insert_rows(db, "raters", COLUMNS, [*rows, raters(599, 1)[0]])
        with store.writing() as db:
            assert db.scalar(sa.select(sa.func.count()).select_from(Rater)) == 0
            insert_rows(db, "raters", COLUMNS, rows)
        with store.reading() as db:
            assert db.scalar(sa.select(sa.func.count()).select_from(Rater)) == 600


def test_the_log_begins_anew_in_a_long_import(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "TIDY_EVERY", 2)
    lengths = []
    with closing(open_bulk(database)) as store:
        for n in range(60):
            with store.writing() as db:
                insert_rows(db, "raters", COLUMNS, raters(400 * n, 400))
            if store._tidying is not None:
                store._tidying.result()
            store.tidy()
            lengths.append(database.with_name("bulk.db-wal").stat().st_size)
    assert lengths[-1] == lengths[20], "it kept growing"
    assert not database.with_name("bulk.db-wal").exists()
