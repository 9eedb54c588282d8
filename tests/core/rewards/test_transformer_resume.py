"""A run that is killed, stopped, or finds its checkpoint damaged ends as if nothing had been."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rlhf_core.errors import TrainingFailed
from rlhf_core.rewards.transformer import TransformerParams, train_transformer
from rlhf_core.training import NoOpTracker, TrainReport
from tests.learning.rated import make_rows
from tests.learning.tiny_models import make_bert

ROOT = Path(__file__).resolve().parents[3]
PARAMS = {
    "epochs": 3, "batch_size": 4, "lr": 1e-3, "max_tokens": 48, "precision": "fp32",
    "checkpoint_every": 5, "patience": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bert(tmp_path_factory.mktemp("bert"))


class Stopper(NoOpTracker):
    """Asks to stop after so many steps (never: 0), and keeps the log."""

    def __init__(self, steps: int = 0, then: Callable[[], None] | None = None) -> None:
        self.left = steps
        self.then = then
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def should_stop(self) -> bool:
        self.left -= 1
        if self.left == 0 and self.then is not None:
            self.then()
            return False
        return self.left == 0


def run(base: Path, folder: Path, tracker: NoOpTracker, **options: object) -> TrainReport:
    (folder / "model").mkdir(parents=True, exist_ok=True)
    return train_transformer(
        make_rows(80),
        params=TransformerParams(base=str(base), **PARAMS | options),  # type: ignore[arg-type]
        out_dir=folder / "model",
        work_dir=folder / "work",
        tracker=tracker,
    )


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, TrainReport]:
    """The weights and the report of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    report = run(bert, folder, NoOpTracker())
    torch.set_num_threads(before)
    return weights(folder), report


def newest(folder: Path) -> Path:
    return max((folder / "work").glob("step-*"))


def flip_a_bit(path: Path) -> None:
    file = path / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(path: Path) -> None:
    file = path / "state.safetensors"
    os.truncate(file, file.stat().st_size - 100)


def lose_the_numbers(path: Path) -> None:
    (path / "state.json").unlink()


def leave(path: Path) -> None:
    """Do no damage."""


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (leave, "Resumed from the checkpoint of step 12"),
        (flip_a_bit, "Resumed from the checkpoint of step 10"),
        (truncate, "Resumed from the checkpoint of step 10"),
        (lose_the_numbers, "Resumed from the checkpoint of step 10"),
    ],
)
def test_a_stopped_run_resumes_from_the_newest_sound_checkpoint_with_the_same_result(
    damage: Callable[[Path], None],
    words: str,
    bert: Path,
    whole: tuple[bytes, TrainReport],
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingFailed, match="Stopped on request after step 12"):
        run(bert, tmp_path, Stopper(12))
    damage(newest(tmp_path))
    tracker = Stopper()
    report = run(bert, tmp_path, tracker)
    assert words in "\n".join(tracker.lines)
    assert (damage is leave) == (not any("refused" in line for line in tracker.lines))
    assert weights(tmp_path) == whole[0]
    assert report.metrics == whole[1].metrics
    assert report.details["history"] == whole[1].details["history"]


def test_lora_resumes_with_the_same_result(bert: Path, tmp_path: Path) -> None:
    once, twice = tmp_path / "once", tmp_path / "twice"
    run(bert, once, NoOpTracker(), lora_rank=2)
    with pytest.raises(TrainingFailed, match="Stopped"):
        run(bert, twice, Stopper(23), lora_rank=2)
    run(bert, twice, NoOpTracker(), lora_rank=2)
    assert weights(once) == weights(twice)


def test_a_checkpoint_of_other_parameters_is_not_used(
    bert: Path, whole: tuple[bytes, TrainReport], tmp_path: Path
) -> None:
    with pytest.raises(TrainingFailed, match="Stopped"):
        run(bert, tmp_path, Stopper(12), seed=5)
    tracker = Stopper()
    run(bert, tmp_path, tracker)
    assert any("training starts anew" in line for line in tracker.lines)
    assert weights(tmp_path) == whole[0]


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_later(
    bert: Path, whole: tuple[bytes, TrainReport], tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(TrainingFailed, match="make room"):
            run(bert, tmp_path, Stopper(7, fill_the_disk))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert newest(tmp_path).name == "step-000000005"
    tracker = Stopper()
    run(bert, tmp_path, tracker)
    assert "Resumed from the checkpoint of step 5." in tracker.lines
    assert weights(tmp_path) == whole[0]


def test_a_disk_that_has_no_room_for_the_model_says_so_and_keeps_the_last_checkpoint(
    bert: Path, whole: tuple[bytes, TrainReport], tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    class Filler(NoOpTracker):
        def progress(self, fraction: float, message: str = "") -> None:
            if message.startswith("Calibrating"):
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(TrainingFailed, match="could not be written"):
            run(bert, tmp_path, Filler())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    tracker = Stopper()
    run(bert, tmp_path, tracker)
    assert tracker.left == 0  # no step was done again
    assert weights(tmp_path) == whole[0]


@pytest.mark.slow
def test_twenty_kills_change_nothing(bert: Path, tmp_path: Path) -> None:
    once, often = tmp_path / "once", tmp_path / "often"
    told = {}
    for folder, kills in ((once, 0), (often, 20)):
        done = subprocess.run(
            [sys.executable, "-m", "tests.core.rewards.killed_run", bert, folder, str(kills)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=250,
        )
        assert done.returncode == 0, done.stderr
        told[folder] = json.loads(done.stdout.splitlines()[-1])
    assert len(told[often]["killed_at"]) == 20
    assert len(set(told[often]["killed_at"])) > 10  # it went on from one to the next
    assert weights(often) == weights(once)
    assert (often / "report.json").read_text() == (once / "report.json").read_text()
