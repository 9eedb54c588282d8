"""Where the loop stands: what waits to be learned from, what runs, what waits to be live."""

import uuid
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import first_id_at
from rlhf_core.store.tables import (
    Alert,
    Dataset,
    DatasetVersion,
    Deployment,
    Feedback,
    Job,
    Model,
    ModelAlias,
    ModelVersion,
)
from rlhf_core.vocabulary import AlertState, Alias, DeploymentState, JobState, ModelKind

MAX_WAITING = 10_000
"""No more feedback is counted: what has waited for so long is simply much."""


@dataclass(frozen=True)
class LiveVersion:
    """A version that an alias points at."""

    model: str
    alias: Alias
    version_id: uuid.UUID
    number: int
    kind: ModelKind
    since: datetime


@dataclass(frozen=True)
class NewestDataset:
    """The dataset version that was frozen last."""

    name: str
    version_id: uuid.UUID
    number: int
    num_rows: int
    created_at: datetime


@dataclass(frozen=True)
class Loop:
    """The stations of the loop.

    `num_waiting`: feedback that was stored after the newest dataset was frozen and still stands, at
    most `MAX_WAITING`. `num_candidates`: versions newer than the one in production that no alias
    points at.
    """

    num_waiting: int
    newest_dataset: NewestDataset | None
    num_running_jobs: int
    num_queued_jobs: int
    num_candidates: int
    num_canaries: int
    num_open_alerts: int
    live: list[LiveVersion]


def read_loop(db: Session, *, actor: Actor) -> Loop:
    """The loop at this moment."""
    require(actor, Permission.READ_ANALYTICS)
    newest = _find_newest_dataset(db)
    jobs = db.execute(sa.select(Job.state, sa.func.count()).group_by(Job.state))
    num_of = {state: num for state, num in jobs}
    live = _list_live(db)
    is_canary = Deployment.state == DeploymentState.RUNNING
    return Loop(
        num_waiting=_count_waiting(db, newest.created_at if newest else None),
        newest_dataset=newest,
        num_running_jobs=num_of.get(JobState.RUNNING, 0),
        num_queued_jobs=num_of.get(JobState.QUEUED, 0),
        num_candidates=_count_candidates(db),
        num_canaries=db.scalar(sa.select(sa.func.count()).where(is_canary)) or 0,
        num_open_alerts=db.scalar(
            sa.select(sa.func.count()).where(Alert.state != AlertState.RESOLVED)
        )
        or 0,
        live=live,
    )


def _find_newest_dataset(db: Session) -> NewestDataset | None:
    row = db.execute(
        sa.select(DatasetVersion, Dataset.name)
        .join(Dataset)
        .order_by(DatasetVersion.created_at.desc(), DatasetVersion.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    version = row.DatasetVersion
    return NewestDataset(row.name, version.id, version.number, version.num_rows, version.created_at)


def _count_waiting(db: Session, since: datetime | None) -> int:
    query = sa.select(sa.literal(1)).select_from(Feedback).where(Feedback.withdrawn_at.is_(None))
    if since is not None:
        query = query.where(Feedback.id >= first_id_at(since), Feedback.created_at > since)
    first = query.limit(MAX_WAITING).subquery()
    return db.scalar(sa.select(sa.func.count()).select_from(first)) or 0


def _count_candidates(db: Session) -> int:
    pointed_at = sa.select(ModelAlias.version_id).where(ModelAlias.version_id.is_not(None))
    live = sa.orm.aliased(ModelVersion)
    live_number = (
        sa.select(live.number)
        .join(ModelAlias, ModelAlias.version_id == live.id)
        .where(ModelAlias.model_id == ModelVersion.model_id, ModelAlias.alias == Alias.PRODUCTION)
        .scalar_subquery()
    )
    query = sa.select(sa.func.count()).where(
        ModelVersion.deleted_at.is_(None),
        ModelVersion.id.not_in(pointed_at),
        ModelVersion.number > sa.func.coalesce(live_number, 0),
    )
    return db.scalar(query) or 0


def _list_live(db: Session) -> list[LiveVersion]:
    rows = db.execute(
        sa.select(Model.name, ModelAlias.alias, ModelVersion, ModelAlias.updated_at)
        .join(ModelAlias, ModelAlias.model_id == Model.id)
        .join(ModelVersion, ModelVersion.id == ModelAlias.version_id)
        .order_by(Model.name, ModelAlias.alias)
    )
    return [
        LiveVersion(name, alias, version.id, version.number, version.kind, moved_at)
        for name, alias, version, moved_at in rows
    ]
