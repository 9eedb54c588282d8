"""The shim leaves no process behind, whoever dies first."""

import signal
import subprocess
import sys
from pathlib import Path

from tests.core.jobs.world import ROOT, is_alive, until

SHIM = [sys.executable, "-m", "rlhf_core.jobs.shim", "0.5"]
FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
code = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
if sys.argv[2] == "stay":
    time.sleep(600)
"""


def start(tmp_path: Path, mode: str) -> tuple[subprocess.Popen[bytes], list[int]]:
    pids = tmp_path / "pids"
    command = [*SHIM, sys.executable, "-c", FAMILY, str(pids), mode]
    shim = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, cwd=ROOT)
    until("the family is up", pids.exists)
    return shim, [int(pid) for pid in pids.read_text().split()]


def ends(shim: subprocess.Popen[bytes], pids: list[int]) -> int:
    status = shim.wait(30)
    if shim.stdin:
        shim.stdin.close()
    until("no process is left", lambda: not any(map(is_alive, pids)))
    return status


def test_end_of_stdin_ends_every_descendant(tmp_path: Path) -> None:
    shim, pids = start(tmp_path, "stay")
    assert shim.stdin is not None
    shim.stdin.close()
    assert ends(shim, pids) == 128 + signal.SIGTERM


def test_sigterm_ends_every_descendant(tmp_path: Path) -> None:
    shim, pids = start(tmp_path, "stay")
    shim.send_signal(signal.SIGTERM)
    assert ends(shim, pids) == 128 + signal.SIGTERM


def test_command_that_ends_takes_its_orphans_along(tmp_path: Path) -> None:
    shim, pids = start(tmp_path, "leave")
    assert ends(shim, pids) == 0


def test_command_does_not_outlive_a_killed_shim(tmp_path: Path) -> None:
    shim, (top, orphan) = start(tmp_path, "stay")
    shim.kill()
    assert ends(shim, [top]) == -signal.SIGKILL
    subprocess.run(["kill", "-9", str(orphan)], check=False)


def test_exit_status_and_signal_come_through() -> None:
    for code, status in (("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 11)", 139)):
        command = [*SHIM, sys.executable, "-c", code]
        shim = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT)
        assert ends(shim, []) == status


def test_it_starts_quickly_and_light() -> None:
    code = (
        "import rlhf_core.jobs.shim, sys; print(len({'sqlalchemy', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "0"
