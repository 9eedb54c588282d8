import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlhf_core.encoder.cache import CachedEncoder

ROOT = Path(__file__).resolve().parents[3]


class HashEncoder:
    """A real, tiny encoder: the text's hash as a unit vector. Counts what it is asked."""

    dimension = 8

    def __init__(self, digest: str = "d" * 64) -> None:
        self.digest = digest
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray[Any, Any]:
        self.seen.extend(texts)
        raw = [list(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
        vectors = np.asarray(raw, dtype=np.float32).reshape(-1, 8) + 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_known_text_does_not_reach_the_model(tmp_path: Path) -> None:
    first = CachedEncoder(HashEncoder(), tmp_path).encode(["a", "b"])
    model = HashEncoder()
    second = CachedEncoder(model, tmp_path).encode(["b", "a", "c"])
    assert model.seen == ["c"]
    assert np.array_equal(second[[1, 0]], first)


def test_repeated_text_is_embedded_once_a_call_and_the_order_stays(tmp_path: Path) -> None:
    model = HashEncoder()
    texts = ["x", "yy", "x", "zzz", "yy", "x"]
    found = CachedEncoder(model, tmp_path).encode(texts)
    assert sorted(model.seen) == ["x", "yy", "zzz"]
    assert np.array_equal(found, HashEncoder().encode(texts))


def test_encoders_with_other_weights_share_nothing(tmp_path: Path) -> None:
    CachedEncoder(HashEncoder("1" * 64), tmp_path).encode(["a"])
    other = HashEncoder("2" * 64)
    CachedEncoder(other, tmp_path).encode(["a"])
    assert other.seen == ["a"]


def test_no_text_gives_no_row(tmp_path: Path) -> None:
    assert CachedEncoder(HashEncoder(), tmp_path).encode([]).shape == (0, 8)


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"x" * 5000]
)
def test_broken_file_is_replaced_and_the_caller_served(tmp_path: Path, content: bytes) -> None:
    cached = CachedEncoder(HashEncoder(), tmp_path)
    cached.path.write_bytes(content)
    assert cached.encode(["a"]).shape == (1, 8)
    cached.encode(["a", "b"])
    again = HashEncoder()
    CachedEncoder(again, tmp_path).encode(["a", "b"])
    assert again.seen == []


def test_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("no folder")
    assert CachedEncoder(HashEncoder(), place / "below").encode(["a"]).shape == (1, 8)


def test_locked_file_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_core.encoder.cache.BUSY_TIMEOUT_S", 0.05)
    cached = CachedEncoder(HashEncoder(), tmp_path)
    cached.encode(["a"])
    holder = sqlite3.connect(cached.path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert np.array_equal(cached.encode(["a", "b"]), HashEncoder().encode(["a", "b"]))
    holder.close()


def test_damaged_value_is_computed_again(tmp_path: Path) -> None:
    cached = CachedEncoder(HashEncoder(), tmp_path)
    cached.encode(["a", "b"])
    with sqlite3.connect(cached.path) as connection:
        connection.execute("UPDATE embeddings SET value = x'00ff'")
    connection.close()
    model = HashEncoder()
    found = CachedEncoder(model, tmp_path).encode(["a", "b"])
    assert sorted(model.seen) == ["a", "b"]
    assert np.array_equal(found, HashEncoder().encode(["a", "b"]))


def test_progress_counts_texts_and_may_stop_the_call(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    texts = [f"text {number}" for number in range(600)]
    cached = CachedEncoder(HashEncoder(), tmp_path)
    cached.encode(texts[:100])

    def stop_after_a_block(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CachedEncoder(HashEncoder(), tmp_path).encode(
            texts + ["one"] * 20, on_progress=stop_after_a_block
        )
    assert told == [(100, 601), (601, 601)]
    kept = HashEncoder()
    CachedEncoder(kept, tmp_path).encode(texts)
    assert kept.seen == []


def test_two_processes_at_once_write_one_sound_cache(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.core.encoder.test_cache import HashEncoder\n"
        "from rlhf_core.encoder.cache import CachedEncoder\n"
        "cached = CachedEncoder(HashEncoder(), Path(sys.argv[1]))\n"
        "for start in range(0, 400, 20):\n"
        "    cached.encode([f't{n}' for n in range(start, start + 40)])\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    assert errors == ["", ""]
    model = HashEncoder()
    texts = [f"t{n}" for n in range(420)]
    found = CachedEncoder(model, tmp_path).encode(texts)
    assert model.seen == []
    assert np.array_equal(found, HashEncoder().encode(texts))
