"""Freezing rows: what a model was trained on stays what it was.

In two steps, because a writing transaction must be short: `stage_rows` reads the rows into an
artifact, however long that takes; `freeze_version` makes the artifact a version.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.clock import new_id, utcnow
from rlhf_core.config import get_settings
from rlhf_core.dataset.rows_file import StagedRows, iterate_rows, open_rows
from rlhf_core.dataset.said import count_refusals
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound
from rlhf_core.examples import Example
from rlhf_core.store.tables import (
    Account,
    Dataset,
    DatasetMember,
    DatasetVersion,
    Erasure,
)
from rlhf_core.store.upsert import insert_if_absent
from rlhf_core.vocabulary import DatasetPurpose, Split

MAX_NAME_CHARS = 200
MEMBERS_A_STATEMENT = 5_000


@dataclass(frozen=True)
class DatasetVersionView:
    """A frozen version. `left_out` counts by reason what gave no row when it was frozen."""

    id: uuid.UUID
    dataset: str
    number: int
    purpose: DatasetPurpose
    content_hash: str
    artifact_path: str
    params: dict[str, Any]
    num_rows: int
    num_groups: int
    left_out: dict[str, int]
    card: dict[str, Any]
    created_by: str | None
    created_at: datetime

    @property
    def name(self) -> str:
        """What people call it: `ratings v3`."""
        return f"{self.dataset} v{self.number}"


@dataclass(frozen=True)
class FrozenVersion:
    """The version that holds the rows; `was_created` is False where one held them already."""

    version: DatasetVersionView
    was_created: bool


def freeze_version(db: Session, *, actor: Actor, name: str, staged: StagedRows) -> FrozenVersion:
    """Make the staged rows the next version of the dataset `name` (1, 2, ... without gaps).

    The same rows are one version, however often and from wherever they are frozen.

    Raises:
        NotEnoughData: there is no row.
        InvalidInput: the name is no name, or belongs to a dataset of another purpose.
        Conflict: since the rows were staged an interaction was deleted, or somebody withdrew their
            consent or asked to be erased.
    """
    require(actor, Permission.MANAGE_DATASETS)
    if staged.num_rows == 0:
        raise NotEnoughData(have=0, need=1, what="usable rows")
    dataset_id = _lock_dataset(db, name, staged.purpose, actor)
    _refuse_withdrawn(db, staged)
    known = _load(
        db,
        DatasetVersion.dataset_id == dataset_id,
        DatasetVersion.content_hash == staged.content_hash,
    )
    if known:
        return FrozenVersion(version=known[0], was_created=False)
    last = db.scalar(
        sa.select(sa.func.max(DatasetVersion.number)).where(DatasetVersion.dataset_id == dataset_id)
    )
    version_id = new_id()
    db.execute(
        sa.insert(DatasetVersion).values(
            id=version_id,
            dataset_id=dataset_id,
            number=(last or 0) + 1,
            content_hash=staged.content_hash,
            artifact_path=staged.artifact_path,
            params=staged.params,
            num_rows=staged.num_rows,
            num_groups=staged.num_groups,
            left_out=staged.left_out,
            card=staged.card,
            created_by=actor.account_id,
            created_at=utcnow(),
        )
    )
    _insert_members(db, version_id, staged)
    version = _load(db, DatasetVersion.id == version_id)[0]
    record_event(
        db,
        actor=actor,
        action="dataset.freeze",
        target_kind="dataset_version",
        target_id=version_id,
        details={"dataset": version.dataset, "number": version.number, "rows": version.num_rows},
    )
    return FrozenVersion(version=version, was_created=True)


def list_versions(
    db: Session, *, actor: Actor, name: str | None = None
) -> list[DatasetVersionView]:
    """All versions, by name, newest first."""
    require(actor, Permission.MANAGE_DATASETS)
    return _load(db, *([] if name is None else [Dataset.name == name]))


def get_version(
    db: Session, name: str, number: int | None = None, *, actor: Actor
) -> DatasetVersionView:
    """The version that people call `ratings v3`; the newest where no number is given."""
    require(actor, Permission.MANAGE_DATASETS)
    conditions = [Dataset.name == name]
    if number is not None:
        conditions.append(DatasetVersion.number == number)
    found = _load(db, *conditions) if is_name(name) else []
    if not found:
        which = f"version {number} of the dataset" if number is not None else "dataset"
        raise NotFound(f"There is no {which} {name!r}: `python -m rlhf_core dataset list`.")
    return found[0]


def find_version(db: Session, version_id: uuid.UUID) -> DatasetVersionView | None:
    """The frozen version that a model or an examination refers to; None where it is gone."""
    found = _load(db, DatasetVersion.id == version_id)
    return found[0] if found else None


def is_name(text: str) -> bool:
    """Whether a dataset may bear this name: it is also a part of an address."""
    return 0 < len(text) <= MAX_NAME_CHARS and text.isprintable() and "/" not in text


def load_rows(version: DatasetVersionView, *, split: Split | None = Split.TRAIN) -> list[Example]:
    """The frozen rows of one part (None: of all), in their order.

    Every byte of the file is verified first. All rows are of the version's purpose.

    Raises:
        Unavailable: the file is missing.
        InvalidInput: it was changed.
    """
    return [row for row, part in stream_rows(version) if split is None or part is split]


def stream_rows(version: DatasetVersionView) -> Iterator[tuple[Example, Split]]:
    """As `load_rows`, one by one, each with its part; the file is verified before the first."""
    path = open_rows(get_settings().artifact_dir / version.artifact_path, version.content_hash)
    return iterate_rows(path, version.purpose)


def _refuse_withdrawn(db: Session, staged: StagedRows) -> None:
    """The rows were read without a lock: whoever said no meanwhile may be among them.

    Refusals are counted, for a moment says little: clocks differ, a word may be recorded with the
    day on which it was given, and one that was committed during the reading began before it.
    """
    erased = sa.select(Erasure.id).where(Erasure.completed_at >= staged.read_at)
    if count_refusals(db) != staged.num_refusals or db.scalar(erased.limit(1)):
        raise Conflict(
            "Somebody withdrew their consent or was erased while the rows were read: freeze them "
            "again."
        )


def _lock_dataset(db: Session, name: str, purpose: DatasetPurpose, actor: Actor) -> uuid.UUID:
    """The dataset's id, made if needed; held until the caller commits, so numbers have no gaps."""
    name = name.strip()
    if not is_name(name):
        raise InvalidInput(
            f"A dataset needs a name of 1 to {MAX_NAME_CHARS} printable characters without /.",
            field="name",
        )
    fresh = {
        "id": new_id(),
        "name": name,
        "purpose": purpose,
        "is_demo": False,
        "created_by": actor.account_id,
        "created_at": utcnow(),
    }
    insert_if_absent(db, Dataset, [fresh])
    query = sa.select(Dataset.id, Dataset.purpose).where(Dataset.name == name).with_for_update()
    row = db.execute(query).one()
    if row.purpose is not purpose:
        raise InvalidInput(
            f"The dataset {name!r} holds {row.purpose.value}, these rows are {purpose.value}: "
            "choose another name.",
            field="name",
        )
    return uuid.UUID(str(row.id))


def _insert_members(db: Session, version_id: uuid.UUID, staged: StagedRows) -> None:
    path = get_settings().artifact_dir / staged.artifact_path / staged.file_name
    batch: list[dict[str, Any]] = []
    try:
        for number, (row, split) in enumerate(iterate_rows(path, staged.purpose)):
            shared = {"dataset_version_id": version_id, "row_number": number, "split": split}
            batch += [{"id": new_id(), **shared, **origin} for origin in _origins(row)]
            if len(batch) >= MEMBERS_A_STATEMENT:
                db.execute(sa.insert(DatasetMember), batch)
                batch = []
        if batch:
            db.execute(sa.insert(DatasetMember), batch)
    except sa.exc.IntegrityError as error:
        raise Conflict(
            "An interaction or feedback was deleted while the rows were read: freeze them again."
        ) from error


def _origins(row: Example) -> list[dict[str, uuid.UUID | None]]:
    """What the row came from, once for each interaction."""
    names = ("interaction_id", "chosen_interaction_id", "rejected_interaction_id")
    given = dict.fromkeys(getattr(row, name, "") for name in names)
    others = {name: _parse_id(getattr(row, name, "")) for name in ("feedback_id", "comparison_id")}
    ids = [_parse_id(text) for text in given if text] or [None]
    return [{"interaction_id": interaction_id, **others} for interaction_id in ids]


def _parse_id(text: str) -> uuid.UUID | None:
    return uuid.UUID(text) if text else None


def _load(db: Session, *conditions: sa.ColumnElement[bool]) -> list[DatasetVersionView]:
    statement = (
        sa.select(DatasetVersion, Dataset.name, Dataset.purpose, Account.name)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .outerjoin(Account, Account.id == DatasetVersion.created_by)
        .where(*conditions)
        .order_by(Dataset.name, DatasetVersion.number.desc())
    )
    return [
        DatasetVersionView(
            id=version.id,
            dataset=dataset,
            number=version.number,
            purpose=purpose,
            content_hash=version.content_hash,
            artifact_path=version.artifact_path,
            params=version.params,
            num_rows=version.num_rows,
            num_groups=version.num_groups,
            left_out=version.left_out,
            card=version.card or {},
            created_by=account,
            created_at=version.created_at,
        )
        for version, dataset, purpose, account in db.execute(statement)
    ]
