"""Versions side by side on the same frozen rows: what a comparison found, kept and found again."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import ArtifactInfo, open_artifact
from rlhf_core.clock import new_id, utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import NotFound
from rlhf_core.registry.views import ModelVersionView, storable
from rlhf_core.store.tables import (
    Account,
    Dataset,
    DatasetVersion,
    Model,
    VersionComparison,
)

ROWS_FILE = "rows.jsonl"
FOLDER = "comparisons"
POLICY_PURPOSE = "policy"
MAX_LISTED = 200
PLAIN = (
    "id", "model_name", "dataset_version_id", "job_id", "queue_id", "split", "num_rows",
    "created_by", "created_at",
)  # fmt: skip
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class ComparisonHead:
    """Which versions were compared on what, without what was found.

    `purpose` says what the rows are: a `DatasetPurpose` value, or `policy`; `names` is what people
    call the versions, by id.
    """

    id: uuid.UUID
    model_name: str
    dataset_version_id: uuid.UUID | None
    dataset: str | None
    job_id: uuid.UUID | None
    queue_id: uuid.UUID | None
    split: str
    num_rows: int
    version_ids: tuple[uuid.UUID, ...]
    names: dict[str, str]
    purpose: str
    created_by: str | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ComparisonView(ComparisonHead):
    """A comparison. Versions are named by their ids (as text) in all of `result`.

    `result`: `baseline` (the version that the others are compared with, the first one), `names`,
    `deciding` (the figure that matters most), `versions[id][metric]` and
    `differences[id][metric]` (a version's figure less the baseline's), each `{"value", "low",
    "high"}` (no interval: too few prompts), `slices` (`segment`, `value`, `num_rows`,
    `num_prompts`, `versions`, `differences`), `leakage` (by version the share, 0..1, of the prompts
    compared on that it learned from), `learned` (by the name of a model how many prompts it had
    learned from, and how many were left out for that), and by the kind of models `reliability`
    and `distribution`, or `samples` and `judge`.
    """

    result: dict[str, Any]
    artifact_path: str | None
    manifest_sha256: str | None


@dataclass(frozen=True)
class SliceDifference:
    """How a version differs from another one on the rows of a slice; `segment` "" is all rows."""

    segment: str
    value: str
    num_rows: int
    num_prompts: int
    differences: Figures


def record_comparison(
    db: Session,
    *,
    actor: Actor,
    versions: Sequence[ModelVersionView],
    dataset_version_id: uuid.UUID | None,
    job_id: uuid.UUID | None,
    split: str,
    num_rows: int,
    result: Mapping[str, Any],
    artifact: ArtifactInfo | None,
) -> ComparisonView:
    """Keep a comparison of versions of one model. A job keeps one, however often it runs."""
    require(actor, Permission.RUN_JOBS)
    if job_id is not None:
        known = _load(db, VersionComparison.job_id == job_id)
        if known:
            return known[0]
    first = versions[0]
    root = get_settings().artifact_dir
    comparison_id = new_id()
    names = {str(version.id): version.name for version in versions}
    db.execute(
        sa.insert(VersionComparison).values(
            id=comparison_id,
            model_id=first.model_id,
            dataset_version_id=dataset_version_id,
            job_id=job_id,
            split=split,
            num_rows=num_rows,
            version_ids=list(names),
            result=storable({**result, "names": names}),
            artifact_path=None if artifact is None else artifact.path.relative_to(root).as_posix(),
            manifest_sha256=None if artifact is None else artifact.manifest_sha256,
            created_by=actor.account_id,
            created_at=utcnow(),
        )
    )
    record_event(
        db,
        actor=actor,
        action="model.compare",
        target_kind="model_version",
        target_id=first.id,
        details={"versions": list(names.values()), "split": split, "rows": num_rows},
    )
    return _load(db, VersionComparison.id == comparison_id)[0]


def set_comparison_queue(
    db: Session, comparison_id: uuid.UUID, *, actor: Actor, queue_id: uuid.UUID
) -> None:
    """Note the queue in which people compare what the versions disagree on."""
    require(actor, Permission.MANAGE_QUEUES)
    db.execute(
        sa.update(VersionComparison)
        .where(VersionComparison.id == comparison_id)
        .values(queue_id=queue_id)
    )


def list_comparisons(
    db: Session, *, actor: Actor, model_name: str | None = None
) -> list[ComparisonHead]:
    """The newest comparisons of a model's versions, or of all, the latest first."""
    require(actor, Permission.READ_MODELS)
    conditions = [] if model_name is None else [Model.name == model_name]
    return [ComparisonHead(**_describe(row)) for row in db.execute(_select(*conditions))]


def get_comparison(db: Session, comparison_id: uuid.UUID, *, actor: Actor) -> ComparisonView:
    """One comparison."""
    require(actor, Permission.READ_MODELS)
    found = _load(db, VersionComparison.id == comparison_id)
    if not found:
        raise NotFound(f"There is no comparison {comparison_id}.")
    return found[0]


def find_job_comparison(db: Session, job_id: uuid.UUID, *, actor: Actor) -> ComparisonView | None:
    """What a job has compared; None where it did not come so far."""
    require(actor, Permission.READ_MODELS)
    found = _load(db, VersionComparison.job_id == job_id)
    return found[0] if found else None


def find_comparison(
    db: Session, version_id: uuid.UUID, other_id: uuid.UUID, *, actor: Actor
) -> ComparisonView | None:
    """The newest comparison that says how the version differs from the other; None without one."""
    require(actor, Permission.READ_MODELS)
    is_direct = (
        VersionComparison.result["baseline"].as_string().in_([str(version_id), str(other_id)])
    )
    found = _load(db, _holds(version_id), _holds(other_id), is_direct, limit=1)
    return found[0] if found else None


def list_differences(
    comparison: ComparisonView, version_id: uuid.UUID, other_id: uuid.UUID
) -> list[SliceDifference]:
    """How a version differs from another one: on all rows first, then by slice.

    The figures are the version's less the other's, whichever of the two was the baseline; empty
    where neither was.
    """
    result, key, other = comparison.result, str(version_id), str(other_id)
    baseline = result.get("baseline")
    if baseline not in (key, other) or key == other:
        return []
    compared, sign = (key, 1.0) if baseline == other else (other, -1.0)
    whole = {
        "segment": "",
        "value": "",
        "num_rows": comparison.num_rows,
        "num_prompts": result.get("num_prompts", 0),
        "differences": result.get("differences") or {},
    }
    return [
        SliceDifference(
            segment=str(part["segment"]),
            value=str(part["value"]),
            num_rows=int(part["num_rows"]),
            num_prompts=int(part["num_prompts"]),
            differences={
                metric: _turn(figure, sign)
                for metric, figure in (part["differences"].get(compared) or {}).items()
            },
        )
        for part in (whole, *(result.get("slices") or ()))
    ]


def read_rows(comparison: ComparisonView, *, limit: int | None = None) -> list[dict[str, Any]]:
    """The rows with what each version said of them, those that they disagree most on first.

    Empty where none were kept. Raises Unavailable or InvalidInput where the file is gone or not
    the one that was written.
    """
    return list(islice(_iterate_rows(comparison), limit))


def _iterate_rows(comparison: ComparisonView) -> Iterator[dict[str, Any]]:
    if comparison.artifact_path is None or comparison.manifest_sha256 is None:
        return
    folder = get_settings().artifact_dir / comparison.artifact_path
    with (open_artifact(folder, comparison.manifest_sha256) / ROWS_FILE).open() as lines:
        for line in lines:
            yield json.loads(line)


def _turn(figure: Mapping[str, float], sign: float) -> dict[str, float]:
    """The difference seen from the other side: the ends of its interval change places."""
    if sign > 0:
        return dict(figure)
    names = {"value": "value", "low": "high", "high": "low"}
    return {names[name]: -number for name, number in figure.items()}


def _holds(version_id: uuid.UUID) -> sa.ColumnElement[bool]:
    """The version is among those compared; the ids are kept as a JSON list of texts."""
    return sa.cast(VersionComparison.version_ids, sa.Text).contains(f'"{version_id}"')


def _load(
    db: Session, *conditions: sa.ColumnElement[bool], limit: int = MAX_LISTED
) -> list[ComparisonView]:
    kept = VersionComparison
    columns = (kept.result, kept.artifact_path, kept.manifest_sha256)
    return [
        ComparisonView(
            **_describe(row),
            result=row.result,
            artifact_path=row.artifact_path,
            manifest_sha256=row.manifest_sha256,
        )
        for row in db.execute(_select(*conditions, limit=limit).add_columns(*columns))
    ]


def _select(
    *conditions: sa.ColumnElement[bool], limit: int = MAX_LISTED
) -> sa.Select[*tuple[Any, ...]]:
    kept = VersionComparison
    return (
        sa.select(
            kept.id,
            Model.name.label("model_name"),
            kept.dataset_version_id,
            Dataset.name.label("dataset"),
            DatasetVersion.number,
            kept.job_id,
            kept.queue_id,
            kept.split,
            kept.num_rows,
            kept.version_ids,
            kept.result["names"].label("names"),
            kept.result["purpose"].as_string().label("purpose"),
            Account.name.label("created_by"),
            kept.created_at,
        )
        .join(Model, Model.id == kept.model_id)
        .outerjoin(DatasetVersion, DatasetVersion.id == kept.dataset_version_id)
        .outerjoin(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .outerjoin(Account, Account.id == kept.created_by)
        .where(*conditions)
        .order_by(kept.created_at.desc(), kept.id.desc())
        .limit(limit)
    )


def _describe(row: Any) -> dict[str, Any]:
    """The fields of a `ComparisonHead`."""
    return {
        **{name: getattr(row, name) for name in PLAIN},
        "dataset": None if row.dataset is None else f"{row.dataset} v{row.number}",
        "version_ids": tuple(uuid.UUID(one) for one in row.version_ids),
        "names": {str(key): str(name) for key, name in (row.names or {}).items()},
        "purpose": str(row.purpose),
    }
