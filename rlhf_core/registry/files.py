"""The files of versions: checked on demand, taken out as a zip, counted by what they weigh."""

import hashlib
import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import MANIFEST, ArtifactInfo, open_artifact, read_manifest
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.tables import Model, ModelVersion

CARD_FILE = "MODEL_CARD.md"
CHUNK_BYTES = 2**20
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the same version gives the same bytes


@dataclass(frozen=True)
class ModelStorage:
    """What a model's versions weigh, those with files and those whose files were deleted."""

    model_name: str
    num_versions: int
    num_bytes: int
    num_deleted: int


@dataclass(frozen=True)
class StorageView:
    """Room that models take. `free_bytes` is left on the disk of the artifact folder."""

    models: tuple[ModelStorage, ...]
    num_bytes: int
    free_bytes: int | None


def get_storage(db: Session, *, actor: Actor) -> StorageView:
    """By model, the heaviest first."""
    require(actor, Permission.READ_MODELS)
    is_there = ModelVersion.deleted_at.is_(None)
    rows = db.execute(
        sa.select(
            Model.name,
            sa.func.count().filter(is_there),
            sa.func.coalesce(sa.func.sum(ModelVersion.num_bytes).filter(is_there), 0),
            sa.func.count().filter(~is_there),
        )
        .join(Model, Model.id == ModelVersion.model_id)
        .group_by(Model.name)
    )
    models = sorted(
        (ModelStorage(name, there, int(size), gone) for name, there, size, gone in rows),
        key=lambda model: (-model.num_bytes, model.model_name),
    )
    return StorageView(tuple(models), sum(model.num_bytes for model in models), _find_free())


def check_files(version: ModelVersionView) -> int:
    """Verify every byte of the version; returns how many files there are.

    Raises Unavailable or InvalidInput naming the file that is not as it was registered.
    """
    open_artifact(version.folder, version.manifest_sha256)
    return len(read_manifest(version.folder, version.manifest_sha256))


def begin_download(db: Session, version: ModelVersionView, *, actor: Actor, how: str) -> None:
    """Note in the audit that the actor takes the files out; call it before they leave.

    Raises Forbidden where the actor may not, InvalidInput where the version is deleted.
    """
    require(actor, Permission.EXPORT_DATA)
    if version.deleted_at is not None:
        raise InvalidInput(f"{version.name} is deleted: its files are gone.")
    record_event(
        db, actor=actor, action="model.download", target_kind="model_version",
        target_id=version.id,
        details={"model": version.model_name, "number": version.number, "how": how},
    )  # fmt: skip


def describe_size(num_bytes: int) -> str:
    """`28.3 KiB`, `1.2 GiB`."""
    size, unit = num_bytes / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size < 1000:
            break
        size, unit = size / 1024, larger
    return f"{size:,.1f} {unit}"


def file_stem(version: ModelVersionView) -> str:
    """A name that is safe on every system: `reward-v3`."""
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in version.model_name)
    return f"{name.strip('.') or 'model'}-v{version.number}"


def stream_zip(version: ModelVersionView, *, card: str) -> Iterator[bytes]:
    """The files as they are, the manifest and the card, in one zip, a megabyte at a time.

    Weights do not shrink, so nothing is compressed. All is verified before the first byte leaves;
    a file that changes afterwards breaks the stream off.

    Raises Unavailable or InvalidInput as `check_files` does.
    """
    open_artifact(version.folder, version.manifest_sha256)
    expected = read_manifest(version.folder, version.manifest_sha256)
    stem = file_stem(version)
    out = _Outlet()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_entry(f"{stem}/{CARD_FILE}"), card)
        archive.writestr(_entry(f"{stem}/{MANIFEST}"), (version.folder / MANIFEST).read_bytes())
        for file in expected:
            entry = _entry(f"{stem}/{file.name}", file.num_bytes)
            digest = hashlib.sha256()
            with _open(version.folder / file.name) as source, archive.open(entry, "w") as target:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                    yield out.take()
            if digest.hexdigest() != file.sha256:
                raise InvalidInput(f"{version.folder / file.name} changed while it was read.")
    yield out.take()


def write_zip(version: ModelVersionView, path: Path, *, card: str) -> int:
    """As `stream_zip`, to a file that appears only when it is whole. Returns its bytes."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("xb") as file:
            for chunk in stream_zip(version, card=card):
                file.write(chunk)
        part.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return path.stat().st_size


def relative_path(artifact: ArtifactInfo) -> str:
    """Where the artifact lies below the artifact folder, as the registry keeps it.

    Raises InvalidInput where it lies elsewhere, Unavailable where it is gone.
    """
    root = get_settings().artifact_dir
    try:
        return artifact.path.resolve(strict=True).relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise InvalidInput(
            f"{artifact.path} lies outside the artifact folder {root}: write it there."
        ) from error
    except OSError as error:
        raise Unavailable(f"There is no artifact folder {artifact.path}.") from error


class _Outlet(io.RawIOBase):
    """Keeps what was written until it is taken; it cannot seek, so a zip writes straight on."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "memoryview | bytes") -> int:  # type: ignore[override]
        self._waiting += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


def _entry(name: str, num_bytes: int = 0) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, ZIP_TIME)
    entry.external_attr = 0o644 << 16
    entry.file_size = num_bytes  # known before, so that more than 4 GiB get the wide header
    return entry


def _open(path: Path) -> io.BufferedReader:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def _find_free() -> int | None:
    folder = get_settings().artifact_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
