import time

import pytest
import sqlalchemy as sa

from rlhf_core.clock import new_id
from rlhf_core.serving import logbook as logbook_module
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


def test_rows_that_come_one_after_the_other_do_not_wait_for_a_pause(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook_module, "BATCH", 10**6)
    logbook = Logbook(store)
    deadline = time.monotonic() + 20
    num = 0
    while num == 0 and time.monotonic() < deadline:
        logbook.note("rerank", num_candidates=1, latency_ms=1)
        time.sleep(0.02)
        with store.reading() as db:
            num = db.scalar(sa.select(sa.func.count()).select_from(ServedLogEntry)) or 0
    logbook.close()
    assert num > 0


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_of_two_words_on_a_request_the_one_that_knows_best_stays(
    store: Store, order: tuple[bool, bool]
) -> None:
    served_id = new_id()
    for knows_best in order:
        logbook = Logbook(store, knows_best=knows_best)
        latency_ms = 1 if knows_best else 2
        logbook.note("rerank", num_candidates=1, latency_ms=latency_ms, served_id=served_id)
        logbook.close()
    with store.reading() as db:
        assert db.scalars(sa.select(ServedLogEntry.latency_ms)).all() == [1]
