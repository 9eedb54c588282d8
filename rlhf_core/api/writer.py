"""Writes of the API: each is durable before it is answered.

On SQLite all go through one thread, which commits those that wait together (group commit): one
flush to the disk serves many requests, and no request polls for the write lock. Each has a
savepoint, so that one that fails takes nothing of the others with it. PostgreSQL does this itself.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from rlhf_core.store.engine import Store

MAX_TOGETHER = 64

T = TypeVar("T")
Work = Callable[[Session], Any]


class Writer:
    """Runs `work(db)` in a transaction that is committed when `run` returns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Work, Future[Any]]] = []
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="api-writer")

    async def run(self, work: Callable[[Session], T]) -> T:
        """Return what `work` returns, after the commit; raise what it raises, with nothing kept."""
        if not self._store.is_sqlite:
            return await run_in_threadpool(self._run_alone, work)
        future: Future[T] = Future()
        with self._lock:
            self._waiting.append((work, future))
        self._thread.submit(self._run_waiting)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._thread.shutdown()

    def _run_alone(self, work: Work) -> Any:
        with self._store.writing() as db:
            return work(db)

    def _run_waiting(self) -> None:
        with self._lock:
            batch = self._waiting[:MAX_TOGETHER]
            del self._waiting[:MAX_TOGETHER]
        batch = [item for item in batch if item[1].set_running_or_notify_cancel()]
        if not batch:
            return  # an earlier call took them along
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with self._store.writing() as db:
                if len(batch) == 1:  # alone: the transaction is its savepoint
                    outcomes.append((batch[0][0](db), None))
                else:
                    outcomes += [_run_inside(db, work) for work, _ in batch]
        except BaseException as error:  # noqa: BLE001 - handed to those who wait
            outcomes = [(None, error)] * len(batch)
        for (_, future), (result, failure) in zip(batch, outcomes, strict=True):
            if failure is None:
                future.set_result(result)
            else:
                future.set_exception(failure)


def _run_inside(db: Session, work: Work) -> tuple[Any, BaseException | None]:
    try:
        with db.begin_nested():
            return work(db), None
    except sa.exc.OperationalError:
        raise  # the disk or the lock, not this request: nothing of the batch can be trusted
    except Exception as error:  # noqa: BLE001 - handed to the one who waits
        return None, error
