"""A run that is killed, stopped, or finds its checkpoint damaged ends as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.errors import TrainingFailed
from tests.core.policies.tiny_policies import Watcher, count_of, train

ROOT = Path(__file__).resolve().parents[3]
OPTIONS: dict[str, Any] = {
    "updates": 6, "num_mini_batches": 2, "kl_target": 0.5, "kl_horizon": 32, "schedule": "linear",
}  # fmt: skip


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def newest(folder: Path) -> Path:
    return max((folder / "work").glob("step-*"))


def flip_a_bit(path: Path) -> None:
    file = path / "optimizer_exp_avg.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose_the_optimizer(path: Path) -> None:
    (path / "optimizer_exp_avg_sq.safetensors").unlink()


def leave(path: Path) -> None:
    """Do no damage."""


@pytest.mark.parametrize(
    ("damage", "update", "options"),
    [
        (leave, 3, {}),
        (flip_a_bit, 2, {}),
        (lose_the_optimizer, 2, {}),
        (leave, 3, {"lora_rank": 2}),
        (leave, 3, {"critic": "separate", "center_rewards": False}),
        (leave, 3, {"precision": "bf16"}),
    ],
)
def test_a_stopped_run_resumes_with_the_same_result(
    damage: Callable[[Path], None],
    update: int,
    options: dict[str, Any],
    tiny: Path,
    tmp_path: Path,
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    whole = train(tiny, once, count_of("d"), **OPTIONS | options)
    with pytest.raises(TrainingFailed, match="Stopped on request after update 3 of 6"):
        train(tiny, twice, count_of("d"), tracker=Watcher(3), **OPTIONS | options)
    damage(newest(twice))
    tracker = Watcher()
    report = train(tiny, twice, count_of("d"), tracker=tracker, **OPTIONS | options)
    assert f"Resumed from the checkpoint of update {update}." in tracker.lines
    assert report.details["history"] == whole.details["history"]
    assert report.details["samples"] == whole.details["samples"]
    assert report.metrics == whole.metrics
    assert weights(once) == weights(twice)


def test_a_checkpoint_of_other_prompts_or_parameters_is_not_used(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="Stopped"):
        train(tiny, tmp_path, count_of("d"), tracker=Watcher(2), seed=5)
    tracker = Watcher()
    train(tiny, tmp_path, count_of("d"), tracker=tracker)
    assert any("training starts anew" in line for line in tracker.lines)


CHILD = """
import os, signal, sys, threading
from pathlib import Path
import torch
from tests.core.policies.tiny_policies import Watcher, count_of, train
torch.set_num_threads(1)
base, folder, after, delay = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def die():
    threading.Timer(float(delay), os.kill, (os.getpid(), signal.SIGKILL)).start()
train(base, folder, count_of("d"), tracker=Watcher(after, die), updates=12, checkpoint_every=1)
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_with_the_same_result(
    tiny: Path, tmp_path: Path
) -> None:
    """Six kills, each in the midst of an update or of writing a checkpoint."""
    once, often = tmp_path / "once", tmp_path / "often"

    def start(folder: Path, after: int, delay_s: float) -> int:
        return subprocess.run(
            [sys.executable, "-c", CHILD, tiny, folder, str(after), str(delay_s)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=120,
        ).returncode

    assert start(once, 0, 0.0) == 0
    killed_at = []
    for number in range(6):
        assert start(often, 1, 0.007 * number) == -signal.SIGKILL
        killed_at.append(newest(often).name)
    assert len(set(killed_at)) > 3  # it went on from one to the next
    assert start(often, 0, 0.0) == 0
    assert weights(once) == weights(often)


TOGETHER = """
import json, sys
from pathlib import Path
import torch
from tests.core.policies.tiny_policies import count_of, train
torch.set_num_threads(1)
base, folder = Path(sys.argv[1]), Path(sys.argv[2])
report = train(base, folder, count_of("d"), num_mini_batches=2, held_out=count_of("e"))
(folder / "report.json").write_text(json.dumps(report.details["history"]))
names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in names if "gloo" in name], names
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tiny: Path, tmp_path: Path) -> None:
    """Up to rounding, at an equal global batch. torchrun is what accelerate starts GPUs with."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    told = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        launch = [sys.executable, str(script)]
        if count == 2:
            launch = [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                "--nproc_per_node", "2", str(script),
            ]  # fmt: skip
        done = subprocess.run(
            [*launch, str(tiny), str(folder)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        told[count] = json.loads((folder / "report.json").read_text())
    for one, two in zip(told[1], told[2], strict=True):
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)
