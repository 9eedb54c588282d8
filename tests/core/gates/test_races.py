"""A veto and a promotion at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import GatesFailed
from rlhf_core.gates.service import promote_by_gates
from rlhf_core.gates.vetoes import set_veto
from rlhf_core.registry.service import find_production
from rlhf_core.store.engine import Store
from tests.core.registry.world import make_version


def test_veto_that_is_about_to_be_committed_keeps_a_promotion_waiting_and_refuses_it(
    store: Store,
) -> None:
    with store.writing() as db:
        version = make_version(db)
    is_asked = Event()

    def promote() -> None:
        is_asked.set()
        with store.writing() as db:
            promote_by_gates(db, version.id, actor=SYSTEM, reason="good")

    with ThreadPoolExecutor(1) as pool:
        with store.writing() as db:
            set_veto(db, version.id, actor=SYSTEM, reason="It invents laws.")
            promotion = pool.submit(promote)
            is_asked.wait()
            with pytest.raises(TimeoutError):
                promotion.result(timeout=0.3)  # it cannot go on before the veto is committed
        with pytest.raises(GatesFailed, match="It invents laws"):
            promotion.result()
    with store.reading() as db:
        assert find_production(db) is None
