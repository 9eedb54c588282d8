"""Checkpoints of a training run: written whole or not at all, resumed from the newest sound one.

A flipped bit in a weight file loads without complaint and a missing optimizer file resumes in
silence. So a checkpoint is filled in a hidden folder, gets a manifest with the SHA-256 of each
file, is flushed to the disk and then renamed: the name is the mark of completion. The one before
is kept until a later one stands.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rlhf_core.errors import InvalidInput, Unavailable

MANIFEST = "manifest.json"
MANIFEST_MAX_BYTES = 1024 * 1024
PARTIAL = ".partial"
_NAME = re.compile(r"step-(\d{9})")


class Checkpoint(NamedTuple):
    """A checkpoint whose every byte was verified: steps done, and the folder of its files."""

    step: int
    path: Path


def save_checkpoint(
    folder: Path, step: int, fill: Callable[[Path], None], *, keep: int = 2
) -> Checkpoint:
    """Make a checkpoint after `step` steps (0 to 999,999,999) of what `fill(path)` writes.

    The `keep` newest up to `step` are kept; later ones, which a run that goes on from here must
    have found damaged, push none of these out. One of the same step is replaced. One process at a
    time may write into `folder`.

    Raises Unavailable if the disk is full or refuses: nothing new is left behind then, and the
    checkpoint before is intact. What `fill` raises goes through.
    """
    if not 0 <= step < 10**9 or keep < 1:
        raise InvalidInput(f"step {step} and keep {keep}: choose 0 to 999999999, and 1 or more.")
    target = folder / f"step-{step:09d}"
    partial = folder / f".{target.name}.{secrets.token_hex(6)}{PARTIAL}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_partials(folder)
        partial.mkdir()
        fill(partial)
        files = {name: _describe(partial / name) for name in _list_names(partial)}
        manifest = json.dumps({"step": step, "files": files}, indent=1, sort_keys=True)
        (partial / MANIFEST).write_text(manifest)
        _flush(partial)
        if target.exists():
            target.rename(partial.with_name(f".{target.name}.{secrets.token_hex(6)}{PARTIAL}"))
        partial.rename(target)
        _flush_one(folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if is_disk_error(error):
            raise Unavailable(
                f"The checkpoint {target} could not be written ({_reason(error)}): make room or "
                "mend the folder, then start again; the checkpoint before it is intact."
            ) from error
        raise
    _remove_partials(folder)
    for old in [known for known in _list_steps(folder) if known <= step][:-keep]:
        shutil.rmtree(folder / f"step-{old:09d}", ignore_errors=True)
    return Checkpoint(step, target)


def find_checkpoint(folder: Path, log: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole, to the byte; None where there is none.

    `log` is told of each one that is refused, and why.
    """
    steps = _list_steps(folder)
    for place, step in enumerate(reversed(steps)):
        path = folder / f"step-{step:09d}"
        flaw = _find_flaw(path, step)
        if flaw is None:
            return Checkpoint(step, path)
        is_last = place == len(steps) - 1
        then = "there is none before it" if is_last else "trying the one before it"
        log(f"The checkpoint of step {step} is refused: {flaw}; {then}.")
    return None


def open_checkpoint(folder: Path, step: int, log: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint of that step, if it is whole, to the byte; else `log` is told why not."""
    path = folder / f"step-{step:09d}"
    flaw = _find_flaw(path, step)
    if flaw is None:
        return Checkpoint(step, path)
    log(f"The checkpoint of step {step} is refused: {flaw}.")
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints, after the run that they were for has left its model."""
    for step in _list_steps(folder):
        shutil.rmtree(folder / f"step-{step:09d}", ignore_errors=True)
    _remove_partials(folder)


def is_disk_error(error: BaseException) -> bool:
    """Whether the system refused to write, also where a library (safetensors) words it its way."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return isinstance(error, OSError) or (
        isinstance(error, Exception) and any(os.strerror(one) in str(error) for one in full)
    )


def _list_steps(folder: Path) -> list[int]:
    """The steps of the finished checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return sorted(int(name[1]) for name in found if name)


def _find_flaw(path: Path, step: int) -> str | None:
    """What is wrong with a checkpoint; None where every file is as it was written."""
    try:
        handle = os.open(path / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            manifest = json.loads(file.read(MANIFEST_MAX_BYTES))
        expected = dict(manifest["files"])
        if manifest["step"] != step:
            return f"its manifest is of step {manifest['step']}"
        found = [name for name in _list_names(path) if name != MANIFEST]
        for name in sorted({*expected, *found}):
            if name not in found:
                return f"{name} is missing"
            if name not in expected:
                return f"{name} does not belong to it"
            if _describe(path / name) != expected[name]:
                return f"{name} is not what was written (its size or SHA-256 differs)"
    except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
        return f"it cannot be read ({_reason(error)})"
    return None


def _list_names(path: Path) -> Iterator[str]:
    """Names of the plain files of a checkpoint, which has no folders and no links."""
    for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
        if not entry.is_file(follow_symlinks=False):
            raise InvalidInput(f"{entry.path} is no plain file")
        yield entry.name


def _describe(path: Path) -> dict[str, str | int]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "num_bytes": os.fstat(file.fileno()).st_size}


def _flush(path: Path) -> None:
    for name in _list_names(path):
        _flush_one(path / name)
    _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_partials(folder: Path) -> None:
    """Remove what a killed run left half written, and a replaced checkpoint."""
    for path in folder.glob(f".step-*{PARTIAL}"):
        shutil.rmtree(path, ignore_errors=True)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
