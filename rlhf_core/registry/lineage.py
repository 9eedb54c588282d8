"""Where a version comes from, and what came of a row: run, dataset, rows, raters, and back.

A policy also comes from the version that it began with and from the reward models that it learned
from: what these learned from is in it too.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import NotFound
from rlhf_core.registry.service import get_version
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import (
    Account,
    Dataset,
    DatasetMember,
    DatasetVersion,
    Interaction,
    Job,
)
from rlhf_core.vocabulary import DatasetPurpose, JobKind, JobState, Split

ROLES = {
    "base": "began from",
    "teacher": "taught by",
    "reward": "rewarded by",
    "held_out": "judged by",
    "judge": "has the judge",
}
LEARNED = ("base", "teacher", "reward")
"""By these a version knows what the other learned; a judge only looks on."""
SHOWN_CHARS = 300
MAX_DEPTH = 50
"""Of versions made of versions: an end where the records go round in a circle."""


@dataclass(frozen=True)
class LineageRun:
    """The job that made a version."""

    id: uuid.UUID
    kind: JobKind
    state: JobState
    created_by: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class LineageDataset:
    """The frozen rows that a version learned from.

    `num_origins` counts what ties the rows to interactions, `num_gone` those whose interaction was
    deleted or erased since.
    """

    id: uuid.UUID
    name: str
    purpose: DatasetPurpose
    content_hash: str
    num_rows: int
    num_origins: int
    num_gone: int
    parts: dict[str, int]
    frozen_at: datetime


@dataclass(frozen=True)
class Relative:
    """A version that this one was made of, or that was made of this one; `role` as in `ROLES`.

    `version` is None where only the name is known: a folder, a hub id, a rule.
    """

    role: str
    name: str
    version: ModelVersionView | None


@dataclass(frozen=True)
class Lineage:
    """A version with what it was made of and what was made of it."""

    version: ModelVersionView
    run: LineageRun | None
    dataset: LineageDataset | None
    parents: tuple[Relative, ...]
    children: tuple[Relative, ...]


@dataclass(frozen=True)
class LineageRow:
    """A frozen row with the interaction that it came from; None where that is gone."""

    row_number: int
    split: Split
    interaction_id: uuid.UUID | None
    feedback_id: uuid.UUID | None
    comparison_id: uuid.UUID | None
    prompt: str | None
    completion: str | None
    occurred_at: datetime | None


@dataclass(frozen=True)
class LineageRows:
    """Some of the rows in their order, and how many there are in all."""

    rows: tuple[LineageRow, ...]
    num_all: int


@dataclass(frozen=True)
class TrainedOn:
    """A version that learned from an interaction.

    `through` is empty where the row was in its own dataset, else the version from which it has it,
    such as its reward model. `splits`: the parts of the dataset in which the rows lie; of a row
    for validation or test nothing was learned, but it was seen.
    """

    version: ModelVersionView
    dataset: str
    row_numbers: tuple[int, ...]
    splits: tuple[Split, ...]
    through: str = ""


def get_lineage(db: Session, version_id: uuid.UUID, *, actor: Actor) -> Lineage:
    """Everything around a version; also of a deleted one."""
    require(actor, Permission.READ_MODELS)
    version = get_version(db, version_id, actor=actor)
    every = {one.id: one for one in load_versions(db)}
    parents = [
        Relative(role, name, every.get(other) if other else None)
        for role, name, other in _named_parents(version)
    ]
    children = [
        Relative(role, other.name, other)
        for other in every.values()
        for role, _, parent in _named_parents(other)
        if parent == version.id
    ]
    return Lineage(
        version, _find_run(db, version), _find_dataset(db, version), tuple(parents), tuple(children)
    )


def list_lineage_rows(
    db: Session, version_id: uuid.UUID, *, actor: Actor, limit: int = 50, offset: int = 0
) -> LineageRows:
    """The rows that the version learned from, each once an interaction, in the dataset's order."""
    require(actor, Permission.READ_MODELS)
    require(actor, Permission.READ_INTERACTIONS)
    version = get_version(db, version_id, actor=actor)
    if version.dataset_version_id is None:
        return LineageRows((), 0)
    mine = DatasetMember.dataset_version_id == version.dataset_version_id
    rows = db.execute(
        sa.select(
            DatasetMember.row_number,
            DatasetMember.split,
            DatasetMember.interaction_id,
            DatasetMember.feedback_id,
            DatasetMember.comparison_id,
            sa.func.substr(Interaction.prompt, 1, SHOWN_CHARS),
            sa.func.substr(Interaction.completion, 1, SHOWN_CHARS),
            Interaction.occurred_at,
        )
        .outerjoin(Interaction, Interaction.id == DatasetMember.interaction_id)
        .where(mine)
        .order_by(DatasetMember.row_number, DatasetMember.id)
        .limit(limit)
        .offset(offset)
    )
    total = db.scalar(sa.select(sa.func.count()).select_from(DatasetMember).where(mine))
    return LineageRows(tuple(LineageRow(*row) for row in rows), total or 0)


def find_trained_on(
    db: Session, interaction_id: uuid.UUID, *, actor: Actor
) -> tuple[TrainedOn, ...]:
    """The versions that learned from the interaction, themselves or through what they are made of.

    The newest first, those with the row in their own dataset before the others. Raises NotFound
    where there is no such interaction.
    """
    require(actor, Permission.READ_MODELS)
    require(actor, Permission.READ_INTERACTIONS)
    if db.scalar(sa.select(Interaction.id).where(Interaction.id == interaction_id)) is None:
        raise NotFound(f"There is no interaction {interaction_id}; it may have been erased.")
    held = _find_datasets(db, interaction_id)
    every = load_versions(db)
    direct = [
        TrainedOn(one, one.dataset or "", *held[one.dataset_version_id])
        for one in every
        if one.dataset_version_id in held
    ]
    found = {one.version.id: one for one in direct}
    for _ in range(MAX_DEPTH):
        fresh = _pass_on(every, found)
        if not fresh:
            break
        found |= {one.version.id: one for one in fresh}
    return tuple(
        sorted(
            found.values(), key=lambda one: (bool(one.through), -one.version.created_at.timestamp())
        )
    )


def _pass_on(every: list[ModelVersionView], found: dict[uuid.UUID, TrainedOn]) -> list[TrainedOn]:
    """Versions that have it from those found so far."""
    fresh = []
    for version in every:
        if version.id in found:
            continue
        for role, _, parent in _named_parents(version):
            if role in LEARNED and parent in found:
                source = found[parent]
                through = f"{ROLES[role]} {source.version.name}"
                fresh.append(
                    TrainedOn(version, source.dataset, source.row_numbers, source.splits, through)
                )
                break
    return fresh


def _named_parents(version: ModelVersionView) -> list[tuple[str, str, uuid.UUID | None]]:
    """(role, name, version id) as the run wrote them down."""
    details = version.details
    found = [(role, details.get(role)) for role in ("base", "teacher")]
    found += [("reward", reward) for reward in details.get("rewards") or ()]
    found.append(("held_out", details.get("held_out")))
    judge = details.get("judge_version_id")
    if judge:
        found.append(("judge", {"name": details.get("judge"), "version_id": judge}))
    return [
        (role, str(named.get("name") or "unnamed"), _parse_id(named.get("version_id")))
        for role, named in found
        if isinstance(named, dict)
    ]


def _parse_id(text: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(text)) if text else None
    except ValueError:
        return None


def _find_run(db: Session, version: ModelVersionView) -> LineageRun | None:
    row = db.execute(
        sa.select(Job.id, Job.kind, Job.state, Account.name, Job.created_at, Job.finished_at)
        .outerjoin(Account, Account.id == Job.created_by)
        .where(Job.id == version.job_id)
    ).one_or_none()
    return None if row is None else LineageRun(*row)


def _find_dataset(db: Session, version: ModelVersionView) -> LineageDataset | None:
    row = db.execute(
        sa.select(DatasetVersion, Dataset.name, Dataset.purpose)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(DatasetVersion.id == version.dataset_version_id)
    ).one_or_none()
    if row is None:
        return None
    frozen, name, purpose = row
    num_origins, num_there = db.execute(
        sa.select(sa.func.count(), sa.func.count(DatasetMember.interaction_id)).where(
            DatasetMember.dataset_version_id == frozen.id
        )
    ).one()
    return LineageDataset(
        id=frozen.id,
        name=f"{name} v{frozen.number}",
        purpose=purpose,
        content_hash=frozen.content_hash,
        num_rows=frozen.num_rows,
        num_origins=num_origins,
        num_gone=num_origins - num_there,
        parts=(frozen.card or {}).get("parts") or {},
        frozen_at=frozen.created_at,
    )


def _find_datasets(
    db: Session, interaction_id: uuid.UUID
) -> dict[uuid.UUID | None, tuple[tuple[int, ...], tuple[Split, ...]]]:
    """By frozen version: the rows that came of the interaction, and their parts."""
    found: dict[uuid.UUID | None, list[tuple[int, Split]]] = {}
    for version_id, number, split in db.execute(
        sa.select(DatasetMember.dataset_version_id, DatasetMember.row_number, DatasetMember.split)
        .where(DatasetMember.interaction_id == interaction_id)
        .order_by(DatasetMember.row_number)
    ):
        found.setdefault(version_id, []).append((number, split))
    return {
        version_id: (
            tuple(dict.fromkeys(number for number, _ in rows)),
            tuple(dict.fromkeys(split for _, split in rows)),
        )
        for version_id, rows in found.items()
    }
