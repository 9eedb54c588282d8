"""A run through TRL that is stopped, or its checkpoint damaged, ends as if nothing had been."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.errors import TrainingFailed
from tests.core.policies.relatives import RELATIVES, Learn, dpo, kto, rloo, run
from tests.core.policies.tiny_policies import Watcher, make_adapter

ROOT = Path(__file__).resolve().parents[3]


def weights(folder: Path) -> bytes:
    return next((folder / "model").glob("*model.safetensors")).read_bytes()


def newest(folder: Path) -> Path:
    return max((folder / "work").glob("step-*"))


def flip_a_bit(path: Path) -> None:
    file = path / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose_the_optimizer(path: Path) -> None:
    (path / "optimizer.pt").unlink()


def leave(path: Path) -> None:
    """Do no damage."""


@pytest.mark.parametrize(
    ("relative", "damage", "step", "options"),
    [
        (dpo, leave, 3, {}),
        *[
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                *[(relative, leave, 3, {}) for relative in RELATIVES if relative is not dpo],
                (dpo, flip_a_bit, 2, {}),
                (kto, lose_the_optimizer, 2, {}),
                (rloo, leave, 3, {"lora_rank": 2}),
                (dpo, leave, 3, {"lora_rank": 2, "merge_adapter": False}),
                (rloo, leave, 3, {"precision": "bf16"}),
            )
        ],
    ],
)
def test_a_stopped_run_resumes_with_the_same_result(
    relative: Callable[..., Learn],
    damage: Callable[[Path], None],
    step: int,
    options: dict[str, Any],
    tiny: Path,
    tmp_path: Path,
) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    whole = run(relative(tiny, **options), once)
    with pytest.raises(TrainingFailed, match=r"Stopped on request after step 3 of \d"):
        run(relative(tiny, **options), twice, Watcher(3))
    damage(newest(twice))
    tracker = Watcher()
    report = run(relative(tiny, **options), twice, tracker)
    assert f"Resumed from the checkpoint of step {step}." in tracker.lines
    assert report.details["history"] == whole.details["history"]
    assert report.details["samples"] == whole.details["samples"]
    assert report.metrics == whole.metrics
    assert weights(once) == weights(twice)


@pytest.mark.slow
def test_a_run_on_top_of_an_adapter_resumes_too(tiny: Path, tmp_path: Path) -> None:
    adapter = make_adapter(tiny, tmp_path / "adapter")
    once, twice = tmp_path / "once", tmp_path / "twice"
    run(dpo(adapter), once)
    with pytest.raises(TrainingFailed, match="Stopped"):
        run(dpo(adapter), twice, Watcher(3))
    run(dpo(adapter), twice)
    assert weights(once) == weights(twice)


def test_a_checkpoint_of_other_rows_or_parameters_is_not_used(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="Stopped"):
        run(dpo(tiny, seed=5), tmp_path, Watcher(2))
    tracker = Watcher()
    run(dpo(tiny), tmp_path, tracker)
    assert any("training starts anew" in line for line in tracker.lines)


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_later(
    tiny: Path, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    run(rloo(tiny), tmp_path / "whole")
    try:
        with pytest.raises(TrainingFailed, match="make room"):
            run(rloo(tiny), tmp_path, Watcher(3, fill_the_disk))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / "work").glob("step-*")] == ["step-000000002"]
    run(rloo(tiny), tmp_path)
    assert weights(tmp_path) == weights(tmp_path / "whole")


CHILD = """
import os, signal, sys, threading
from pathlib import Path
import torch
from tests.core.policies.relatives import dpo, run
from tests.core.policies.tiny_policies import Watcher
torch.set_num_threads(1)
base, folder, after, delay = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
def die():
    threading.Timer(float(delay), os.kill, (os.getpid(), signal.SIGKILL)).start()
run(dpo(base, epochs=6, checkpoint_every=1), folder, Watcher(after, die))
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_resumes_with_the_same_result(
    tiny: Path, tmp_path: Path
) -> None:
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
    for number in range(4):
        assert start(often, 1, 0.02 * number) == -signal.SIGKILL
    assert start(often, 0, 0.0) == 0
    assert weights(once) == weights(often)
