"""The file of a frozen version: one row a line, canonical JSON, named by its own SHA-256.

Canonical: keys in order, no spaces, UTF-8 as it is, so that equal rows are equal bytes.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.artifacts import write_artifact
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.dataset.builder import build_rows
from rlhf_core.dataset.card import CardBuilder
from rlhf_core.dataset.near_duplicates import PromptSketches
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.said import count_refusals
from rlhf_core.dataset.splits import SplitParams, assign_split
from rlhf_core.errors import Conflict, InvalidInput, Unavailable
from rlhf_core.examples import (
    Example,
    PreferencePair,
    PromptOnly,
    ScoredCompletion,
    SftExample,
    SteppedCompletion,
    UnpairedPreference,
)
from rlhf_core.vocabulary import DatasetPurpose, Split

FILE_NAME = "rows.jsonl"
FOLDER = "datasets"
STAGING = ".staging-"
STAGING_AGE_S = 24 * 3600  # longer than any staging: what is older was left by a killed process
NO_PART = b'"split":null'  # inside a text the quotes are escaped, so it stands once in a line
ROW_TYPES: dict[DatasetPurpose, type[Any]] = {
    DatasetPurpose.SCORES: ScoredCompletion,
    DatasetPurpose.PREFERENCES: PreferencePair,
    DatasetPurpose.UNPAIRED: UnpairedPreference,
    DatasetPurpose.PROMPTS: PromptOnly,
    DatasetPurpose.STEPS: SteppedCompletion,
    DatasetPurpose.SFT: SftExample,
}


@dataclass(frozen=True)
class StagedRows:
    """Rows in an artifact that is no version yet. `artifact_path` is below the artifact folder.

    `read_at` is when the reading began, and `num_refusals` how often people had said no by then:
    who withdrew consent since is still among the rows.
    """

    artifact_path: str
    content_hash: str
    purpose: DatasetPurpose
    params: dict[str, Any]
    num_rows: int
    num_groups: int
    left_out: dict[str, int]
    card: dict[str, Any]
    read_at: datetime
    num_refusals: int
    file_name: str = FILE_NAME


def stage_rows(
    db: Session, *, params: DatasetParams, split: SplitParams | None = None
) -> StagedRows:
    """Read the rows into an artifact, line by line; equal rows share one.

    Two passes over the rows: prompts that are nearly the same share a part, and which are, only
    the last row tells. What is kept in memory is a sketch of each prompt, no text.

    Raises:
        Unavailable: the disk is full.
    """
    split = split or SplitParams()
    folder = get_settings().artifact_dir / FOLDER
    read_at, num_refusals = utcnow(), count_refusals(db)
    built = build_rows(db, params=params)
    card = CardBuilder(db, params)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=STAGING) as temporary:
            draft, path = Path(temporary) / "draft.jsonl", Path(temporary) / FILE_NAME
            places, sketches = _write_draft(
                draft, built.rows, card, is_split=split.kept_percent > 0
            )
            parts = _choose_parts(sketches, split)
            content_hash = _write_parts(draft, path, [parts[place] for place in places])
            _keep(path, folder / content_hash, content_hash)
    except OSError as error:
        raise Unavailable(
            f"Cannot write the rows into {folder}: {error.strerror or error}; make room or mend "
            "the folder, then start again."
        ) from error
    return StagedRows(
        artifact_path=f"{FOLDER}/{content_hash}",
        content_hash=content_hash,
        purpose=params.purpose,
        params={**params.to_json(), "split": asdict(split)},
        num_rows=len(places),
        num_groups=len(sketches),
        left_out=built.left_out,
        card=card.finish(
            parts=[parts[place] for place in places],
            left_out=built.left_out,
            near_duplicates=sketches.summary,
            voices=built.voices,
        ),
        read_at=read_at,
        num_refusals=num_refusals,
    )


def open_rows(folder: Path, content_hash: str) -> Path:
    """Verify the rows file of a version and return its path."""
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(
            f"Cannot read {path}: {error.strerror or error}; restore it, or freeze the rows again."
        ) from error
    if found != content_hash:
        raise InvalidInput(
            f"{path} is not the file that was frozen (its SHA-256 differs): restore it, or remove "
            "its folder and freeze the rows again."
        )
    return path


def iterate_rows(path: Path, purpose: DatasetPurpose) -> Iterator[tuple[Example, Split]]:
    """The rows of the file, each with its part."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            record = json.loads(line)
            split = Split(record.pop("split"))
            yield parse_row(record, purpose), split


def parse_row(record: dict[str, Any], purpose: DatasetPurpose) -> Example:
    """A row of what `asdict` wrote of it."""
    if purpose is DatasetPurpose.STEPS:
        record |= {name: tuple(record[name]) for name in ("completions", "labels")}
    row: Example = ROW_TYPES[purpose](**record)
    return row


def _write_draft(
    path: Path, rows: Iterator[Example], card: CardBuilder, *, is_split: bool
) -> tuple["array[int]", PromptSketches]:
    """The lines without their part; returns the place of each row's prompt in the sketches."""
    places = array("I")
    sketches = PromptSketches(is_comparing=is_split)
    with path.open("wb") as file:
        for row in rows:
            file.write(_to_line(row))
            places.append(sketches.add(row.group, row.prompt))
            card.add(row)
    return places, sketches


def _choose_parts(sketches: PromptSketches, split: SplitParams) -> list[Split]:
    """The part of each prompt: one for all that are nearly the same."""
    return [
        assign_split(
            group,
            seed=split.seed,
            test_percent=split.test_percent,
            validation_percent=split.validation_percent,
        )
        for group in sketches.find_leaders()
    ]


def _write_parts(draft: Path, path: Path, parts: list[Split]) -> str:
    """The lines with their parts; returns the SHA-256 of the file."""
    digest = hashlib.sha256()
    named = {part: f'"split":"{part.value}"'.encode() for part in Split}
    with draft.open("rb") as source, path.open("wb") as target:
        for line, part in zip(source, parts, strict=True):
            line = line.replace(NO_PART, named[part], 1)
            digest.update(line)
            target.write(line)
    draft.unlink()
    return digest.hexdigest()


def _to_line(row: Example) -> bytes:
    record = {**asdict(row), "split": None}
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _keep(path: Path, target: Path, content_hash: str) -> None:
    """Make the file an artifact; where equal rows have one already, check that it is sound."""
    try:
        write_artifact(target, lambda folder: _move(path, folder / FILE_NAME))
    except Conflict:
        open_rows(target, content_hash)


def _move(source: Path, target: Path) -> None:
    shutil.move(source, target)


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{STAGING}*"):
        with contextlib.suppress(FileNotFoundError):  # another run has just finished with it
            if time.time() - path.stat().st_mtime > STAGING_AGE_S:
                shutil.rmtree(path, ignore_errors=True)
