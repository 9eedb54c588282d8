"""The job that examines a registered version on a frozen dataset."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.service import DatasetVersionView, load_rows
from rlhf_core.dataset.service import get_version as get_dataset_version
from rlhf_core.dataset.service import list_versions as list_dataset_versions
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.examples import Example
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.examining import check_fit, describe, examine_model
from rlhf_core.jobs.kinds import resource_of
from rlhf_core.jobs.service import JobView, enqueue_job
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.service import get_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.loader import load_version
from rlhf_core.vocabulary import JobKind, Split

ALL = "all"
SPLITS = (*(split.value for split in Split), ALL)


@dataclass(frozen=True)
class _Wanted:
    """What to examine on what."""

    version: ModelVersionView
    dataset: DatasetVersionView
    split: str

    @property
    def rows(self) -> list[Example]:
        """The rows of the wanted part."""
        return load_rows(self.dataset, split=None if self.split == ALL else Split(self.split))


def enqueue_evaluate(
    db: Session,
    *,
    actor: Actor,
    version_id: uuid.UUID,
    dataset: str,
    number: int | None = None,
    split: str = "test",
) -> JobView:
    """Queue an examination on a part of a frozen dataset (`train`, `validation`, `test`, `all`).

    `number` None is the newest version of the dataset.

    Raises:
        NotFound: there is no such model version or dataset.
        InvalidInput: the rows do not fit the model, or there is no such part.
        Conflict: the same examination is queued or running.
    """
    if split not in SPLITS:
        raise InvalidInput(f"split {split!r}: choose from {', '.join(SPLITS)}.", field="split")
    version = get_version(db, version_id, actor=actor)
    rows = get_dataset_version(db, dataset, number, actor=actor)
    check_fit(version.kind, rows.purpose)
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.EVALUATE,
        params={
            "version_id": str(version.id),
            "dataset": rows.dataset,
            "number": rows.number,
            "split": split,
        },
        resource=resource_of(version.kind),
        dedup_key=f"{JobKind.EVALUATE.value}:{version.id}:{rows.id}:{split}",
    )


def run_evaluate(context: JobContext) -> dict[str, Any]:
    """Examine and keep what was found. The model is loaded from its files, as for serving."""
    wanted = _find(context)
    rows = wanted.rows
    if not rows:
        raise NotEnoughData(
            have=0, need=1, what=f"rows in the part {wanted.split} of {wanted.dataset.name}"
        )
    tracker = context.tracker
    tracker.log(f"{wanted.version.name} on {len(rows)} rows of {wanted.dataset.name}.")
    tracker.progress(0.05, "Loading the model")
    loaded = load_version(wanted.version, is_caching=True)
    tracker.progress(0.2, f"Examining on {len(rows)} rows")
    details, params = wanted.version.params, wanted.dataset.params
    examination = examine_model(
        loaded.model,
        rows,
        dataset=wanted.dataset,
        train_rows=_find_learned(context, wanted.version),
        threshold=float(details.get("threshold") or params.get("threshold") or 4.0),
    )
    with context.store.writing() as db:
        kept = record_evaluation(
            db,
            actor=context.actor,
            version_id=wanted.version.id,
            dataset_version_id=wanted.dataset.id,
            job_id=context.job_id,
            split=wanted.split,
            num_rows=len(rows),
            examination_json=examination,
        )
    return {
        "message": f"{wanted.version.name} on {len(rows)} rows of {wanted.dataset.name}: "
        f"{describe(kept.metrics)}.",
        "evaluation_id": kept.id,
        "version_id": wanted.version.id,
        "metrics": kept.metrics,
    }


def _find(context: JobContext) -> _Wanted:
    params = context.params
    with context.store.reading() as db:
        version = get_version(db, uuid.UUID(params["version_id"]), actor=context.actor)
        dataset = get_dataset_version(db, params["dataset"], params["number"], actor=context.actor)
    check_fit(version.kind, dataset.purpose)
    return _Wanted(version, dataset, params["split"])


def _find_learned(context: JobContext, version: ModelVersionView) -> list[Example]:
    """The rows that the version was trained on, for the check of leakage."""
    if version.dataset_version_id is None or version.dataset is None:
        return []
    name = version.dataset.rpartition(" v")[0]
    with context.store.reading() as db:
        known = list_dataset_versions(db, actor=context.actor, name=name)
    found = [dataset for dataset in known if dataset.id == version.dataset_version_id]
    if not found:
        return []
    rows = [
        row for part in (Split.TRAIN, Split.VALIDATION) for row in load_rows(found[0], split=part)
    ]
    is_judge = version.details.get("role") == "judge"
    if not is_judge and not version.details.get("judge"):
        return rows
    from rlhf_core.rewards.ensemble import halve_by_prompt

    first, second = halve_by_prompt(rows, version.seed)
    return second if is_judge else first
