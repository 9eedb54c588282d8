"""Versions with examinations, and what the rules say of them."""

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id
from rlhf_core.gates.service import check_gates
from rlhf_core.gates.views import GateResult
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.tables import Dataset, DatasetVersion
from rlhf_core.vocabulary import DatasetPurpose, GateKind

GOOD = {"auc": (0.8, 0.72, 0.88), "ece": (0.06, 0.03, 0.12)}
Figures = dict[str, tuple[float, float, float]]
"""By name the value and the ends of its interval."""


def make_rows_version(db: Session, name: str = "ratings") -> uuid.UUID:
    """A frozen dataset without rows, to hang examinations on."""
    dataset_id, version_id = new_id(), new_id()
    db.execute(sa.insert(Dataset).values(id=dataset_id, name=name, purpose=DatasetPurpose.SCORES))
    db.execute(
        sa.insert(DatasetVersion).values(
            id=version_id,
            dataset_id=dataset_id,
            number=1,
            content_hash=uuid.uuid4().hex * 2,
            artifact_path=f"datasets/{version_id.hex}",
            params={},
            num_rows=0,
            num_groups=0,
            left_out={},
        )
    )
    return version_id


def examine(
    db: Session,
    version: ModelVersionView,
    figures: Figures | None = None,
    *,
    num_rows: int = 200,
    slices: dict[str, tuple[int, Figures]] | None = None,
    dataset_version_id: uuid.UUID | None = None,
    split: str = "test",
    **more: Any,
) -> None:
    """Record an examination. `slices` by value of `language`: (rows, figures)."""
    record_evaluation(
        db,
        actor=SYSTEM,
        version_id=version.id,
        dataset_version_id=dataset_version_id,
        job_id=None,
        split=split,
        num_rows=num_rows,
        examination_json={
            **_unpack(GOOD if figures is None else figures),
            "slices": [
                {"segment": "language", "value": value, "num_rows": rows, **_unpack(part)}
                for value, (rows, part) in (slices or {}).items()
            ],
            **more,
        },
    )


def gate(db: Session, version: ModelVersionView, kind: GateKind, **how: Any) -> GateResult:
    """What one rule says of the version."""
    results = check_gates(db, version.id, actor=SYSTEM, **how)
    return next(result for result in results if result.kind is kind)


def _unpack(figures: Figures) -> dict[str, Any]:
    return {
        "metrics": {name: value for name, (value, _, _) in figures.items()},
        "intervals": {name: [low, high] for name, (_, low, high) in figures.items()},
    }
