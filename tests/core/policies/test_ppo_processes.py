"""Several processes: started by accelerate, and ended together when one of them is killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import json, os, sys
from pathlib import Path
import torch
from rlhf_core.errors import TrainingFailed
from tests.core.policies.tiny_policies import count_of, train
torch.set_num_threads(1)
base, folder, victim, calls = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], [0]
def reward(prompts, completions):
    calls[0] += 1
    if calls[0] == 5 and os.environ["RANK"] == victim:
        os.kill(os.getpid(), 9)
    return count_of("d")(prompts, completions)
try:
    report = train(base, folder, reward, held_out=count_of("e"), sample_every=0, updates=6)
except TrainingFailed as error:
    raise SystemExit(f"SENTENCE {error}")
if os.environ["RANK"] == "0":
    print("HISTORY", json.dumps(report.details["history"]))
"""
ACCELERATE = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
]  # fmt: skip


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "run_of_two.py"
    path.write_text(SCRIPT)
    return path


def launch(script: Path, base: Path, folder: Path, victim: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ACCELERATE, "--main_process_port", str(free_port()), str(script), str(base),
         str(folder), victim],
        env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip


def left_over(folder: Path) -> list[int]:
    """Processes that have the run's folder among their arguments."""
    return [
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if str(folder) in (one.info["cmdline"] or [])
    ]


def history_of(output: str) -> list[dict[str, float]]:
    (line,) = [line for line in output.splitlines() if line.startswith("HISTORY ")]
    found: list[dict[str, float]] = json.loads(line.removeprefix("HISTORY "))
    return found


@pytest.mark.slow
def test_under_accelerate_a_killed_process_ends_the_run_which_then_goes_on(
    script: Path, tiny: Path, tmp_path: Path
) -> None:
    killed = launch(script, tiny, tmp_path / "killed", victim="1")
    assert killed.returncode != 0
    assert "HISTORY" not in killed.stdout
    assert not left_over(tmp_path / "killed")
    assert list((tmp_path / "killed" / "work").glob("step-*"))

    again = launch(script, tiny, tmp_path / "killed", victim="")
    assert again.returncode == 0, again.stderr[-3000:]
    whole = launch(script, tiny, tmp_path / "whole", victim="")
    assert history_of(again.stdout) == history_of(whole.stdout)
    weights = [
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("killed", "whole")
    ]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["0", "1"])
def test_without_a_launcher_the_other_process_ends_with_a_sentence(
    victim: str, script: Path, tiny: Path, tmp_path: Path
) -> None:
    port = str(free_port())
    runs = [
        subprocess.Popen(
            [sys.executable, str(script), str(tiny), str(tmp_path / "run"), victim],
            env=environment(
                RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", LOCAL_WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
            ),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    try:
        deadline = time.monotonic() + 200
        while any(run.poll() is None for run in runs) and time.monotonic() < deadline:
            time.sleep(0.1)
        other = runs[1 - int(victim)]
        assert runs[int(victim)].returncode == -signal.SIGKILL
        assert other.returncode == 1
        said = other.communicate()[1]
        assert "SENTENCE Another of the 2 processes ended" in said, said[-2000:]
    finally:
        for run in runs:
            if run.poll() is None:
                run.kill()
            run.communicate()
