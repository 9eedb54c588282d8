"""Files into numbered raw rows, in constant memory. What a row says is not looked at here.

A row that cannot be cut out (ragged, not UTF-8, too long) comes as a `BrokenRow` with the reason.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.bundle import RawRow

MAX_LINE_BYTES = 32_000_000
CHUNK_BYTES = 500_000
PARQUET_ROWS = 500
DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that is no row, with the reason."""

    reason: str
    raw: RawRow


@dataclass(slots=True)
class Chunk:
    """Some rows with their line numbers; `done` of the file (0..1) is read after it."""

    rows: list[tuple[int, RawRow | BrokenRow]]
    done: float


def open_rows(path: Path, kind: str | None = None) -> Iterator[Chunk]:
    """All rows of a JSONL, CSV or Parquet file, chunk by chunk; `kind` as `table_kind` tells it.

    JSONL rows are bytes, others are dicts of cells. Blank lines are passed over.

    Raises:
        InvalidInput: the file cannot be read, has no header, or is no Parquet.
    """
    kind = kind or table_kind(path)
    try:
        if kind == "parquet":
            yield from _parquet_chunks(path)
        elif kind == "csv":
            yield from _csv_chunks(path)
        else:
            yield from jsonl_chunks(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}.") from error


def table_kind(path: Path) -> str:
    """`jsonl`, `csv` or `parquet`, by the file's name."""
    suffix = path.suffix.lower()
    if suffix in {".csv", ".tsv"}:
        return "csv"
    return "parquet" if suffix in {".parquet", ".pq"} else "jsonl"


def jsonl_chunks(path: Path) -> Iterator[Chunk]:
    """The lines of a file as bytes."""
    with path.open("rb") as file:
        total = max(path.stat().st_size, 1)
        rows: list[tuple[int, RawRow | BrokenRow]] = []
        size = 0
        for number, line in _lines(file):
            rows.append((number, line))
            size += 100 if isinstance(line, BrokenRow) else len(line)
            if size >= CHUNK_BYTES:
                yield Chunk(rows, min(file.tell() / total, 1.0))
                rows, size = [], 0
        if rows:
            yield Chunk(rows, 1.0)


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes | BrokenRow]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
                pass
            reason = f"is too large: the limit of a line is {MAX_LINE_BYTES:,} bytes"
            yield number, BrokenRow(reason, line[:1000])
        elif line.strip():
            yield number, line


def _csv_chunks(path: Path) -> Iterator[Chunk]:
    csv.field_size_limit(MAX_LINE_BYTES)
    total = max(path.stat().st_size, 1)
    with path.open("rb") as raw:
        # A byte that is no UTF-8 becomes a lone surrogate, so that it costs its own row only.
        text = io.TextIOWrapper(raw, "utf-8-sig", errors="surrogateescape", newline="")
        reader = csv.reader(text, delimiter=_delimiter(path))
        header = _header(next(reader, None), path)
        rows: list[tuple[int, RawRow | BrokenRow]] = []
        size = 0
        while True:
            start = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                rows.append((start, BrokenRow(f"is no CSV: {error}", "")))
                continue
            if cells is None:
                break
            if not cells:
                continue
            rows.append((start, _csv_row(header, cells)))
            size += sum(map(len, cells)) + 50
            if size >= CHUNK_BYTES:
                yield Chunk(rows, min(raw.tell() / total, 1.0))
                rows, size = [], 0
        if rows:
            yield Chunk(rows, 1.0)


def _header(header: list[str] | None, path: Path) -> list[str]:
    if not header or not any(name.strip() for name in header):
        raise InvalidInput(f"{path.name} has no header: the first line of a CSV names the columns.")
    names = [name.strip() for name in header]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidInput(f"{path.name} has the column {doubled[0]!r} twice; rename one.")
    return names


def _csv_row(header: list[str], cells: list[str]) -> RawRow | BrokenRow:
    if len(cells) != len(header):
        reason = f"is ragged: {len(cells)} cells, the header has {len(header)}"
        return BrokenRow(reason, cells)
    for cell in cells:
        if not cell.isascii() and any("\udc80" <= c <= "\udcff" for c in cell):
            return BrokenRow("is not UTF-8", cells)
    return {name: cell or None for name, cell in zip(header, cells, strict=True)}


def _delimiter(path: Path) -> str:
    with path.open("rb") as file:
        first = file.readline(100_000).decode("utf-8", errors="replace")
    return max(DELIMITERS, key=first.count)


def _parquet_chunks(path: Path) -> Iterator[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
            total = max(file.metadata.num_rows, 1)
            number = 0
            for batch in file.iter_batches(batch_size=PARQUET_ROWS, use_threads=False):
                rows: list[tuple[int, RawRow | BrokenRow]] = []
                for row in batch.to_pylist():
                    number += 1
                    rows.append((number, {str(k): _plain(v) for k, v in row.items()}))
                yield Chunk(rows, number / total)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInput(f"{path.name} is no Parquet file: {error}.") from error


def _plain(value: Any) -> Any:
    """A Parquet value as JSON has it."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")  # refused as text later
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


def preview_rows(
    path: Path, count: int, decode: Callable[[bytes], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The first rows that can be read, at most `count`, as dicts."""
    found: list[dict[str, Any]] = []
    for chunk in open_rows(path):
        for _number, raw in chunk.rows:
            if isinstance(raw, BrokenRow):
                continue
            try:
                found.append(decode(raw) if isinstance(raw, bytes) else raw)
            except InvalidInput:
                continue
            if len(found) == count:
                return found
        if chunk.rows and chunk.rows[-1][0] > 100 * count:
            break
    return found
