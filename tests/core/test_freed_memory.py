"""What keeping freed memory leaves behind."""

import ctypes

import psutil
import pytest
import torch

from rlhf_core.freed_memory import keep_freed_memory


def test_settings_are_put_back_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, int]] = []

    class Library:
        def __init__(self, _: None) -> None: ...

        def mallopt(self, name: int, value: int) -> int:
            calls.append(("mallopt", name, value))
            return 1

        def malloc_trim(self, pad: int) -> int:
            calls.append(("malloc_trim", pad, 0))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr("sys.platform", "linux")

    def fail() -> None:
        with keep_freed_memory():
            assert calls == [("mallopt", -3, 2**25), ("mallopt", -1, 2**29)]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert calls[2:] == [("mallopt", -1, 2**26), ("malloc_trim", 0, 0)]


def test_a_library_without_the_settings_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    with keep_freed_memory():
        assert torch.ones(2**20).sum() == 2**20
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)
    with keep_freed_memory():
        assert torch.ones(2**20).sum() == 2**20


@pytest.mark.skipif("sys.platform != 'linux'", reason="only Linux's C library can be told to")
def test_freed_memory_is_kept_within_and_given_back_at_the_end() -> None:
    process = psutil.Process()
    with keep_freed_memory():
        held = [bytearray(64 * 1024) for _ in range(1024)]  # below what is given back at once
        full = process.memory_info().rss
        del held[:-1]  # the last one lies above the others
        assert full - process.memory_info().rss < 8 * 2**20
    assert full - process.memory_info().rss > 32 * 2**20
    assert len(held) == 1
