"""Folders of model files: written whole or not at all, opened only when every byte is as it was.

Neither safetensors nor joblib notices a flipped bit, and both destroy the old file on a full
disk. So an artifact is filled in a temporary folder beside its place, gets a manifest with the
SHA-256 of each file, is flushed to the disk and then renamed. An artifact never changes: its
registered manifest hash would no longer fit.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rlhf_core.errors import Conflict, InvalidInput, Unavailable

MANIFEST = "manifest.json"
MANIFEST_MAX_BYTES = 16 * 1024 * 1024
LEFTOVER_SUFFIX = ".partial"
LEFTOVER_AGE_S = 24 * 3600
LATELY_S = 300.0
MAX_LATELY = 64
_Marks = tuple[tuple[str, ...], ...]
_lately: dict[tuple[Path, str], tuple[_Marks, float]] = {}
"""What was verified in full: the files' marks before that, and when (monotonic)."""
_lately_lock = threading.Lock()


@dataclass(frozen=True)
class ArtifactInfo:
    """A written artifact. `manifest_sha256` (hex) is what makes its files trusted later."""

    path: Path
    manifest_sha256: str
    num_bytes: int


@dataclass(frozen=True)
class ArtifactFile:
    """A file of an artifact: name relative to its folder (POSIX), SHA-256 in hex, bytes."""

    name: str
    sha256: str
    num_bytes: int


def write_artifact(target_dir: Path, fill: Callable[[Path], None]) -> ArtifactInfo:
    """Make the folder `target_dir` of what `fill(folder)` writes; all of it or nothing.

    Raises Conflict if `target_dir` exists (an artifact never changes: name another folder, such
    as one with the run's attempt in it), Unavailable if the disk is full or refuses, InvalidInput
    if `fill` leaves no file, a link, or a manifest of its own. What `fill` raises goes through.
    """
    target_dir = target_dir.absolute()
    if target_dir.exists() or target_dir.is_symlink():
        raise _exists(target_dir)
    with _translated(target_dir):
        target_dir.parent.mkdir(parents=True, exist_ok=True)
        _remove_old_leftovers(target_dir)
        token = secrets.token_hex(6)
        partial = target_dir.with_name(f".{target_dir.name}.{token}{LEFTOVER_SUFFIX}")
        partial.mkdir()
        try:
            fill(partial)
            files = [_describe(path, partial) for path in _list_files(partial)]
            manifest = _write_manifest(partial, files)
            _flush(partial)
            partial.rename(target_dir)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _flush_one(target_dir.parent)
    return ArtifactInfo(
        path=target_dir,
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        num_bytes=sum(file.num_bytes for file in files),
    )


def open_artifact(path: Path, manifest_sha256: str) -> Path:
    """Verify every byte of the artifact and return its folder: the one door to a model's files.

    Raises Unavailable if the folder or a file cannot be read, InvalidInput if the manifest is
    another one, or a file is changed, missing, additional or a link. The message names the file.
    """
    expected = {file.name: file for file in read_manifest(path, manifest_sha256)}
    with _reading(path):
        found = {_name(file, path): file for file in _list_files(path)}
        found.pop(MANIFEST, None)
        for name in sorted(set(expected) - set(found)):
            raise InvalidInput(f"{path / name} is missing: restore it, or train the version again.")
        for name in sorted(set(found) - set(expected)):
            raise InvalidInput(f"{path / name} does not belong to this artifact: remove it.")
        for name, file in found.items():
            if _describe(file, path) != expected[name]:
                raise InvalidInput(
                    f"{file} is not the file that was registered (its SHA-256 or size differs): "
                    "restore it, or train the version again."
                )
    return path


def open_lately(path: Path, manifest_sha256: str) -> Path:
    """As `open_artifact`, but what was verified some minutes ago is not read again.

    Only for decisions that hold a lock while they wait. Files that were touched since (size, times
    or inode of any) are read; who loads a model calls `open_artifact`.
    """
    read_manifest(path, manifest_sha256)
    key, marks = (path, manifest_sha256), _read_marks(path)
    with _lately_lock:
        known = _lately.get(key)
    if known and known[0] == marks and time.monotonic() - known[1] < LATELY_S:
        return path
    open_artifact(path, manifest_sha256)
    with _lately_lock:
        _lately.pop(key, None)
        _lately[key] = (marks, time.monotonic())  # marks of before the reading
        if len(_lately) > MAX_LATELY:
            _lately.pop(next(iter(_lately)))
    return path


def _read_marks(path: Path) -> _Marks:
    """What changes when anybody touches a file of the folder."""
    with _reading(path):
        found = [(_name(file, path), file.lstat()) for file in _list_files(path)]
    names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev")
    return tuple((name, *(str(getattr(mark, each)) for each in names)) for name, mark in found)


def read_manifest(path: Path, manifest_sha256: str) -> tuple[ArtifactFile, ...]:
    """What the artifact should hold, by name. Only the manifest itself is verified."""
    if path.is_symlink() or not path.is_dir():
        raise Unavailable(f"There is no artifact folder {path}: restore it, or train again.")
    with _reading(path / MANIFEST):
        handle = os.open(path / MANIFEST, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            text = file.read(MANIFEST_MAX_BYTES + 1)
    if len(text) > MANIFEST_MAX_BYTES or hashlib.sha256(text).hexdigest() != manifest_sha256:
        raise InvalidInput(
            f"{path / MANIFEST} is not the manifest that was registered: restore the folder."
        )
    files = json.loads(text)["files"]
    for name in files:
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name or not name:
            raise InvalidInput(f"{path / MANIFEST} names {name!r}, which is outside its folder.")
    return tuple(
        ArtifactFile(name=name, sha256=entry["sha256"], num_bytes=entry["num_bytes"])
        for name, entry in sorted(files.items())
    )


def _write_manifest(folder: Path, files: list[ArtifactFile]) -> bytes:
    if not files:
        raise InvalidInput("The artifact has no file: nothing was written.")
    if any(file.name == MANIFEST for file in files):
        raise InvalidInput(f"{MANIFEST} is the artifact's own: name the file otherwise.")
    entries = {file.name: {"sha256": file.sha256, "num_bytes": file.num_bytes} for file in files}
    manifest = json.dumps({"format": 1, "files": entries}, indent=1, sort_keys=True).encode()
    (folder / MANIFEST).write_bytes(manifest)
    return manifest


def _list_files(folder: Path) -> Iterator[Path]:
    """Every file below, without following links; anything but folders and files is refused."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from _list_files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)
        else:
            raise InvalidInput(f"{entry.path} is a link or no plain file: remove it.")


def _describe(path: Path, folder: Path) -> ArtifactFile:
    """Hash one file in constant memory; a link put in its place meanwhile is not followed."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"{path} is no plain file: remove it.")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactFile(name=_name(path, folder), sha256=digest, num_bytes=status.st_size)


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _flush(folder: Path) -> None:
    for root, _, names in os.walk(folder, topdown=False):
        for name in names:
            _flush_one(Path(root, name))
        _flush_one(Path(root))


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_old_leftovers(target_dir: Path) -> None:
    """Remove what killed writers of this target left behind. A day is longer than any writing."""
    for path in target_dir.parent.glob(f".{target_dir.name}.*{LEFTOVER_SUFFIX}"):
        with suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - path.lstat().st_mtime > LEFTOVER_AGE_S:
                shutil.rmtree(path, ignore_errors=True)


def _exists(target_dir: Path) -> Conflict:
    return Conflict(f"{target_dir} exists already, and an artifact never changes: name another.")


@contextmanager
def _translated(target_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise _exists(target_dir) from error
        raise Unavailable(
            f"Cannot write {target_dir}: {error.strerror or error}. Nothing was left behind; "
            "make room or mend the folder, then start again."
        ) from error


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InvalidInput(f"{error.filename or path} is a link: remove it.") from error
        raise Unavailable(
            f"Cannot read {error.filename or path}: {error.strerror or error}."
        ) from error
