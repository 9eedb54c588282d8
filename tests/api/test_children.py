"""Child processes are restarted, ended, and never orphaned."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rlhf_core.api import children as children_module
from rlhf_core.api.children import Children

WAITS_FOR_STDIN = "import sys; sys.stdin.read()"
IGNORES_ALL = textwrap.dedent(
    """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)
    """
)


def until(fact: Callable[[], object], seconds: float = 30.0) -> None:
    """Poll a fact about other processes; nothing else tells when it comes true."""
    import time

    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Children]]:
    started = []

    def start_children(code: str, grace_s: float = 5.0) -> Children:
        children = Children(
            {"one": [sys.executable, "-c", code]}, work_dir=tmp_path, grace_s=grace_s
        )
        started.append(children)
        children.start()
        until(children.pids)
        return children

    yield start_children
    for children in started:
        children.stop()


def test_child_that_dies_is_started_again(start: Callable[..., Children]) -> None:
    children = start(WAITS_FOR_STDIN)
    first = children.pids()["one"]
    os.kill(first, 9)
    until(lambda: children.pids().get("one") not in (None, first))
    assert not is_alive(first)


def test_child_that_cannot_be_started_now_is_started_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(children_module, "FIRST_PAUSE_S", 0.05)
    program = tmp_path / "program"
    children = Children({"one": [str(program)]}, work_dir=tmp_path, grace_s=5.0)
    children.start()
    try:
        until(lambda: "one process could not start" in caplog.text)
        assert not children.pids()
        program.symlink_to("/bin/cat")
        until(children.pids)
    finally:
        children.stop()


def test_stop_ends_them_and_starts_none_again(start: Callable[..., Children]) -> None:
    children = start(WAITS_FOR_STDIN)
    pid = children.pids()["one"]
    children.stop()
    assert not is_alive(pid)
    assert not children.pids()


def test_child_that_will_not_end_is_killed_with_all_it_started(
    start: Callable[..., Children],
) -> None:
    children = start(IGNORES_ALL, grace_s=0.3)
    child = psutil.Process(children.pids()["one"])
    until(child.children)
    family = [child.pid, *(p.pid for p in child.children(recursive=True))]
    children.stop()
    until(lambda: not any(is_alive(pid) for pid in family))


def test_killed_parent_leaves_no_child(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import pathlib, sys, time
        from rlhf_core.api.children import Children
        children = Children(
            {{"one": [sys.executable, "-c", {WAITS_FOR_STDIN!r}],
              "two": [sys.executable, "-c", {WAITS_FOR_STDIN!r}]}},
            work_dir=pathlib.Path("."), grace_s=1,
        )
        children.start()
        while len(children.pids()) < 2: time.sleep(0.01)
        print(*children.pids().values(), flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    until(lambda: not any(is_alive(pid) for pid in pids))
