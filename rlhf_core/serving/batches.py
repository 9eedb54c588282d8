"""Turns of conversations, answered together by one thread while there are any."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rlhf_core.errors import Unavailable

if TYPE_CHECKING:
    from rlhf_core.policies.chat import Turn

LOGGER = logging.getLogger(__name__)
MAX_TOGETHER = 32
MAX_WAITING = 256

Finished = Callable[[Exception | None], None]


class Batcher:
    """Answers what waits in batches: who comes meanwhile goes with the next one.

    `answer` finishes all turns that it is given. The thread lives while there is work.
    """

    def __init__(self, answer: "Callable[[Sequence[Turn]], None]") -> None:
        self._answer = answer
        self._waiting: deque[tuple[Turn, Finished]] = deque()
        self._lock = threading.Lock()
        self._is_running = False

    def submit(self, turn: "Turn", finished: Finished) -> None:
        """Take a turn; `finished` is called from the thread, with what went wrong or None.

        Raises Unavailable where too many wait already.
        """
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                raise Unavailable(f"{MAX_WAITING} answers wait already; try again in a moment.")
            self._waiting.append((turn, finished))
            if self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name="answers", daemon=True).start()

    def _run(self) -> None:
        while batch := self._take():
            error: Exception | None = None
            try:
                self._answer([turn for turn, _ in batch])
            except Exception as failure:
                LOGGER.exception("a batch of %d answers failed", len(batch))
                error = failure
            for _, finished in batch:
                finished(error)

    def _take(self) -> "list[tuple[Turn, Finished]]":
        with self._lock:
            batch: list[tuple[Turn, Finished]] = []
            while self._waiting and len(batch) < MAX_TOGETHER:
                turn, finished = self._waiting.popleft()
                if turn.is_unwanted():
                    finished(None)
                else:
                    batch.append((turn, finished))
            self._is_running = bool(batch)
            return batch
