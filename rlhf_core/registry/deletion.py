"""Deleting a version: only what nothing needs, and of that only the files. Its history stays.

In two steps, because files cannot be rolled back: `delete_version` marks the version in the
caller's transaction, `remove_deleted_files` takes the files away after the commit. A process that
dies in between leaves files that the next call removes.
"""

import logging
import shutil
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.registry.reasons import clean_reason
from rlhf_core.registry.service import get_version
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import Deployment, Job, Model, ModelVersion
from rlhf_core.vocabulary import DeploymentState, JobState

logger = logging.getLogger(__name__)

BASES = ("base", "teacher")
"""In a version's details: what it began from. Adapters are nothing without it."""


def delete_version(
    db: Session, version_id: uuid.UUID, *, actor: Actor, reason: str
) -> ModelVersionView:
    """Mark the version as deleted; call `remove_deleted_files` when that is committed.

    Raises:
        Conflict: it serves, is tried out, is another version's base, or a job needs it.
        InvalidInput: it is deleted already, or no reason is given.
    """
    require(actor, Permission.PROMOTE_MODELS)
    text = clean_reason(reason)
    # Promotions hold the row too (`service.hold_version`): of the two, one waits and sees the other
    locked = sa.select(ModelVersion.id).where(ModelVersion.id == version_id).with_for_update()
    if db.scalar(locked) is None:
        raise NotFound(f"There is no model version {version_id}.")
    db.expire_all()
    version = get_version(db, version_id, actor=actor)
    if version.deleted_at is not None:
        raise InvalidInput(f"{version.name} is deleted already.")
    reasons = find_obstacles(db, version)
    if reasons:
        raise Conflict(f"{version.name} cannot be deleted: {'; '.join(reasons)}.")
    db.execute(
        sa.update(ModelVersion).where(ModelVersion.id == version.id).values(deleted_at=utcnow())
    )
    record_event(
        db, actor=actor, action="model.delete", target_kind="model_version", target_id=version.id,
        details={"model": version.model_name, "number": version.number, "reason": text,
                 "num_bytes": version.num_bytes},
    )  # fmt: skip
    db.flush()
    return version


def find_obstacles(db: Session, version: ModelVersionView) -> list[str]:
    """Why the version has to stay, a clause each; empty where it may go."""
    found = [f"it is the {alias.value} version" for alias in version.aliases]
    running = db.scalar(
        sa.select(Deployment.kind).where(
            Deployment.state == DeploymentState.RUNNING,
            sa.or_(
                Deployment.version_id == version.id,
                Deployment.baseline_version_id == version.id,
            ),
        )
    )
    if running is not None:
        found.append(f"it takes part in a running {running.value.replace('_', ' ')}")
    made_of_it = [other.name for other in _list_made_of(db, version)]
    if made_of_it:
        more = f" and {len(made_of_it) - 3} more" if len(made_of_it) > 3 else ""
        found.append(f"it is the base of {', '.join(made_of_it[:3])}{more}")
    jobs = _list_jobs(db, version)
    if jobs:
        kinds = ", ".join(f"{job.kind.value} {str(job.id)[:8]}" for job in jobs[:3])
        found.append(f"a job that is not finished needs it ({kinds})")
    return found


def remove_deleted_files(db: Session) -> int:
    """Remove the files of all deleted versions that still lie there; returns how many folders.

    What a living version names too is left alone.
    """
    root = get_settings().artifact_dir
    gone = set(
        db.scalars(
            sa.select(ModelVersion.artifact_path).where(ModelVersion.deleted_at.is_not(None))
        )
    )
    alive = set(
        db.scalars(sa.select(ModelVersion.artifact_path).where(ModelVersion.deleted_at.is_(None)))
    )
    removed = 0
    for path in sorted(gone - alive):
        folder = root / path
        # out of the way first: half a folder is never found under a version's name
        doomed = folder.with_name(f".{folder.name}.deleted")
        try:
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(doomed, ignore_errors=True)
                folder.rename(doomed)
                removed += 1
        except OSError as error:  # another process is at it, or the folder may not be moved
            logger.warning("%s is not removed, the next call tries again: %s", folder, error)
        shutil.rmtree(doomed, ignore_errors=True)
    return removed


def _list_made_of(db: Session, version: ModelVersionView) -> list[ModelVersionView]:
    wanted = str(version.id)
    return [
        other
        for other in load_versions(db, ModelVersion.deleted_at.is_(None))
        if other.id != version.id
        and any((other.details.get(name) or {}).get("version_id") == wanted for name in BASES)
    ]


def _list_jobs(db: Session, version: ModelVersionView) -> list[Job]:
    """Jobs that wait or run and name it: by id, by `name@number`, or by the name alone."""
    name, number = version.model_name, version.number
    names = {str(version.id), f"{name}@{number}", f"{name}@v{number}", version.name}
    newest = db.scalar(
        sa.select(sa.func.max(ModelVersion.number))
        .join(Model, Model.id == ModelVersion.model_id)
        .where(Model.name == name, ModelVersion.deleted_at.is_(None))
    )
    if number == newest:  # what a name alone may mean
        names.add(name)
    unfinished = Job.state.in_([JobState.QUEUED, JobState.RUNNING])
    return [
        job
        for job in db.scalars(sa.select(Job).where(unfinished).order_by(Job.created_at))
        if not names.isdisjoint(_texts(job.params, skip=("model", "model_name", "dataset")))
    ]


def _texts(value: Any, *, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """Every text within; of the outermost mapping not the fields that name what is to be made."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in skip:
                yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
