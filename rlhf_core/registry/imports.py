"""Folders from elsewhere as artifacts: only plain data comes in, and every byte of it is known.

Loading a pickle runs whatever its maker wrote into it, so a folder that holds one, or code, is
refused before anything of it is read as a model. Whoever imports has the copy opened once
(`jobs.model_exchange`) before it is registered.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import (
    MANIFEST,
    ArtifactInfo,
    open_artifact,
    read_manifest,
    write_artifact,
)
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.registry.files import CARD_FILE
from rlhf_core.registry.service import register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import ModelKind

FOLDER = "imported"
ALLOWED = {
    ".safetensors", ".skops", ".json", ".jsonl", ".txt", ".md", ".model", ".jinja", ".vocab",
    ".merges", ".tiktoken",
}  # fmt: skip
"""Files that are data only. What else a model may come as can run code when it is loaded."""
ALLOWED_NAMES = {"LICENSE", "LICENCE", "NOTICE", ".gitattributes", ".gitignore"}
LEFT_BEHIND = {CARD_FILE, "README.md", ".gitattributes", ".gitignore"}
"""Not part of the model: it would only make the same weights another version."""
MAX_FILES = 2_000
MAX_WALKED = 5_000  # folders below the import folder
WEIGHTS = (".safetensors", ".skops")
MAX_JSON_BYTES = 256 * 2**20
PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
CODE_KEYS = ("auto_map", "trust_remote_code", "custom_pipelines")
"""By these a configuration names Python code to be run."""


@dataclass(frozen=True)
class StagedModel:
    """A copy in the artifact folder, not registered yet. `source` is the folder's name."""

    kind: ModelKind
    artifact: ArtifactInfo
    source: str


def stage_folder(folder: Path, *, kind: ModelKind, inside: Path | None = None) -> StagedModel:
    """Copy a model's folder into the artifact folder, if it holds nothing but data.

    A `manifest.json` in it must fit every file; without one a manifest is made. `inside` is the
    folder below which the model has to lie.

    Raises:
        InvalidInput: the folder holds code, a pickle, a link, files that do not fit the manifest,
            or lies elsewhere.
        Unavailable: it cannot be read, or the copy not written.
    """
    folder = _find_folder(folder, inside)
    try:
        files = _list_files(folder)
        for path in files:
            _refuse_code(path, folder)
        expected = _read_manifest(folder)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be read: {error.strerror or error}.") from error
    wanted = [path for path in files if path.name not in LEFT_BEHIND | {MANIFEST}]
    target = get_settings().artifact_dir / FOLDER / new_id().hex
    artifact = write_artifact(target, lambda part: _copy(wanted, folder, part))
    staged = StagedModel(kind, artifact, folder.name)
    try:
        if expected is not None:
            _compare(artifact, expected, folder)
    except BaseException:
        discard(staged)
        raise
    return staged


def register_imported(
    db: Session, staged: StagedModel, *, actor: Actor, model_name: str, notes: str = ""
) -> ModelVersionView:
    """Register the copy, which has been opened, as the next version of `model_name`."""
    from rlhf_core.registry.labels import set_notes

    require(actor, Permission.RUN_JOBS)
    report = TrainReport(
        artifact_dir=staged.artifact.path,
        metrics={},
        params={},
        seed=0,
        num_rows=0,
        details={"imported_from": staged.source},
    )
    version = register_version(
        db,
        actor=actor,
        model_name=model_name,
        kind=staged.kind,
        report=report,
        artifact=staged.artifact,
    )
    if notes.strip():
        set_notes(db, version.id, actor=actor, notes=notes)
    return version


def discard(staged: StagedModel) -> None:
    """Remove a copy that is not registered."""
    shutil.rmtree(staged.artifact.path, ignore_errors=True)


def list_importable(*, limit: int = 100) -> list[str]:
    """Folders below the configured import folder that hold files, by their path below it.

    What cannot be read is left out, and of a huge tree only the beginning is looked through.
    """
    root = import_root()
    if root is None:
        return []
    found: list[str] = []
    for folder, inner, names in islice(os.walk(root), MAX_WALKED):  # passes over errors and links
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if Path(folder) != root and any(Path(name).suffix in WEIGHTS for name in names):
            found.append(Path(folder).relative_to(root).as_posix())
            if len(found) >= limit:
                break
    return found


def import_root() -> Path | None:
    """The configured import folder; None where none is set or it is not there."""
    text = get_settings().model_import_dir
    root = Path(text).expanduser() if text else None
    return root.resolve() if root is not None and root.is_dir() else None


def _find_folder(folder: Path, inside: Path | None) -> Path:
    given = folder.expanduser()
    if given.is_symlink():
        raise InvalidInput(f"{given} is a link: name the folder itself.", field="folder")
    resolved = given.resolve()
    if inside is not None and not resolved.is_relative_to(inside.resolve()):
        raise InvalidInput(
            f"{folder} lies outside the import folder {inside}: put it there.", field="folder"
        )
    if not resolved.is_dir():
        raise InvalidInput(f"There is no folder {given}.", field="folder")
    if resolved.is_relative_to(get_settings().artifact_dir):
        raise InvalidInput(
            f"{given} lies in the artifact folder already: promote the version that it belongs to.",
            field="folder",
        )
    return resolved


def _list_files(folder: Path) -> list[Path]:
    found: list[Path] = []
    for path in _walk(folder):
        if path.is_symlink() or not path.is_file():
            raise InvalidInput(f"{path} is a link or no plain file: remove it.", field="folder")
        found.append(path)
        if len(found) > MAX_FILES:
            raise InvalidInput(
                f"{folder} holds more than {MAX_FILES:,} files: name the model's own folder.",
                field="folder",
            )
    if not found:
        raise InvalidInput(f"{folder} is empty.", field="folder")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name == ".git" or (path.name == ".cache" and path.is_dir()):
            continue  # what `git clone` and the hub's downloads leave beside the model
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _refuse_code(path: Path, folder: Path) -> None:
    """Raise InvalidInput where the file is, or may hide, something that runs when it is loaded."""
    name = path.relative_to(folder).as_posix()
    if path.suffix.lower() not in ALLOWED and path.name not in ALLOWED_NAMES:
        raise InvalidInput(
            f"{name} may run code when it is loaded: only safetensors, skops, JSON and text files "
            "are taken. Convert the weights to safetensors and leave code out.",
            field="folder",
        )
    with path.open("rb") as file:
        start = file.read(8)
    is_sound = True
    match path.suffix.lower():
        case ".safetensors":
            is_sound = _has_safetensors_header(path, start)
        case ".skops":
            is_sound = zipfile.is_zipfile(path)
        case ".json" if path.name != MANIFEST:
            is_sound = _check_json(path, name)
        case ".jinja" | ".model" | ".tiktoken":
            is_sound = not start.startswith(PICKLE_STARTS)
        case _:
            is_sound = not start.startswith((*PICKLE_STARTS, b"PK\x03\x04", b"\x7fELF", b"MZ"))
    if not is_sound:
        raise InvalidInput(
            f"{name} does not hold what its name says: it is not taken.", field="folder"
        )


def _has_safetensors_header(path: Path, start: bytes) -> bool:
    length = int.from_bytes(start, "little")
    if len(start) < 8 or not 2 <= length <= min(path.stat().st_size - 8, 100_000_000):
        return False
    with path.open("rb") as file:
        file.seek(8)
        try:
            return isinstance(json.loads(file.read(length)), dict)
        except ValueError:
            return False


def _check_json(path: Path, name: str) -> bool:
    if path.stat().st_size > MAX_JSON_BYTES:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    named = [key for key in CODE_KEYS if isinstance(content, Mapping) and content.get(key)]
    if named:
        raise InvalidInput(
            f"{name} names code of its own ({', '.join(named)}), which is never run here: use a "
            "model that transformers itself knows.",
            field="folder",
        )
    return True


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the folder's own manifest says of its files; None where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {file.name: file for file in read_manifest(folder, digest)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"{path} is no manifest ({type(error).__name__}): remove it, or take the folder out "
            "again.",
            field="folder",
        ) from error


def _copy(files: list[Path], folder: Path, target: Path) -> None:
    for path in files:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place, follow_symlinks=False)


def _compare(artifact: ArtifactInfo, expected: dict[str, Any], folder: Path) -> None:
    """The copy holds exactly what the folder's manifest names."""
    open_artifact(artifact.path, artifact.manifest_sha256)
    copied = {one.name: one for one in read_manifest(artifact.path, artifact.manifest_sha256)}
    wanted = {name: one for name, one in expected.items() if Path(name).name not in LEFT_BEHIND}
    for name in sorted(copied.keys() | wanted.keys()):
        if copied.get(name) != wanted.get(name):
            raise InvalidInput(
                f"{folder / name} is not the file that {MANIFEST} names: take the folder out "
                "again.",
                field="folder",
            )
