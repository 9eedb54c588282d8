"""Refused lines: each into a file, with line number and reason; the first ones kept to show."""

import json
from pathlib import Path
from typing import IO, Any, NamedTuple

from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.bundle import RawRow
from rlhf_core.interchange.decode import decode_object
from rlhf_core.interchange.readers import BrokenRow

KEPT_REASONS = 200
MAX_KEPT_CHARS = 100_000


class RefusedLine(NamedTuple):
    """A line that was not stored."""

    line: int
    reason: str


class Rejects:
    """Writes `{"line", "reason", "row"}` lines; a row that cannot be read stands as `text`."""

    def __init__(self, path: Path) -> None:
        self._wanted = path
        self._file: IO[str] | None = None
        self.path: Path | None = None
        self.count = 0
        self.first: list[RefusedLine] = []

    def add(self, line: int, reason: str, raw: RawRow | BrokenRow) -> None:
        """Write one refused line."""
        self.count += 1
        if len(self.first) < KEPT_REASONS:
            self.first.append(RefusedLine(line, reason))
        if self._file is None:
            self._file = self._open()
        entry = {"line": line, "reason": reason, **_shown(raw)}
        # ASCII: a lone surrogate, which may be the very reason, has no UTF-8
        self._file.write(json.dumps(entry, default=str) + "\n")

    def _open(self) -> IO[str]:
        """The file beside the imported one; in the data folder where that place is read-only."""
        fallback = get_settings().data_dir.resolve() / "rejected" / self._wanted.name
        for path in (self._wanted, fallback):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("w", encoding="utf-8")
            except OSError:
                continue
            self.path = path
            return file
        raise InvalidInput(f"The refused lines cannot be written to {self._wanted} or {fallback}.")

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


def _shown(raw: RawRow | BrokenRow) -> dict[str, Any]:
    if isinstance(raw, BrokenRow):
        raw = raw.raw
    if isinstance(raw, bytes):
        if len(raw) <= MAX_KEPT_CHARS:
            try:
                return {"row": decode_object(raw)}
            except InvalidInput:
                pass
        return {"text": raw[:MAX_KEPT_CHARS].decode("utf-8", errors="backslashreplace").rstrip()}
    if len(text := json.dumps(raw, default=str)) > MAX_KEPT_CHARS:
        return {"text": text[:MAX_KEPT_CHARS]}
    return {"row": raw}
