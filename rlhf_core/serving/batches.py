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
MAX_TOKENS_TOGETHER = 65_536
"""Of a batch, padding included: memory is set aside for all of them."""
MAX_WAITING = 256

Finished = Callable[[Exception | None], None]


class Batcher:
    """Answers what waits in batches: who comes meanwhile goes with the next one.

    `answer` ends all turns that it is given. The thread lives while there is work.
    """

    def __init__(self, answer: "Callable[[Sequence[Turn]], None]") -> None:
        self._answer = answer
        self._waiting: deque[tuple[Turn, Finished]] = deque()
        self._lock = threading.Lock()
        self._is_running = False

    def submit(self, turn: "Turn", finished: Finished) -> None:
        """Take a turn; `finished` is called once from the thread, with what went wrong or None.

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
            turns = [turn for turn, _ in batch]
            tellers = [_once(finished) for _, finished in batch]
            for turn, tell in zip(turns, tellers, strict=True):
                turn.ended = _without_error(tell)
            failure = self._try(turns)
            for turn, tell in zip(turns, tellers, strict=True):
                own = failure
                if failure is not None and len(turns) > 1 and not turn.num_tokens:
                    own = self._try([turn])  # one request must not break the others
                tell(own)  # what has ended was told before

    def _try(self, turns: "Sequence[Turn]") -> Exception | None:
        """Answer the turns; what went wrong."""
        try:
            self._answer(turns)
        except Exception as error:
            LOGGER.exception("%d answers failed", len(turns))
            return error
        return None

    def _take(self) -> "list[tuple[Turn, Finished]]":
        with self._lock:
            batch: list[tuple[Turn, Finished]] = []
            longest = 0
            while self._waiting and len(batch) < MAX_TOGETHER:
                turn, finished = self._waiting[0]
                longest = max(longest, len(turn.ids) + turn.max_tokens)
                if batch and longest * (len(batch) + 1) > MAX_TOKENS_TOGETHER:
                    break
                self._waiting.popleft()
                if turn.is_unwanted():
                    finished(None)
                else:
                    batch.append((turn, finished))
            self._is_running = bool(batch)
            return batch


def _once(finished: Finished) -> Finished:
    """`finished`, but for all calls after the first."""
    is_told = False

    def tell(error: Exception | None) -> None:
        nonlocal is_told
        if not is_told:
            is_told = True
            finished(error)

    return tell


def _without_error(tell: Finished) -> Callable[[], None]:
    return lambda: tell(None)
