"""Registered versions to test with: real artifact folders, small files."""

import uuid
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.artifacts import ArtifactInfo, write_artifact
from rlhf_core.config import get_settings
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.rows_file import stage_rows
from rlhf_core.dataset.service import DatasetVersionView, freeze_version
from rlhf_core.registry.service import REWARD_MODEL, register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import DatasetPurpose, ModelKind, Role
from tests.builders import make_actor, make_feedback, make_interaction


def make_artifact(text: str = "weights") -> ArtifactInfo:
    def fill(folder: Path) -> None:
        (folder / "head.json").write_text(text)

    return write_artifact(get_settings().artifact_dir / "reward" / uuid.uuid4().hex, fill)


def make_version(
    db: Session,
    *,
    actor: Actor = SYSTEM,
    model_name: str = REWARD_MODEL,
    kind: ModelKind = ModelKind.REWARD_SBERT,
    metrics: dict[str, float] | None = None,
    details: dict[str, Any] | None = None,
    **fields: Any,
) -> ModelVersionView:
    artifact = make_artifact()
    report = TrainReport(
        artifact_dir=artifact.path,
        metrics={"auc": 0.7, "accuracy": 0.66, "brier": 0.21, "ece": 0.03} | (metrics or {}),
        params={"threshold": 4.0},
        seed=7,
        num_rows=120,
        details=details or {},
        library_versions={"scikit-learn": "1.9.1"},
    )
    return register_version(
        db,
        actor=actor,
        model_name=model_name,
        kind=kind,
        report=report,
        artifact=artifact,
        **fields,
    )


def make_frozen(db: Session, *, num_rows: int = 3) -> DatasetVersionView:
    """The dataset `ratings`: so many prompts, each rated by one expert called Kim."""
    rater = make_actor(db, Role.RATER, name="Kim")
    for number in range(num_rows):
        item = make_interaction(db, prompt=f"Why is it {number}?")
        make_feedback(db, item.id, actor=rater, rating=4 + number % 2)
    staged = stage_rows(db, params=DatasetParams(purpose=DatasetPurpose.SCORES))
    return freeze_version(db, actor=SYSTEM, name="ratings", staged=staged).version
