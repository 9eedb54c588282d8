"""The file of a frozen version: one row a line, canonical JSON, named by its own SHA-256.

Canonical: keys in order, no spaces, UTF-8 as it is, so that equal rows are equal bytes.
"""

import contextlib
import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.artifacts import write_artifact
from rlhf_core.config import get_settings
from rlhf_core.dataset.builder import ScoresParams, build_scores
from rlhf_core.dataset.splits import assign_split
from rlhf_core.errors import Conflict, InvalidInput, Unavailable
from rlhf_core.examples import ScoredCompletion
from rlhf_core.vocabulary import Split

FILE_NAME = "rows.jsonl"
FOLDER = "datasets"
STAGING = ".staging-"
STAGING_AGE_S = 24 * 3600  # longer than any staging: what is older was left by a killed process


@dataclass(frozen=True)
class SplitParams:
    """`test_percent` of the prompts are kept for an examination; which ones, the seed decides."""

    test_percent: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.test_percent <= 50:
            raise InvalidInput(
                f"test_percent {self.test_percent:g}: choose 0 to 50.", field="test_percent"
            )


@dataclass(frozen=True)
class StagedRows:
    """Rows in an artifact that is no version yet. `artifact_path` is below the artifact folder."""

    artifact_path: str
    content_hash: str
    params: dict[str, Any]
    num_rows: int
    num_groups: int
    left_out: dict[str, int]
    card: dict[str, Any]
    file_name: str = FILE_NAME


def stage_scores(
    db: Session, *, params: ScoresParams, split: SplitParams | None = None
) -> StagedRows:
    """Read the rows into an artifact, line by line; equal rows share one.

    Raises Unavailable where the disk is full.
    """
    split = split or SplitParams()
    folder = get_settings().artifact_dir / FOLDER
    built = build_scores(db, params=params)
    groups: set[str] = set()
    scores: list[float] = []
    num_ratings = num_test = 0
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=STAGING) as temporary:
            path = Path(temporary) / FILE_NAME
            with path.open("wb") as file:
                for row in built.rows:
                    part = assign_split(row.group, seed=split.seed, test_percent=split.test_percent)
                    line = _to_line(row, part)
                    digest.update(line)
                    file.write(line)
                    groups.add(row.group)
                    scores.append(row.score)
                    num_ratings += row.num_ratings
                    num_test += part is Split.TEST
            content_hash = digest.hexdigest()
            _keep(path, folder / content_hash, content_hash)
    except OSError as error:
        raise Unavailable(
            f"Cannot write the rows into {folder}: {error.strerror or error}; make room or mend "
            "the folder, then start again."
        ) from error
    return StagedRows(
        artifact_path=f"{FOLDER}/{content_hash}",
        content_hash=content_hash,
        params={**asdict(params), **asdict(split)},
        num_rows=len(scores),
        num_groups=len(groups),
        left_out=built.left_out,
        card={
            "num_ratings": num_ratings,
            "num_test_rows": num_test,
            "mean_score": round(math.fsum(scores) / len(scores), 4) if scores else None,
        },
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


def iterate_rows(path: Path) -> Iterator[tuple[ScoredCompletion, Split]]:
    """The rows of the file, each with its part."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            record = json.loads(line)
            split = Split(record.pop("split"))
            yield ScoredCompletion(**record), split


def _to_line(row: ScoredCompletion, split: Split) -> bytes:
    record = {**asdict(row), "split": split.value}
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
