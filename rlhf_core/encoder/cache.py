"""Embeddings on disk, so that no text is embedded twice: embedding is what training costs.

One SQLite file an encoder digest, shared by all processes of the machine. It is only a cache: if
it is locked, full or broken, embeddings are computed and nobody is stopped.
"""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.encoder.model import SentenceEncoder, drop_repeats

if TYPE_CHECKING:
    import numpy as np

LOGGER = logging.getLogger(__name__)
BUSY_TIMEOUT_S = 5.0
KEYS_A_QUERY = 500
TEXTS_A_BLOCK = 512
"""What a killed run can lose: a block is stored as soon as it is computed."""
WAL_TRIES = 50
BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class CachedEncoder:
    """An encoder that remembers. `num_computed` counts the texts that the model really saw."""

    def __init__(self, encoder: SentenceEncoder, cache_dir: Path) -> None:
        self._encoder = encoder
        self.digest = encoder.digest
        self.dimension = encoder.dimension
        self.path = cache_dir / f"{encoder.digest[:32]}.sqlite"
        self.num_computed = 0

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 64,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> "np.ndarray[Any, Any]":
        """L2-normalised float32 embeddings (n, dimension), in the order of `texts`.

        `on_progress(done, total)` is told after each block how many different texts are embedded;
        what it raises goes through, and what was computed until then is kept.
        """
        import numpy as np

        once, places = drop_repeats(texts)
        keys = [make_key(text) for text in once]
        embeddings = np.zeros((len(once), self.dimension), dtype=np.float32)
        known = self._read(keys)
        for index, key in enumerate(keys):
            if key in known:
                embeddings[index] = known[key]
        missing = [index for index, key in enumerate(keys) if key not in known]
        missing.sort(key=lambda index: len(once[index]))  # alike lengths: blocks of equal work
        done = len(once) - len(missing)
        if on_progress is not None:
            on_progress(done, len(once))
        for start in range(0, len(missing), TEXTS_A_BLOCK):
            block = missing[start : start + TEXTS_A_BLOCK]
            fresh = self._encoder.encode([once[index] for index in block], batch_size=batch_size)
            embeddings[block] = fresh
            self.num_computed += len(block)
            self._write([keys[index] for index in block], fresh)
            done += len(block)
            if on_progress is not None:
                on_progress(done, len(once))
        return embeddings[places]

    def _read(self, keys: list[bytes]) -> "dict[bytes, np.ndarray[Any, Any]]":
        """The sound embeddings among `keys`; a damaged one counts as missing."""
        import numpy as np

        found: dict[bytes, np.ndarray[Any, Any]] = {}
        with self._tolerated(), self._connected() as connection:
            for start in range(0, len(keys), KEYS_A_QUERY):
                part = keys[start : start + KEYS_A_QUERY]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT key, value FROM embeddings WHERE key IN ({marks})",  # noqa: S608
                    part,
                )
                for key, value in rows:
                    if len(value) == 4 * self.dimension:
                        vector = np.frombuffer(value, dtype="<f4")
                        if abs(float(vector @ vector) - 1.0) < 1e-3:
                            found[key] = vector
        return found

    def _write(self, keys: list[bytes], embeddings: "np.ndarray[Any, Any]") -> None:
        rows = [
            (key, vector.astype("<f4").tobytes())
            for key, vector in zip(keys, embeddings, strict=True)
        ]
        with self._tolerated(), self._connected() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection of this call: a fraction of a millisecond, and safe in threads and forks."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S)) as connection:
            _use_wal(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS embeddings "
                "(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
            )
            yield connection

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        """A fault of the file ends the block, not the caller. A broken file is removed."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            LOGGER.warning("embedding cache %s not used: %s", self.path, error)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in BROKEN:
                for suffix in ("", "-wal", "-shm"):
                    self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL; SQLite refuses at once, without waiting, while another does so."""
    for _ in range(WAL_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(0.02)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def find_stored(texts: Sequence[str], cache_dir: Path) -> "dict[str, np.ndarray[Any, Any]]":
    """The stored unit vectors among the texts, by the encoder that was used last; loads no encoder.

    Empty where nothing was ever embedded, or the file cannot be read.
    """
    import numpy as np

    files = sorted(cache_dir.glob("*.sqlite"), key=lambda path: path.stat().st_mtime)
    found: dict[str, np.ndarray[Any, Any]] = {}
    if not files or not texts:
        return found
    by_key = {make_key(text): text for text in texts}
    keys = list(by_key)
    try:
        with closing(sqlite3.connect(f"{files[-1].as_uri()}?mode=ro", uri=True)) as connection:
            for start in range(0, len(keys), KEYS_A_QUERY):
                part = keys[start : start + KEYS_A_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, value FROM embeddings WHERE key IN ({marks})"  # noqa: S608
                for key, value in connection.execute(query, part):
                    found[by_key[key]] = np.frombuffer(value, dtype="<f4")
    except sqlite3.Error as error:
        LOGGER.warning("embedding cache %s not read: %s", files[-1], error)
        return {}
    return found


def make_key(text: str) -> bytes:
    """The key of a text: BLAKE2b of its UTF-8, 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
