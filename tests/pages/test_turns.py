"""Few pages are drawn at a time, and none waits for a slow one."""

import threading
from contextlib import ExitStack

import pytest

from pages._ui import turns
from pages._ui.turns import AT_ONCE, turn

LONG_S = 60.0


def num_free() -> int:
    """How many turns are free now."""
    with ExitStack() as stack:
        found = 0
        while turns._turns.acquire(blocking=False):
            stack.callback(turns._turns.release)
            found += 1
        return found


def test_one_more_waits_until_a_turn_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", LONG_S)
    order: list[str] = []

    def draw() -> None:
        with turn("rate"):
            order.append("drawn")

    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            stack.enter_context(turn("rate"))
        waiting = threading.Thread(target=draw)
        waiting.start()
        waiting.join(0.05)
        order.append("ended")
    waiting.join()
    assert order == ["ended", "drawn"]


def test_pages_that_take_their_time_hold_nobody_up() -> None:
    with ExitStack() as stack:
        for _ in range(2 * AT_ONCE):
            stack.enter_context(turn("rate"))
        assert num_free() == 0
    assert num_free() == AT_ONCE


def test_a_page_that_waits_for_a_model_takes_no_turn() -> None:
    with turn("chat"):
        assert num_free() == AT_ONCE


def test_a_page_that_fails_gives_its_turn_back() -> None:
    with pytest.raises(ValueError, match="broken"), turn("rate"):
        raise ValueError("broken")
    assert num_free() == AT_ONCE
