"""Turns that are answered together: each is told once, and one that breaks breaks no other."""

import threading
from collections.abc import Sequence

import pytest

from rlhf_core.errors import Unavailable
from rlhf_core.policies.chat import Turn
from rlhf_core.serving import batches
from rlhf_core.serving.batches import Batcher

BAD = 7


def submit_all(batcher: Batcher, turns: Sequence[Turn]) -> list[Exception | None]:
    """What each was told, in their order, once all were."""
    told: list[list[Exception | None]] = [[] for _ in turns]
    done = [threading.Event() for _ in turns]

    def teller(place: int) -> batches.Finished:
        def tell(error: Exception | None) -> None:
            told[place].append(error)
            done[place].set()

        return tell

    for place, turn in enumerate(turns):
        batcher.submit(turn, teller(place))
    assert all(each.wait(20) for each in done)
    assert all(len(each) == 1 for each in told)
    return [each[0] for each in told]


def answer(turns: Sequence[Turn]) -> None:
    if any(BAD in turn.ids for turn in turns):
        raise ZeroDivisionError("a bad turn")
    for turn in turns:
        turn.num_tokens, turn.finish_reason = 1, "stop"
        turn.ended()


def test_one_that_breaks_breaks_no_other() -> None:
    turns = [Turn([1], 4), Turn([BAD], 4), Turn([2], 4)]
    first, bad, last = submit_all(Batcher(answer), turns)
    assert (first, last) == (None, None)
    assert isinstance(bad, ZeroDivisionError)


def test_a_batch_holds_no_more_tokens_than_there_is_memory_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def count(turns: Sequence[Turn]) -> None:
        gate.wait(20)
        sizes.append(len(turns))
        answer(turns)

    monkeypatch.setattr(batches, "MAX_TOKENS_TOGETHER", 30)
    batcher = Batcher(count)
    threading.Timer(0.2, gate.set).start()
    submit_all(batcher, [Turn([1] * 5, 5) for _ in range(7)])
    assert max(sizes) <= 3
    assert sum(sizes) == 7


def test_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_WAITING", 1)
    gate, started = threading.Event(), threading.Event()

    def wait(turns: Sequence[Turn]) -> None:
        started.set()
        gate.wait(20)
        answer(turns)

    batcher = Batcher(wait)
    batcher.submit(Turn([1], 4), lambda _error: None)
    assert started.wait(20)
    batcher.submit(Turn([1], 4), lambda _error: None)
    with pytest.raises(Unavailable, match="1 answers wait already"):
        batcher.submit(Turn([1], 4), lambda _error: None)
    gate.set()
