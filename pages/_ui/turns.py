"""Pages are drawn few at a time, first come first served.

The threads of one Python process share one processor: drawn all at once, each page is done when the
last is; one after the other, half of them are done in half the time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

AT_ONCE = 3  # so that one is drawn while others wait for the database
PATIENCE_S = 0.25  # where pages take longer than this, none waits for them

WAITING = frozenset({"chat"})
"""Pages that wait for a model to speak: for minutes, with nothing to do for this process."""

_turns = threading.BoundedSemaphore(AT_ONCE)


@contextmanager
def turn(page: str) -> Iterator[None]:
    """Wait for a turn to draw `page` (its path), but never long; within, it is this thread's."""
    is_mine = page not in WAITING and _turns.acquire(timeout=PATIENCE_S)
    try:
        yield
    finally:
        if is_mine:
            _turns.release()
