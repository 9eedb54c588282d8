"""What was served: one row a request, written in batches by a thread, so that no answer waits."""

import logging
import queue
import threading
import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Unavailable
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import ServedLogEntry

LOGGER = logging.getLogger(__name__)
MAX_WAITING = 10_000
BATCH = 500
BATCH_WAIT_S = 0.25
MAX_REASON_CHARS = 200


class Logbook:
    """Keeps rows of `served_log` in mind and writes them soon. Full or without database it drops.

    `num_dropped` counts the lost rows: a log is no reason to refuse an answer.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
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
        is_fallback: bool = False,
        reason: str | None = None,
        served_at: datetime | None = None,
    ) -> None:
        """Take one request down; returns at once."""
        row = {
            "id": new_id(),
            "endpoint": endpoint,
            "model_version_id": version_id,
            "num_candidates": num_candidates,
            "latency_ms": latency_ms,
            "is_fallback": is_fallback,
            "reason": None if reason is None else reason[:MAX_REASON_CHARS].replace("\0", ""),
            "served_at": served_at or utcnow(),
        }
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            self.num_dropped += 1

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        ended = False
        while not ended:
            rows = [self._waiting.get()]
            # One commit for all that came within a moment.
            while rows[-1] is not None and len(rows) < BATCH:
                try:
                    rows.append(self._waiting.get(timeout=BATCH_WAIT_S))
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
                self._insert([{**row, "model_version_id": None} for row in rows])
        except (Unavailable, sa.exc.SQLAlchemyError) as error:
            self.num_dropped += len(rows)
            LOGGER.warning("%d rows of the served log are lost: %s", len(rows), error)

    def _insert(self, rows: list[dict[str, Any]]) -> None:
        with self._store.writing() as db:
            db.execute(sa.insert(ServedLogEntry), rows)
