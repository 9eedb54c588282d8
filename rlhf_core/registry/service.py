"""The registry: versions of models, and the aliases that say which one serves.

An alias is one pointer row with a revision. A move names the revision it expects and changes the
row only if it still stands there: of two moves at once one wins, the other gets Conflict.
"""

import math
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import ArtifactInfo, open_lately
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.registry.files import relative_path
from rlhf_core.registry.reasons import clean_reason
from rlhf_core.registry.views import (
    ROLLED_BACK,
    AliasChangeView,
    AliasView,
    ModelVersionView,
    find_previous,
    list_earlier,
    load_changes,
    load_versions,
    storable,
)
from rlhf_core.store.tables import Model, ModelAlias, ModelAliasChange, ModelVersion
from rlhf_core.store.upsert import changed_rows, insert_if_absent
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import Alias, ModelKind

REWARD_MODEL = "reward"
"""The name of the reward model that reranks."""
POLICY_MODEL = "assistant"
"""The name of the policy that answers."""
MAX_NAME_CHARS = 200


def register_version(
    db: Session,
    *,
    actor: Actor,
    model_name: str,
    kind: ModelKind,
    report: TrainReport,
    artifact: ArtifactInfo,
    job_id: uuid.UUID | None = None,
    dataset_version_id: uuid.UUID | None = None,
    dataset_hash: str | None = None,
) -> ModelVersionView:
    """Record a trained model as the next version of `model_name` (1, 2, ... without gaps).

    A job registers one version: called again for the same job, the registered one is returned.
    Metrics that are no finite numbers are left out.

    Raises:
        InvalidInput: the files lie outside the artifact folder, or the name is no name.
    """
    require(actor, Permission.RUN_JOBS)
    path = relative_path(artifact)
    model = _lock_model(db, model_name)
    if job_id is not None:
        known = load_versions(db, ModelVersion.job_id == job_id)
        if known:
            return known[0]
    last = db.scalar(
        sa.select(sa.func.max(ModelVersion.number)).where(ModelVersion.model_id == model.id)
    )
    metrics = {name: float(value) for name, value in report.metrics.items()}
    version = ModelVersion(
        id=new_id(),
        model_id=model.id,
        number=(last or 0) + 1,
        kind=kind,
        job_id=job_id,
        dataset_version_id=dataset_version_id,
        dataset_hash=dataset_hash,
        artifact_path=path,
        manifest_sha256=artifact.manifest_sha256,
        num_bytes=artifact.num_bytes,
        params=storable(report.params),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        details=storable({**report.details, "num_rows": report.num_rows}),
        seed=report.seed,
        library_versions=storable(report.library_versions),
        created_by=actor.account_id,
    )
    db.add(version)
    db.flush()
    record_event(
        db, actor=actor, action="model.register", target_kind="model_version",
        target_id=version.id, details={"model": model_name, "number": version.number},
    )  # fmt: skip
    return load_versions(db, ModelVersion.id == version.id)[0]


def list_versions(
    db: Session, *, actor: Actor, model_name: str | None = None, tag: str | None = None
) -> list[ModelVersionView]:
    """The versions that are not deleted, newest first by model; with `tag` only those it marks."""
    require(actor, Permission.READ_MODELS)
    conditions: list[sa.ColumnElement[bool]] = [ModelVersion.deleted_at.is_(None)]
    if model_name is not None:
        conditions.append(Model.name == model_name)
    found = load_versions(db, *conditions)
    return [version for version in found if tag is None or tag.strip().lower() in version.tags]


def get_version(db: Session, version_id: uuid.UUID, *, actor: Actor) -> ModelVersionView:
    """One version, a deleted one too."""
    require(actor, Permission.READ_MODELS)
    return _get_version(db, version_id)


def get_version_by_number(
    db: Session, model_name: str, number: int, *, actor: Actor
) -> ModelVersionView:
    """The version that people call `reward v3`."""
    require(actor, Permission.READ_MODELS)
    found = load_versions(db, Model.name == model_name, ModelVersion.number == number)
    if not found:
        raise NotFound(f"There is no version {number} of model {model_name!r}.")
    return found[0]


def get_alias(
    db: Session, model_name: str, *, actor: Actor, alias: Alias = Alias.PRODUCTION
) -> AliasView:
    """Where the alias points, with the revision that the next move has to name."""
    require(actor, Permission.READ_MODELS)
    return _get_alias(db, _get_model(db, model_name), alias)


def promote_version(
    db: Session,
    version_id: uuid.UUID,
    *,
    actor: Actor,
    reason: str,
    expected_revision: int | None = None,
    evidence: dict[str, Any] | None = None,
    alias: Alias = Alias.PRODUCTION,
) -> AliasView:
    """Point the alias at the version, if it still has the revision that the caller saw.

    Raises:
        Conflict: somebody moved the alias meanwhile, or it points there already.
        InvalidInput: the version is deleted, its files are damaged, or no reason is given.
        Unavailable: its files cannot be read.
    """
    require(actor, Permission.PROMOTE_MODELS)
    version = _get_version(db, version_id)
    return _move(
        db,
        version,
        actor=actor,
        alias=alias,
        reason=reason,
        expected_revision=expected_revision,
        evidence=storable(evidence) if evidence else None,
        action="model.promote",
    )


def roll_back(
    db: Session,
    model_name: str,
    *,
    actor: Actor,
    reason: str,
    version_id: uuid.UUID | None = None,
    expected_revision: int | None = None,
    evidence: dict[str, Any] | None = None,
    alias: Alias = Alias.PRODUCTION,
) -> AliasView:
    """Point the alias back at the version before: twice rolled back is two versions back.

    `version_id` goes back further at once, to any version that the alias has named.

    Raises:
        Conflict: there is none before, or somebody moved the alias meanwhile.
        InvalidInput, Unavailable: as in `promote_version`.
    """
    require(actor, Permission.PROMOTE_MODELS)
    model = _get_model(db, model_name)
    previous = version_id or find_previous(db, model.id, alias)
    if previous is None:
        raise Conflict(
            f"There is no version before the {alias.value} one of {model_name!r}: "
            "promote another version."
        )
    if version_id is not None and version_id not in list_earlier(db, model.id, alias):
        raise Conflict(
            f"{_get_version(db, version_id).name} was never the {alias.value} one of "
            f"{model_name!r}: promote it instead."
        )
    return _move(
        db,
        _get_version(db, previous),
        actor=actor,
        alias=alias,
        reason=reason,
        expected_revision=expected_revision,
        evidence=storable({**(evidence or {}), ROLLED_BACK: True}),
        action="model.roll_back",
    )


def alias_history(
    db: Session,
    model_name: str,
    *,
    actor: Actor,
    alias: Alias = Alias.PRODUCTION,
    limit: int | None = None,
) -> Sequence[AliasChangeView]:
    """The moves of the alias, the latest first."""
    require(actor, Permission.READ_MODELS)
    return load_changes(db, Model.name == model_name, ModelAliasChange.alias == alias, limit=limit)


def list_roll_back_targets(
    db: Session, model_name: str, *, actor: Actor, alias: Alias = Alias.PRODUCTION
) -> list[uuid.UUID]:
    """The versions that `roll_back` may go to by `version_id`, the nearest first."""
    require(actor, Permission.READ_MODELS)
    return list_earlier(db, _get_model(db, model_name).id, alias)


def find_roll_back_target(
    db: Session, model_name: str, *, actor: Actor, alias: Alias = Alias.PRODUCTION
) -> uuid.UUID | None:
    """The version that `roll_back` would point at, or None."""
    require(actor, Permission.READ_MODELS)
    return find_previous(db, _get_model(db, model_name).id, alias)


def live_at(
    db: Session, model_name: str, moment: datetime, *, alias: Alias = Alias.PRODUCTION
) -> ModelVersionView | None:
    """The version that the alias named at that moment; None before the first promotion."""
    version_id = db.scalar(
        sa.select(ModelAliasChange.to_version_id)
        .join(Model, Model.id == ModelAliasChange.model_id)
        .where(
            Model.name == model_name,
            ModelAliasChange.alias == alias,
            ModelAliasChange.changed_at <= moment,
        )
        .order_by(ModelAliasChange.revision.desc())
        .limit(1)
    )
    return None if version_id is None else _get_version(db, version_id)


def find_production(db: Session, model_name: str = REWARD_MODEL) -> ModelVersionView | None:
    """The version that serves, or None while none was promoted."""
    pointer = (
        sa.select(ModelAlias.version_id)
        .join(Model, Model.id == ModelAlias.model_id)
        .where(Model.name == model_name, ModelAlias.alias == Alias.PRODUCTION)
        .scalar_subquery()
    )
    found = load_versions(db, ModelVersion.id == pointer)
    return found[0] if found else None


def _move(
    db: Session,
    version: ModelVersionView,
    *,
    actor: Actor,
    alias: Alias,
    reason: str,
    expected_revision: int | None,
    evidence: dict[str, Any] | None,
    action: str,
) -> AliasView:
    reason = clean_reason(reason)
    hold_version(db, version.id)
    if version.model_name == (wrong := REWARD_MODEL if version.is_policy else POLICY_MODEL):
        what = f"{version.name} is of kind {version.kind.value}, which cannot answer for {wrong!r}"
        raise InvalidInput(f"{what}: register it under another name.")
    open_lately(version.folder, version.manifest_sha256)
    insert_if_absent(
        db, ModelAlias,
        [{"model_id": version.model_id, "alias": alias, "revision": 0, "updated_at": utcnow()}],
    )  # fmt: skip
    pointer = db.execute(
        sa.select(ModelAlias.version_id, ModelAlias.revision).where(
            ModelAlias.model_id == version.model_id, ModelAlias.alias == alias
        )
    ).one()
    expected = pointer.revision if expected_revision is None else expected_revision
    if expected == pointer.revision and pointer.version_id == version.id:
        raise Conflict(f"{version.name} is the {alias.value} version already.")
    now = utcnow()
    moved = db.execute(
        sa.update(ModelAlias)
        .where(
            ModelAlias.model_id == version.model_id,
            ModelAlias.alias == alias,
            ModelAlias.revision == expected,
        )
        .values(version_id=version.id, revision=expected + 1, updated_at=now)
    )
    if pointer.revision != expected or changed_rows(moved) != 1:
        raise Conflict(
            f"Somebody else moved {alias.value} of {version.model_name!r} meanwhile: "
            "look at what serves now, then decide again."
        )
    db.add(
        ModelAliasChange(
            id=new_id(),
            model_id=version.model_id,
            alias=alias,
            revision=expected + 1,
            from_version_id=pointer.version_id,
            to_version_id=version.id,
            reason=reason,
            evidence=evidence,
            changed_by=actor.account_id,
            changed_at=now,
        )
    )
    record_event(
        db, actor=actor, action=action, target_kind="model_version", target_id=version.id,
        details={"model": version.model_name, "number": version.number, "alias": alias.value,
                 "revision": expected + 1, "reason": reason},
    )  # fmt: skip
    db.flush()
    return AliasView(version.model_name, alias, version.id, version.number, expected + 1)


def hold_version(db: Session, version_id: uuid.UUID) -> None:
    """Keep the version from being deleted until the caller commits.

    Raises InvalidInput where it is deleted, NotFound where there is none.
    """
    held = sa.select(ModelVersion.deleted_at).where(ModelVersion.id == version_id)
    row = db.execute(held.with_for_update(read=True)).one_or_none()
    if row is None or row.deleted_at is not None:
        raise InvalidInput(f"{_get_version(db, version_id).name} is deleted: choose another one.")


def _lock_model(db: Session, name: str) -> Model:
    """The model's row, made if needed and held until the caller commits: versions have no gaps."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_CHARS or "\0" in name:
        raise InvalidInput(
            f"A model needs a name of 1 to {MAX_NAME_CHARS} characters.", field="model_name"
        )
    fresh = {"id": new_id(), "name": name, "is_demo": False, "created_at": utcnow()}
    insert_if_absent(db, Model, [fresh])
    return db.scalars(sa.select(Model).where(Model.name == name).with_for_update()).one()


def _get_model(db: Session, name: str) -> Model:
    model = db.scalar(sa.select(Model).where(Model.name == name))
    if model is None:
        raise NotFound(f"There is no model {name!r} yet: train one first.")
    return model


def _get_alias(db: Session, model: Model, alias: Alias) -> AliasView:
    row = db.execute(
        sa.select(ModelAlias.version_id, ModelVersion.number, ModelAlias.revision)
        .outerjoin(ModelVersion, ModelVersion.id == ModelAlias.version_id)
        .where(ModelAlias.model_id == model.id, ModelAlias.alias == alias)
    ).first()
    if row is None:
        return AliasView(model.name, alias, None, None, 0)
    return AliasView(model.name, alias, row.version_id, row.number, row.revision)


def _get_version(db: Session, version_id: uuid.UUID) -> ModelVersionView:
    found = load_versions(db, ModelVersion.id == version_id)
    if not found:
        raise NotFound(f"There is no model version {version_id}.")
    return found[0]
