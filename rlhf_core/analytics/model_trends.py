"""Whether newer models are better: as people say, and as examinations say of reward models."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval
from rlhf_core.analytics.differences import subtract_shares
from rlhf_core.analytics.feedback_counts import FeedbackCounts, read_counts, sums
from rlhf_core.analytics.filters import EVERYTHING, Filters
from rlhf_core.store.base import table_of
from rlhf_core.store.tables import (
    Dataset,
    DatasetVersion,
    Evaluation,
    FeedbackRollup,
    InteractionRollup,
    Model,
    ModelVersion,
)

BY_DAY = table_of(FeedbackRollup)
INTERACTIONS = table_of(InteractionRollup)
MAX_EXAMINATIONS = 500


@dataclass(frozen=True, kw_only=True)
class ModelFigures(FeedbackCounts):
    """What people said of one model's answers ('': no model was given).

    `first_day`: of its first answer ever, by which models stand in order; None where only feedback
    is left. `change` is the approval less that of the model before, with Newcombe's 95 % interval;
    None where one of the two has none.
    """

    name: str
    first_day: date | None
    change: Interval | None


@dataclass(frozen=True)
class Examination:
    """What an examination measured of a version of a reward model on one part of a dataset.

    `intervals` (low, high) are there for those `metrics` that have one.
    """

    model: str
    number: int
    dataset: str
    split: str
    num_rows: int
    examined_at: datetime
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def read_models(db: Session, *, actor: Actor, filters: Filters = EVERYTHING) -> list[ModelFigures]:
    """The models that people said something of, in the order in which they came.

    Not drawn by chance: what else differed between their times is in the change, too.
    """
    require(actor, Permission.READ_ANALYTICS)
    rows = db.execute(
        sa.select(BY_DAY.c.model_name, *sums(BY_DAY))
        .where(*filters.conditions(BY_DAY))
        .group_by(BY_DAY.c.model_name)
    ).all()
    first_days = _first_days(db, [row.model_name for row in rows])
    ordered = sorted(rows, key=lambda r: (first_days.get(r.model_name, date.max), r.model_name))
    found: list[ModelFigures] = []
    before: Interval | None = None
    for row in ordered:
        counts = read_counts(row)
        own = FeedbackCounts(**counts).approval
        change = subtract_shares(own, before) if own and before else None
        name = row.model_name
        found.append(
            ModelFigures(**counts, name=name, first_day=first_days.get(name), change=change)
        )
        before = own or before
    return found


def _first_days(db: Session, names: Sequence[str]) -> dict[str, date]:
    first = sa.func.min(INTERACTIONS.c.day)
    query = sa.select(INTERACTIONS.c.model_name, first).where(INTERACTIONS.c.model_name.in_(names))
    rows = db.execute(query.group_by(INTERACTIONS.c.model_name))
    return {row[0]: row[1] for row in rows}


def list_examinations(db: Session, *, actor: Actor) -> list[Examination]:
    """The newest examinations of reward models, in the order of time."""
    require(actor, Permission.READ_ANALYTICS)
    rows = db.execute(
        sa.select(
            Model.name, ModelVersion.number, Dataset.name.label("dataset"),
            DatasetVersion.number.label("dataset_number"), Evaluation.split, Evaluation.num_rows,
            Evaluation.created_at, Evaluation.metrics, Evaluation.details,
        )
        .join(ModelVersion, ModelVersion.id == Evaluation.model_version_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .outerjoin(DatasetVersion, DatasetVersion.id == Evaluation.dataset_version_id)
        .outerjoin(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(ModelVersion.kind.like("reward%"), ModelVersion.deleted_at.is_(None))
        .order_by(Evaluation.created_at.desc(), Evaluation.id)
        .limit(MAX_EXAMINATIONS)
    )  # fmt: skip
    found = [
        Examination(
            model=row.name,
            number=row.number,
            dataset="" if row.dataset is None else f"{row.dataset} v{row.dataset_number}",
            split=row.split,
            num_rows=row.num_rows,
            examined_at=row.created_at,
            metrics=row.metrics,
            intervals={
                name: (float(bounds[0]), float(bounds[1]))
                for name, bounds in ((row.details or {}).get("intervals") or {}).items()
            },
        )
        for row in rows
    ]
    return found[::-1]
