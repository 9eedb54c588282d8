"""The second file of a join, looked up by key: kept in a temporary file, not in memory."""

import json
import sqlite3
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.bundle import Bundle, ParseRow
from rlhf_core.interchange.decode import decode_object
from rlhf_core.interchange.mapping import Join
from rlhf_core.interchange.readers import BrokenRow, open_rows

KEPT_ROWS = 2_000


class JoinedFile:
    """Rows of a file by the text of one column, which must be unique."""

    def __init__(self, path: Path, column: str) -> None:
        self.name = path.name
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._folder = tempfile.TemporaryDirectory(prefix="rlhf-join-")
        self._index = sqlite3.connect(Path(self._folder.name) / "rows.db")
        self._index.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        self._index.execute("CREATE TABLE r (k TEXT PRIMARY KEY, n INT, v TEXT) WITHOUT ROWID")
        try:
            self._fill(path, column)
        except BaseException:
            self.close()
            raise

    def _fill(self, path: Path, column: str) -> None:
        for chunk in open_rows(path):
            for number, raw in chunk.rows:
                if isinstance(raw, BrokenRow):
                    raise InvalidInput(f"{self.name}, line {number}: {raw.reason}; mend it first.")
                row = decode_object(raw) if isinstance(raw, bytes) else raw
                key = row.get(column)
                if key is None:
                    raise InvalidInput(f"{self.name}, line {number}: {column!r} is empty.")
                entry = (str(key), number, json.dumps(row))
                try:
                    self._index.execute("INSERT INTO r VALUES (?, ?, ?)", entry)
                except sqlite3.IntegrityError:
                    raise InvalidInput(
                        f"{self.name}, line {number}: {column} {key!r} stands there twice; "
                        "join on a column that names each row once."
                    ) from None
        self._index.commit()

    def find(self, key: str) -> dict[str, Any] | None:
        """The row of this key."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        found = self._index.execute("SELECT v FROM r WHERE k = ?", (key,)).fetchone()
        if found is None:
            return None
        row: dict[str, Any] = json.loads(found[0])
        self._kept[key] = row
        if len(self._kept) > KEPT_ROWS:
            self._kept.popitem(last=False)
        return row

    def close(self) -> None:
        """Drop the temporary file."""
        self._index.close()
        self._folder.cleanup()


class JoinedRows:
    """Rows completed with the rows of joined files, then parsed."""

    def __init__(self, joins: tuple[Join, ...], folder: Path, parse: ParseRow) -> None:
        self._parse = parse
        self._files: list[tuple[Join, JoinedFile]] = []
        try:
            for join in joins:
                self._files.append((join, JoinedFile(folder / join.file, join.to)))
        except BaseException:
            self.close()
            raise

    def __call__(self, row: dict[str, Any]) -> Bundle:
        """Parse the row with the joined rows under their names."""
        row = dict(row)
        for join, file in self._files:
            key = row.get(join.on)
            found = None if key is None else file.find(str(key))
            if found is None:
                raise InvalidInput(f"{join.on}: {key!r} is not in {file.name}", field=join.on)
            row[join.name] = found
        return self._parse(row)

    def close(self) -> None:
        """Drop the temporary files."""
        for _join, file in self._files:
            file.close()
