"""A frozen version as a file: for OpenAI's fine-tuning, for TRL, as a table.

The same version gives the same bytes, wherever it is asked for: the rows file is immutable, and
nothing else goes in. Texts leave as they are; only CSV makes formulas inert, for only there a
spreadsheet would run them.
"""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, assert_never

from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.dataset.export_table import build_columns, to_cells, write_parquet
from rlhf_core.dataset.service import DatasetVersionView, stream_rows
from rlhf_core.errors import InvalidInput
from rlhf_core.examples import (
    Example,
    PreferencePair,
    PromptOnly,
    ScoredCompletion,
    SftExample,
    SteppedCompletion,
    UnpairedPreference,
)
from rlhf_core.vocabulary import DatasetFormat, Split

ACTIVE_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet may read as a formula, the wide forms of East Asian keyboards included."""
SUFFIXES = {
    DatasetFormat.OPENAI_CHAT: "jsonl",
    DatasetFormat.TRL: "jsonl",
    DatasetFormat.PARQUET: "parquet",
    DatasetFormat.CSV: "csv",
}
MEDIA_TYPES = {
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv",
}


def begin_export(
    db: Session,
    *,
    actor: Actor,
    version: DatasetVersionView,
    format: DatasetFormat,
    split: Split | None = None,
) -> None:
    """Note in the audit that the actor takes the rows out; call it before `export_version`.

    Raises:
        Forbidden: the actor may not export data.
    """
    require(actor, Permission.EXPORT_DATA)
    record_event(
        db,
        actor=actor,
        action="dataset.export",
        target_kind="dataset_version",
        target_id=version.id,
        details={"format": format.value, "split": split and split.value, "name": version.name},
    )


def export_version(
    version: DatasetVersionView,
    format: DatasetFormat,
    target: IO[bytes] | Path,
    *,
    split: Split | None = None,
) -> int:
    """Write the rows of one part (None: of all) in their order; returns how many.

    A path appears only when the file is whole.

    Raises:
        Unavailable: the frozen rows are missing.
        InvalidInput: they were changed, or the path cannot be written.
    """
    if not isinstance(target, Path):
        return _write(version, format, target, split)
    part = target.with_name(target.name + ".part")
    try:
        with part.open("wb") as file:
            num_rows = _write(version, format, file, split)
        part.replace(target)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return num_rows


def export_name(
    version: DatasetVersionView, format: DatasetFormat, split: Split | None = None
) -> str:
    """The name of the file, safe on every system: `ratings-v3.test.trl.jsonl`."""
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in version.dataset)
    part = f".{split.value}" if split else ""
    kind = "" if SUFFIXES[format] == format.value else f".{format.value}"
    return f"{name}-v{version.number}{part}{kind}.{SUFFIXES[format]}"


def make_inert(cell: Any) -> Any:
    """A text that a spreadsheet would run as a formula, with an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(ACTIVE_STARTS) else cell


def to_chat(row: Example, split: Split) -> dict[str, Any]:
    """A line for OpenAI's fine-tuning; `feedback` is what people said of the assistant's words.

    It is the score (1..5), "up" or "down", "preferred" (of a pair, the other answer beside it as
    `rejected`), "good" or "correction" (SFT), a label for each step, or None for a mere prompt.
    """
    feedback: Any
    answer: str | None
    metadata: dict[str, Any] = {}
    match row:
        case ScoredCompletion():
            answer, feedback = row.completion, row.score
            metadata = {"num_ratings": row.num_ratings}
            metadata |= {"aspects": dict(row.aspects)} if row.aspects else {}
        case PreferencePair():
            answer, feedback = row.chosen, "preferred"
            metadata = {"rejected": row.rejected, "margin": row.margin, "origin": row.origin}
        case UnpairedPreference():
            answer, feedback = row.completion, "up" if row.label else "down"
        case SteppedCompletion():
            answer, feedback = "\n".join(row.completions), list(row.labels)
            metadata = {"steps": list(row.completions)}
        case SftExample():
            answer, feedback = row.completion, "correction" if row.is_correction else "good"
        case PromptOnly():
            answer, feedback = None, None
    messages = [{"role": "user", "content": row.prompt}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    segments = dict(sorted(row.segments.items()))
    action_type = segments.pop("action_type", None)
    known = {"feedback": feedback, "action_type": action_type, **metadata, **segments}
    return {"messages": messages, "metadata": known | {"split": split.value}}


def to_trl(row: Example) -> dict[str, Any]:
    """The columns of TRL's dataset types and nothing else; scores have no type there.

    The label of a step that nobody judged is null.
    """
    match row:
        case ScoredCompletion():
            return {"prompt": row.prompt, "completion": row.completion, "score": row.score}
        case PreferencePair():
            texts = {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
            return texts | {"margin": row.margin}
        case UnpairedPreference():
            return {"prompt": row.prompt, "completion": row.completion, "label": row.label}
        case SteppedCompletion():
            steps = {"completions": list(row.completions), "labels": list(row.labels)}
            return {"prompt": row.prompt} | steps
        case SftExample():
            return {"prompt": row.prompt, "completion": row.completion}
        case PromptOnly():
            return {"prompt": row.prompt}


def _write(
    version: DatasetVersionView, format: DatasetFormat, out: IO[bytes], split: Split | None
) -> int:
    match format:
        case DatasetFormat.OPENAI_CHAT:
            return _write_lines(out, (_to_line(to_chat(*row)) for row in _rows(version, split)))
        case DatasetFormat.TRL:
            return _write_lines(out, (_to_line(to_trl(row)) for row, _ in _rows(version, split)))
        case DatasetFormat.CSV:
            return _write_lines(out, _csv_lines(version, split)) - 1
        case DatasetFormat.PARQUET:
            columns = build_columns(row for row, _ in stream_rows(version))
            return write_parquet(out, columns, _rows(version, split))
        case _:
            assert_never(format)


def _rows(version: DatasetVersionView, split: Split | None) -> Iterator[tuple[Example, Split]]:
    return ((row, part) for row, part in stream_rows(version) if split is None or part is split)


def _write_lines(out: IO[bytes], lines: Iterator[bytes]) -> int:
    count = 0
    for line in lines:
        out.write(line)
        count += 1
    return count


def _to_line(data: dict[str, Any]) -> bytes:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _csv_lines(version: DatasetVersionView, split: Split | None) -> Iterator[bytes]:
    columns = build_columns(row for row, _ in stream_rows(version))
    yield _csv_line([column.name for column in columns])
    for row, part in _rows(version, split):
        cells = to_cells(row, part, columns)
        yield _csv_line([_flat(cell) for cell in cells])


def _flat(cell: Any) -> Any:
    """Lists as JSON, truth as the words true and false: a cell holds one thing."""
    if isinstance(cell, bool):
        return str(cell).lower()
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list) else cell


def _csv_line(cells: list[Any]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow([make_inert(cell) for cell in cells])
    return out.getvalue().encode()
