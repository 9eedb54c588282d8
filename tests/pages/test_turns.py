"""Few pages are drawn at a time, and none waits for a slow one."""

import threading
import time
from contextlib import ExitStack

import pytest

from pages._ui.turns import AT_ONCE, PATIENCE_S, turn


def test_one_more_waits_until_a_turn_ends() -> None:
    order: list[str] = []

    def draw() -> None:
        with turn():
            order.append("drawn")

    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            stack.enter_context(turn())
        waiting = threading.Thread(target=draw)
        waiting.start()
        waiting.join(PATIENCE_S / 5)
        assert waiting.is_alive()
        order.append("ended")
    waiting.join()
    assert order == ["ended", "drawn"]


def test_nobody_waits_long_for_pages_that_take_their_time() -> None:
    with ExitStack() as stack:
        for _ in range(2 * AT_ONCE):
            stack.enter_context(turn())
        began = time.monotonic()
        with turn():
            assert time.monotonic() - began >= PATIENCE_S / 2


def test_a_page_that_fails_gives_its_turn_back() -> None:
    for _ in range(3 * AT_ONCE):
        with pytest.raises(ValueError, match="broken"), turn():
            raise ValueError("broken")
    began = time.monotonic()
    with turn():
        assert time.monotonic() - began < PATIENCE_S
