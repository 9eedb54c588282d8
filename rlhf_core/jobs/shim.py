"""`python -m rlhf_core.jobs.shim GRACE_S COMMAND...`: runs COMMAND and leaves no process behind.

It leads a session of its own and adopts every orphan below it (torchrun starts each rank in its own
session: a signal to a process group misses them). When the worker dies (end of file on stdin) or
asks (SIGTERM), COMMAND gets SIGTERM, a grace, and then every descendant SIGKILL. When the shim
itself is killed, the kernel kills COMMAND.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
EXIT_STOPPED = 128 + signal.SIGTERM
KILL_FOR_S = 3.0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _kill_descendants() -> None:
    """Kill until none is left: one that forks meanwhile is found in the next round."""
    import psutil

    deadline = time.monotonic() + KILL_FOR_S
    while time.monotonic() < deadline:
        alive = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    alive.append(process)
        if not alive:
            return
        time.sleep(0.02)  # not psutil's wait: it would take the exit status from `Popen`


def _wait(process: subprocess.Popen[bytes], wake: int) -> bool:
    """Wait for the process; return True where it was told to stop before it ended."""
    watched = [0, wake]
    while process.poll() is None:
        ready, _, _ = select.select(watched, [], [])
        if 0 in ready and not os.read(0, 4096):
            return True
        if wake in ready and signal.SIGTERM in os.read(wake, 4096):
            return True
    return False


def main(grace_s: float, command: list[str]) -> int:
    """Run the command; return its exit status, 128 + n where signal n ended it."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # the wake-up pipe carries them
    process = subprocess.Popen(  # noqa: S603 - the worker's own command
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    if _wait(process, wake):
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
        _kill_descendants()
        status = process.wait()
        return EXIT_STOPPED if status < 0 else status
    _kill_descendants()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))
