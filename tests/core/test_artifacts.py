import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlhf_core import artifacts
from rlhf_core.artifacts import (
    ArtifactInfo,
    open_artifact,
    open_lately,
    read_manifest,
    write_artifact,
)
from rlhf_core.errors import Conflict, InvalidInput, Unavailable

ROOT = Path(__file__).resolve().parents[2]


def fill(folder: Path) -> None:
    (folder / "head.json").write_text('{"a": 1}')
    (folder / "below").mkdir()
    (folder / "below" / "weights.bin").write_bytes(bytes(range(256)) * 4096)


@pytest.fixture
def written(tmp_path: Path) -> ArtifactInfo:
    return write_artifact(tmp_path / "model", fill)


def test_what_was_written_opens(written: ArtifactInfo) -> None:
    folder = open_artifact(written.path, written.manifest_sha256)
    assert (folder / "head.json").read_text() == '{"a": 1}'
    assert written.num_bytes == 8 + 256 * 4096
    assert [file.name for file in read_manifest(folder, written.manifest_sha256)] == [
        "below/weights.bin",
        "head.json",
    ]
    assert [path.name for path in written.path.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("place", [0, 500_000, 256 * 4096 - 1])
def test_one_flipped_bit_is_refused(written: ArtifactInfo, place: int) -> None:
    file = written.path / "below" / "weights.bin"
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"below/weights\.bin"):
        open_artifact(written.path, written.manifest_sha256)


def test_what_was_verified_lately_is_read_again_only_once_it_was_touched(
    written: ArtifactInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = []

    def count(path: Path, manifest_sha256: str) -> Path:
        readings.append(path)
        return open_artifact(path, manifest_sha256)

    monkeypatch.setattr(artifacts, "open_artifact", count)
    for _ in range(3):
        assert open_lately(written.path, written.manifest_sha256) == written.path
    assert len(readings) == 1
    file = written.path / "head.json"
    before = file.stat()
    file.write_text('{"a": 2}')  # as long as before, and its time put back
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InvalidInput, match=r"head\.json"):
        open_lately(written.path, written.manifest_sha256)
    file.write_text('{"a": 1}')
    open_lately(written.path, written.manifest_sha256)
    assert len(readings) == 3
    monkeypatch.setattr(artifacts, "LATELY_S", 0.0)
    open_lately(written.path, written.manifest_sha256)
    assert len(readings) == 4
    (written.path / "more.bin").write_text("x")
    with pytest.raises(InvalidInput, match="does not belong"):
        open_lately(written.path, written.manifest_sha256)
    (written.path / "more.bin").unlink()
    with pytest.raises(InvalidInput, match="not the manifest"):
        open_lately(written.path, "0" * 64)


def test_truncated_file_is_refused(written: ArtifactInfo) -> None:
    os.truncate(written.path / "head.json", 3)
    with pytest.raises(InvalidInput, match=r"head\.json"):
        open_artifact(written.path, written.manifest_sha256)


def test_missing_file_is_refused(written: ArtifactInfo) -> None:
    (written.path / "head.json").unlink()
    with pytest.raises(InvalidInput, match=r"head\.json is missing"):
        open_artifact(written.path, written.manifest_sha256)


def test_extra_file_is_refused(written: ArtifactInfo) -> None:
    (written.path / "below" / "code.py").write_text("")
    with pytest.raises(InvalidInput, match=r"code\.py does not belong"):
        open_artifact(written.path, written.manifest_sha256)


def test_link_is_refused_even_to_the_same_bytes(written: ArtifactInfo, tmp_path: Path) -> None:
    file = written.path / "head.json"
    file.rename(tmp_path / "moved.json")
    file.symlink_to(tmp_path / "moved.json")
    with pytest.raises(InvalidInput, match=r"head\.json is a link"):
        open_artifact(written.path, written.manifest_sha256)


def test_link_to_the_folder_is_refused(written: ArtifactInfo, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(written.path)
    with pytest.raises(Unavailable, match="no artifact folder"):
        open_artifact(tmp_path / "link", written.manifest_sha256)


def test_linked_manifest_is_refused(written: ArtifactInfo, tmp_path: Path) -> None:
    (written.path / "manifest.json").rename(tmp_path / "m.json")
    (written.path / "manifest.json").symlink_to(tmp_path / "m.json")
    with pytest.raises(InvalidInput, match=r"manifest\.json is a link"):
        open_artifact(written.path, written.manifest_sha256)


def test_rewritten_manifest_is_refused(written: ArtifactInfo) -> None:
    (written.path / "head.json").write_text('{"a": 2}')
    manifest = written.path / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(InvalidInput, match=r"manifest\.json is not the manifest"):
        open_artifact(written.path, written.manifest_sha256)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_manifest_naming_a_file_outside_is_refused(tmp_path: Path, name: str) -> None:
    import hashlib

    manifest = json.dumps({"format": 1, "files": {name: {"sha256": "0" * 64, "num_bytes": 0}}})
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(InvalidInput, match="outside its folder"):
        open_artifact(tmp_path, hashlib.sha256(manifest.encode()).hexdigest())


def test_missing_folder_and_missing_manifest_are_unavailable(written: ArtifactInfo) -> None:
    with pytest.raises(Unavailable, match="no artifact folder"):
        open_artifact(written.path / "nowhere", written.manifest_sha256)
    (written.path / "manifest.json").unlink()
    with pytest.raises(Unavailable, match=r"manifest\.json"):
        open_artifact(written.path, written.manifest_sha256)


def test_existing_artifact_is_never_overwritten(written: ArtifactInfo) -> None:
    def other(folder: Path) -> None:
        (folder / "other").write_text("x")

    with pytest.raises(Conflict, match="never changes"):
        write_artifact(written.path, other)
    open_artifact(written.path, written.manifest_sha256)


def test_of_two_writers_of_one_place_the_second_loses(tmp_path: Path) -> None:
    def fill_while_another_finishes(folder: Path) -> None:
        fill(folder)
        infos.append(write_artifact(tmp_path / "model", fill))

    infos: list[ArtifactInfo] = []
    with pytest.raises(Conflict):
        write_artifact(tmp_path / "model", fill_while_another_finishes)
    open_artifact(tmp_path / "model", infos[0].manifest_sha256)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_of_eight_writers_at_once_one_wins_and_the_others_are_told_so(tmp_path: Path) -> None:
    def write(target: Path) -> str:
        try:
            return write_artifact(target, fill).manifest_sha256
        except Conflict:
            return "lost"

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            told = list(pool.map(write, [tmp_path / f"model-{number}"] * 8))
            assert told.count("lost") == 7


def test_failing_fill_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise KeyError("broken learner")

    with pytest.raises(KeyError):
        write_artifact(tmp_path / "model", fail)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    def fill_the_disk(folder: Path) -> None:
        fill(folder)
        with open("/dev/full", "w") as full:
            full.write("x" * 100_000)

    with pytest.raises(Unavailable, match=os.strerror(errno.ENOSPC)):
        write_artifact(tmp_path / "model", fill_the_disk)
    assert list(tmp_path.iterdir()) == []


def test_empty_artifact_and_own_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file"):
        write_artifact(tmp_path / "model", lambda folder: None)
    with pytest.raises(InvalidInput, match=r"manifest\.json"):
        write_artifact(tmp_path / "m", lambda folder: (folder / "manifest.json").touch())
    with pytest.raises(InvalidInput, match="link"):
        write_artifact(tmp_path / "m", lambda folder: (folder / "l").symlink_to("/etc/passwd"))
    assert list(tmp_path.iterdir()) == []


def test_writer_killed_before_renaming_leaves_nothing_half(tmp_path: Path) -> None:
    code = (
        "import sys, signal, os\nfrom pathlib import Path\n"
        "from rlhf_core.artifacts import write_artifact\n"
        "def fill(folder):\n"
        "    (folder / 'weights.bin').write_bytes(b'x' * 100000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_artifact(Path(sys.argv[1]), fill)\n"
    )
    target = tmp_path / "model"
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.endswith(".partial")

    old = time.time() - artifacts.LEFTOVER_AGE_S - 10
    os.utime(leftover, (old, old))
    info = write_artifact(target, fill)
    open_artifact(target, info.manifest_sha256)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_young_leftover_may_belong_to_another_writer_and_stays(tmp_path: Path) -> None:
    (tmp_path / ".model.abc.partial").mkdir()
    write_artifact(tmp_path / "model", fill)
    assert (tmp_path / ".model.abc.partial").is_dir()
