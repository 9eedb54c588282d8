"""A worker looks at what runs every few seconds."""

import threading
import time

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.jobs import release_watch
from rlhf_core.release.service import get_deployment
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Arm
from tests.core.release.live_world import serve, start_new
from tests.databases import only_sqlite


@only_sqlite
def test_worker_takes_back_what_does_harm_soon_after_the_ratings(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_watch, "EVERY_S", 0.05)
    made = start_new(store)
    is_stopping = threading.Event()
    watch = threading.Thread(target=release_watch.watch_releases, args=(store, is_stopping))
    watch.start()
    try:
        with store.writing() as db:
            serve(db, made, Arm.CONTROL, [1] * 100)
            serve(db, made, Arm.TREATMENT, [-1] * 100)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with store.reading() as db:
                if not get_deployment(db, made.id, actor=SYSTEM).is_running:
                    break
            time.sleep(0.05)
        else:
            pytest.fail("it still gets traffic")
    finally:
        is_stopping.set()
        watch.join(10)
    assert not watch.is_alive()


@pytest.mark.parametrize(("took_s", "rest_s"), [(0.01, 2.0), (0.5, 5.0), (30.0, 15.0)])
def test_a_slow_look_does_not_keep_the_next_one_away_for_long(took_s: float, rest_s: float) -> None:
    assert release_watch.find_rest_s(took_s) == rest_s
