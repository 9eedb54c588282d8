"""What callers see of models, their versions and the moves of an alias."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.config import get_settings
from rlhf_core.store.tables import (
    Account,
    Dataset,
    DatasetVersion,
    Model,
    ModelAlias,
    ModelAliasChange,
    ModelVersion,
)
from rlhf_core.vocabulary import Alias, ModelKind


@dataclass(frozen=True)
class ModelVersionView:
    """A trained model. `artifact_path` is relative to the artifact folder, `dataset` a name.

    `metrics` are flat numbers; `details["num_rows"]` counts the rows it was trained on;
    `aliases` are the pointers that name this version now.
    """

    id: uuid.UUID
    model_id: uuid.UUID
    model_name: str
    kind: ModelKind
    number: int
    job_id: uuid.UUID | None
    dataset_version_id: uuid.UUID | None
    dataset: str | None
    dataset_hash: str | None
    artifact_path: str
    manifest_sha256: str
    num_bytes: int
    params: dict[str, Any]
    metrics: dict[str, float]
    details: dict[str, Any]
    seed: int
    library_versions: dict[str, str]
    notes: str | None
    created_by: str | None
    created_at: datetime
    deleted_at: datetime | None
    aliases: tuple[Alias, ...]
    tags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it: `reward v3`."""
        return f"{self.model_name} v{self.number}"

    @property
    def is_policy(self) -> bool:
        """Whether it answers, here or on another server; else it judges."""
        return self.kind in (ModelKind.POLICY, ModelKind.POLICY_REMOTE)

    @property
    def folder(self) -> Path:
        """Where its files lie. Open them with `artifacts.open_artifact` only."""
        return get_settings().artifact_dir / self.artifact_path


@dataclass(frozen=True)
class AliasView:
    """Where an alias points. `revision` counts its moves; a move names the one it expects."""

    model_name: str
    alias: Alias
    version_id: uuid.UUID | None
    number: int | None
    revision: int


@dataclass(frozen=True)
class AliasChangeView:
    """One move of an alias. Numbers are version numbers; None: it pointed nowhere."""

    model_name: str
    alias: Alias
    revision: int
    from_version_id: uuid.UUID | None
    from_number: int | None
    to_version_id: uuid.UUID | None
    to_number: int | None
    reason: str | None
    evidence: dict[str, Any] | None
    changed_by: str | None
    changed_at: datetime

    @property
    def is_roll_back(self) -> bool:
        """Whether the move went back."""
        return bool((self.evidence or {}).get(ROLLED_BACK))


ROLLED_BACK = "rolled_back"


def load_versions(db: Session, *conditions: sa.ColumnElement[bool]) -> list[ModelVersionView]:
    """The versions that fit, newest first by model."""
    statement = (
        sa.select(ModelVersion, Model, Account.name, Dataset.name, DatasetVersion.number)
        .join(Model, Model.id == ModelVersion.model_id)
        .outerjoin(Account, Account.id == ModelVersion.created_by)
        .outerjoin(DatasetVersion, DatasetVersion.id == ModelVersion.dataset_version_id)
        .outerjoin(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(*conditions)
        .order_by(Model.name, ModelVersion.number.desc())
    )
    rows = db.execute(statement).all()
    pointers: dict[uuid.UUID | None, list[Alias]] = {}
    for version_id, alias in db.execute(
        sa.select(ModelAlias.version_id, ModelAlias.alias).where(
            ModelAlias.version_id.in_([row[0].id for row in rows])
        )
    ):
        pointers.setdefault(version_id, []).append(alias)
    return [
        ModelVersionView(
            id=version.id,
            model_id=model.id,
            model_name=model.name,
            kind=version.kind,
            number=version.number,
            job_id=version.job_id,
            dataset_version_id=version.dataset_version_id,
            dataset=None if dataset is None else f"{dataset} v{dataset_number}",
            dataset_hash=version.dataset_hash,
            artifact_path=version.artifact_path,
            manifest_sha256=version.manifest_sha256,
            num_bytes=version.num_bytes,
            params=version.params,
            metrics=version.metrics,
            details=version.details or {},
            seed=version.seed,
            library_versions=version.library_versions,
            notes=version.notes,
            created_by=account,
            created_at=version.created_at,
            deleted_at=version.deleted_at,
            aliases=tuple(sorted(pointers.get(version.id, ()))),
            tags=tuple(version.tags or ()),
        )
        for version, model, account, dataset, dataset_number in rows
    ]


def load_changes(
    db: Session, *conditions: sa.ColumnElement[bool], limit: int | None = None
) -> Sequence[AliasChangeView]:
    """The moves that fit, the latest first."""
    left, right = aliased(ModelVersion), aliased(ModelVersion)
    statement = (
        sa.select(ModelAliasChange, Model.name, left.number, right.number, Account.name)
        .join(Model, Model.id == ModelAliasChange.model_id)
        .outerjoin(left, left.id == ModelAliasChange.from_version_id)
        .outerjoin(right, right.id == ModelAliasChange.to_version_id)
        .outerjoin(Account, Account.id == ModelAliasChange.changed_by)
        .where(*conditions)
        .order_by(Model.name, ModelAliasChange.revision.desc())
        .limit(limit)
    )
    return [
        AliasChangeView(
            model_name=model_name,
            alias=change.alias,
            revision=change.revision,
            from_version_id=change.from_version_id,
            from_number=from_number,
            to_version_id=change.to_version_id,
            to_number=to_number,
            reason=change.reason,
            evidence=change.evidence,
            changed_by=account,
            changed_at=change.changed_at,
        )
        for change, model_name, from_number, to_number, account in db.execute(statement)
    ]


def find_previous(db: Session, model_id: uuid.UUID, alias: Alias) -> uuid.UUID | None:
    """Where a roll back leads: a promotion puts a version on a pile, a roll back takes some off.

    Deleted versions are passed over. None where nothing else was named before.
    """
    below, _ = _read_pile(db, model_id, alias)
    return next(iter(below), None)


def list_earlier(db: Session, model_id: uuid.UUID, alias: Alias) -> list[uuid.UUID]:
    """Every version that the alias has named and does not name now, the nearest first."""
    below, others = _read_pile(db, model_id, alias)
    return [*below, *others]


def _read_pile(
    db: Session, model_id: uuid.UUID, alias: Alias
) -> tuple[list[uuid.UUID], list[uuid.UUID]]:
    """The versions below what the alias names, and those that a roll back left; none is deleted."""
    changes = load_changes(
        db, ModelAliasChange.model_id == model_id, ModelAliasChange.alias == alias
    )
    pile: list[uuid.UUID | None] = []
    for change in reversed(changes):
        if change.is_roll_back and change.to_version_id in pile:
            while pile[-1] != change.to_version_id:
                pile.pop()
        else:
            pile.append(change.to_version_id)
    left = sa.select(ModelVersion.id).where(
        ModelVersion.model_id == model_id, ModelVersion.deleted_at.is_(None)
    )
    wanted = set(db.scalars(left)) - set(pile[-1:])
    below = [each for each in dict.fromkeys(reversed(pile)) if each in wanted]
    named = dict.fromkeys(change.to_version_id for change in changes)
    return below, [each for each in named if each in wanted and each not in below]


def storable(value: Any) -> Any:
    """The value as JSON that both databases take: NaN and infinite become null, NUL a mark.

    Tuples become lists, keys texts; what has no JSON form becomes its text.
    """
    if isinstance(value, str):
        return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(str(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    item = getattr(value, "item", None)  # a NumPy scalar
    return storable(item()) if callable(item) else storable(str(value))
