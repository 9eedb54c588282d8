"""What was served: one row a request, written in batches by a thread, so that no answer waits."""

import logging
import queue
import threading
import time
import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Unavailable
from rlhf_core.release.assignment import Route, assign, read_running
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import ServedLogEntry
from rlhf_core.store.upsert import dialect_insert

LOGGER = logging.getLogger(__name__)
TABLE = ServedLogEntry.__table__
MAX_WAITING = 10_000
BATCH = 500
BATCH_WAIT_S = 0.25
MAX_REASON_CHARS = 200


class Logbook:
    """Keeps rows of `served_log` in mind and writes them soon. Full or without database it drops.

    `num_dropped` counts the lost rows: a log is no reason to refuse an answer. One request may be
    noted by the inference process and by who had given up waiting for it: with `knows_best` the own
    word replaces the other's, without it the other's stays.
    """

    def __init__(self, store: Store, *, knows_best: bool = False) -> None:
        self._store = store
        self._knows_best = knows_best
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MAX_WAITING)
        self.num_dropped = 0
        self._thread = threading.Thread(target=self._run, name="logbook", daemon=True)
        self._thread.start()

    def note(
        self,
        endpoint: str,
        *,
        num_candidates: int,
        latency_ms: float,
        version_id: uuid.UUID | None = None,
        route: Route | None = None,
        user_pseudonym: str | None = None,
        is_fallback: bool = False,
        is_error: bool = False,
        reason: str | None = None,
        details: dict[str, Any] | None = None,
        served_id: uuid.UUID | None = None,
        served_at: datetime | None = None,
    ) -> None:
        """Take one request down; returns at once."""
        row = {
            "id": served_id or new_id(),
            "endpoint": endpoint,
            "model_version_id": version_id,
            "deployment_id": None if route is None else route.deployment_id,
            "arm": None if route is None else route.arm.value,
            "propensity": None if route is None else route.propensity,
            "user_pseudonym": user_pseudonym,
            "num_candidates": num_candidates,
            "latency_ms": latency_ms,
            "is_fallback": is_fallback,
            "is_error": is_error,
            "details": details,
            "reason": None if reason is None else reason[:MAX_REASON_CHARS].replace("\0", ""),
            "served_at": served_at or utcnow(),
        }
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self.num_dropped += 1

    def find_route(self, model_name: str, key: str | None) -> Route | None:
        """Where a request went whose answer broke off, as far as that can be said afterwards."""
        try:
            with self._store.reading() as db:
                running = read_running(db, model_name)
        except (Unavailable, sa.exc.SQLAlchemyError):
            return None
        return assign(running, key) if running is None or key is not None else None

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        ended = False
        while not ended:
            rows = [self._waiting.get()]
            # One commit for all that come within a moment; no row waits longer, whatever comes.
            until = time.monotonic() + BATCH_WAIT_S
            while rows[-1] is not None and len(rows) < BATCH:
                try:
                    left_s = max(until - time.monotonic(), 0.0)
                    rows.append(self._waiting.get(block=left_s > 0, timeout=left_s or None))
                except queue.Empty:
                    break
            ended = rows[-1] is None
            self._write([row for row in rows if row is not None])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        try:
            try:
                self._insert(rows)
            except sa.exc.IntegrityError:  # a version was removed meanwhile
                gone = {"model_version_id": None, "deployment_id": None}
                self._insert([{**row, **gone} for row in rows])
        except (Unavailable, sa.exc.SQLAlchemyError) as error:
            self.num_dropped += len(rows)
            LOGGER.warning("%d rows of the served log are lost: %s", len(rows), error)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        with self._store.writing() as db:
            insert = dialect_insert(db, TABLE)
            if self._knows_best:
                said = {name: insert.excluded[name] for name in rows[0] if name != "id"}
                insert = insert.on_conflict_do_update(index_elements=["id"], set_=said)
            else:
                insert = insert.on_conflict_do_nothing()
            db.execute(insert, rows)
