import sqlalchemy as sa

from rlhf_core.clock import new_id
from rlhf_core.serving.logbook import Logbook
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import ServedLogEntry
from tests.core.registry.world import make_version


def test_all_that_was_noted_is_written_at_the_end(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db)
    logbook = Logbook(store)
    for number in range(700):
        logbook.note("rerank", num_candidates=number, latency_ms=1.5, version_id=version.id)
    logbook.note("score", num_candidates=2, latency_ms=3, is_fallback=True, reason="late " * 100)
    logbook.close()
    with store.reading() as db:
        rows = db.scalars(sa.select(ServedLogEntry)).all()
    assert len(rows) == 701
    assert logbook.num_dropped == 0
    (fallback,) = [row for row in rows if row.is_fallback]
    assert (fallback.endpoint, fallback.model_version_id) == ("score", None)
    assert fallback.reason == ("late " * 100)[:200]


def test_a_version_that_is_gone_loses_no_row(store: Store) -> None:
    logbook = Logbook(store)
    logbook.note("rerank", num_candidates=1, latency_ms=1, version_id=new_id())
    logbook.close()
    with store.reading() as db:
        assert db.scalars(sa.select(ServedLogEntry.model_version_id)).all() == [None]


def test_without_a_database_rows_are_dropped_and_nobody_waits() -> None:
    lost = Store("postgresql+psycopg://nobody@/none?host=/nowhere")
    logbook = Logbook(lost)
    logbook.note("rerank", num_candidates=1, latency_ms=1)
    logbook.close()
    assert logbook.num_dropped == 1
    lost.close()
