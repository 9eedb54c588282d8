"""The processes that `server.py` keeps running beside itself, and that end when it ends.

A child reads its stdin: when this process dies, however it dies, the pipe closes and the child
ends itself. So not even `kill -9` leaves an orphan.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
HEALTHY_AFTER_S = 60.0


class Children:
    """Starts the commands (by name), restarts one that ends, and ends them all."""

    def __init__(
        self, commands: Mapping[str, Sequence[str]], *, work_dir: Path, grace_s: float
    ) -> None:
        self._commands = commands
        self._work_dir = work_dir
        self._grace_s = grace_s
        self._stopping = threading.Event()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start each command in the background."""
        for name, command in self._commands.items():
            thread = threading.Thread(
                target=self._keep_running, args=(name, command), name=f"child-{name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ask all to end; after the grace kill those that are left, with all they started."""
        self._stopping.set()
        with self._lock:
            left = list(self._running.values())
        for process in left:
            _close_stdin(process)
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + self._grace_s
        for process in left:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("A child process (%d) did not end in time: killed.", process.pid)
                _kill_group(process)
        for thread in self._threads:
            thread.join(1.0)

    def pids(self) -> dict[str, int]:
        """The process ids of the children that run now."""
        with self._lock:
            return {name: process.pid for name, process in self._running.items()}

    def _keep_running(self, name: str, command: Sequence[str]) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                ended = self._run_once(name, command)
            except OSError as error:  # no memory or no file handle now: there may be one later
                ended = f"could not start ({error})"
            if self._stopping.is_set():
                return
            if time.monotonic() - started > HEALTHY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            logger.warning("The %s process %s; starting it again in %g s.", name, ended, pause_s)
            if self._stopping.wait(pause_s):
                return
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _run_once(self, name: str, command: Sequence[str]) -> str:
        """Run the command until it ends; say how it did."""
        with self._lock:
            if self._stopping.is_set():
                return "was not started"
            # a group of its own: Ctrl-C in the terminal is for us, we end the child in order
            process = subprocess.Popen(  # noqa: S603 - our own command
                command, stdin=subprocess.PIPE, cwd=self._work_dir, process_group=0
            )
            self._running[name] = process
        code = process.wait()
        with self._lock:
            self._running.pop(name, None)
        _close_stdin(process)
        if not self._stopping.is_set():
            _kill_group(process)  # what it may have left behind
        return f"ended (code {code})"


def core_command(*arguments: str) -> list[str]:
    """`python -m rlhf_core ...` with this Python."""
    return [sys.executable, "-m", "rlhf_core", *arguments]


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            logger.debug("The pipe to %d was closed already.", process.pid)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("Nothing is left of %d.", process.pid)
