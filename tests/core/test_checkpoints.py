"""Checkpoints: whole or not at all, and only sound ones are found again."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_core.checkpoints import find_checkpoint, remove_checkpoints, save_checkpoint
from rlhf_core.errors import InvalidInput, Unavailable

ROOT = Path(__file__).resolve().parents[2]


def fill_with(text: str) -> Callable[[Path], None]:
    def fill(path: Path) -> None:
        (path / "weights").write_text(text)
        (path / "numbers.json").write_text("{}")

    return fill


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(folder, step, fill_with(f"weights of step {step}"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_checkpoint_is_found_with_its_files(tmp_path: Path) -> None:
    lines: list[str] = []
    save(tmp_path, 5, 10)
    found = find_checkpoint(tmp_path, lines.append)
    assert found is not None
    assert found.step == 10
    assert (found.path / "weights").read_text() == "weights of step 10"
    assert lines == []


def test_only_the_newest_two_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    assert names(tmp_path) == ["step-000000002", "step-000000003"]


def test_no_folder_and_an_empty_folder_hold_none(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "absent", pytest.fail) is None
    assert find_checkpoint(tmp_path, pytest.fail) is None


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "weights").read_bytes())
    content[3] ^= 1
    (path / "weights").write_bytes(content)


def truncate(path: Path) -> None:
    (path / "weights").write_bytes((path / "weights").read_bytes()[:-1])


def truncate_manifest(path: Path) -> None:
    (path / "manifest.json").write_text((path / "manifest.json").read_text()[:-20])


def lose_a_file(path: Path) -> None:
    (path / "numbers.json").unlink()


def lose_the_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def add_a_file(path: Path) -> None:
    (path / "more").write_text("x")


def make_a_link(path: Path) -> None:
    (path / "numbers.json").unlink()
    (path / "numbers.json").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    "damage",
    [flip_a_bit, truncate, truncate_manifest, lose_a_file, lose_the_manifest, add_a_file,
     make_a_link],
)  # fmt: skip
def test_a_damaged_one_is_refused_and_the_one_before_used(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    lines: list[str] = []
    save(tmp_path, 5, 10)
    damage(tmp_path / "step-000000010")
    found = find_checkpoint(tmp_path, lines.append)
    assert found is not None
    assert found.step == 5
    assert len(lines) == 1
    assert "step 10 is refused" in lines[0]
    assert "trying the one before" in lines[0]


def test_if_all_are_damaged_there_is_none_and_the_log_says_so(tmp_path: Path) -> None:
    lines: list[str] = []
    save(tmp_path, 5, 10)
    for step in (5, 10):
        flip_a_bit(tmp_path / f"step-{step:09d}")
    assert find_checkpoint(tmp_path, lines.append) is None
    assert "there is none before it" in lines[-1]


def test_a_refused_later_one_does_not_push_out_sound_ones(tmp_path: Path) -> None:
    save(tmp_path, 5, 10, 20)
    flip_a_bit(tmp_path / "step-000000020")
    save(tmp_path, 12)
    assert names(tmp_path) == ["step-000000010", "step-000000012", "step-000000020"]
    flip_a_bit(tmp_path / "step-000000012")
    found = find_checkpoint(tmp_path, lambda line: None)
    assert found is not None
    assert found.step == 10


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 5)
    save_checkpoint(tmp_path, 5, fill_with("once more"))
    assert names(tmp_path) == ["step-000000005"]
    assert (tmp_path / "step-000000005" / "weights").read_text() == "once more"


def refuse_with_system_error(path: Path) -> None:
    (path / "weights").write_text("half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_with_library_error(path: Path) -> None:
    raise RuntimeError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)")


@pytest.mark.parametrize("fill", [refuse_with_system_error, refuse_with_library_error])
def test_a_full_disk_leaves_the_one_before_intact(
    tmp_path: Path, fill: Callable[[Path], None]
) -> None:
    save(tmp_path, 5)
    with pytest.raises(Unavailable, match="make room"):
        save_checkpoint(tmp_path, 10, fill)
    assert names(tmp_path) == ["step-000000005"]
    assert find_checkpoint(tmp_path, pytest.fail) is not None


def test_what_fill_raises_goes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(path: Path) -> None:
        raise KeyError("no such weight")

    with pytest.raises(KeyError):
        save_checkpoint(tmp_path, 1, fill)
    assert names(tmp_path) == []


def test_a_writer_killed_half_way_leaves_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    save(tmp_path, 5)
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from rlhf_core.checkpoints import save_checkpoint\n"
        "def fill(path):\n"
        "    (path / 'weights').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "save_checkpoint(Path(sys.argv[1]), 10, fill)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    found = find_checkpoint(tmp_path, pytest.fail)
    assert found is not None
    assert found.step == 5
    save(tmp_path, 7)
    assert names(tmp_path) == ["step-000000005", "step-000000007"]


def test_remove_checkpoints_leaves_other_files_alone(tmp_path: Path) -> None:
    save(tmp_path, 5, 10)
    (tmp_path / "notes").write_text("mine")
    remove_checkpoints(tmp_path)
    assert names(tmp_path) == ["notes"]


def test_a_step_below_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="step -1"):
        save_checkpoint(tmp_path, -1, fill_with("x"))
