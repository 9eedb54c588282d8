"""Nothing is opened of which a byte is not as it was registered."""

import random
from pathlib import Path

import pytest

from rlhf_core.artifacts import MANIFEST, open_artifact, write_artifact
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.registry.files import describe_size


def make_large(folder: Path) -> tuple[Path, str]:
    """An artifact of three files, 5,000 bytes of weights among them."""

    def fill(to: Path) -> None:
        (to / "model.safetensors").write_bytes(random.Random(3).randbytes(5_000))
        (to / "config.json").write_text('{"layers": 2}')
        (to / "adapter").mkdir()
        (to / "adapter" / "head.json").write_text("[1, 2]")

    artifact = write_artifact(folder, fill)
    return artifact.path, artifact.manifest_sha256


def is_opened(path: Path, manifest: str) -> bool:
    try:
        open_artifact(path, manifest)
    except (InvalidInput, Unavailable):
        return False
    return True


def test_one_flipped_bit_at_200_places_is_never_opened(tmp_path: Path) -> None:
    path, manifest = make_large(tmp_path / "m")
    places = random.Random(1)
    every = sorted(file for file in path.rglob("*") if file.is_file())
    opened = 0
    for number in range(200):
        file = every[number % len(every)]
        whole = file.read_bytes()
        at = places.randrange(len(whole))
        damaged = bytearray(whole)
        damaged[at] ^= 1 << places.randrange(8)
        file.write_bytes(damaged)
        opened += is_opened(path, manifest)
        file.write_bytes(whole)
    assert opened == 0
    assert is_opened(path, manifest), "mended, it opens again"


def test_a_file_cut_off_at_20_places_is_never_opened(tmp_path: Path) -> None:
    path, manifest = make_large(tmp_path / "m")
    file = path / "model.safetensors"
    whole = file.read_bytes()
    opened = 0
    for number in range(20):
        file.write_bytes(whole[: number * len(whole) // 20])
        opened += is_opened(path, manifest)
    assert opened == 0


def test_swapped_files_of_two_versions_are_never_opened(tmp_path: Path) -> None:
    path, manifest = make_large(tmp_path / "a")
    other = write_artifact(
        tmp_path / "b", lambda to: (to / "model.safetensors").write_bytes(b"x" * 5_000) and None
    )
    mine = path / "model.safetensors"
    whole = mine.read_bytes()
    mine.write_bytes((other.path / "model.safetensors").read_bytes())
    assert not is_opened(path, manifest)
    mine.write_bytes(whole)
    own = (path / MANIFEST).read_bytes()
    (path / MANIFEST).write_bytes((other.path / MANIFEST).read_bytes())
    assert not is_opened(path, manifest)
    (path / MANIFEST).write_bytes(own)
    assert is_opened(path, manifest)
    assert not is_opened(path, other.manifest_sha256)


def test_crash_while_copying_leaves_no_folder(tmp_path: Path) -> None:
    def die(to: Path) -> None:
        (to / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_artifact(tmp_path / "m", die)
    assert list(tmp_path.iterdir()) == []


def test_sizes_are_said_in_words() -> None:
    assert [describe_size(size) for size in (0, 2_048, 5 * 2**20, 3 * 2**30)] == [
        "0.0 KiB", "2.0 KiB", "5.0 MiB", "3.0 GiB",
    ]  # fmt: skip
