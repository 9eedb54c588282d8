"""Real policies, tiny and untrained, registered and promoted."""

import shutil
import uuid
from pathlib import Path

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.artifacts import write_artifact
from rlhf_core.config import get_settings
from rlhf_core.registry.service import POLICY_MODEL, promote_version, register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import ModelKind


def register_policy(db: Session, folder: Path) -> ModelVersionView:
    """The next version of the assistant, with a copy of the folder's files."""
    artifact = write_artifact(
        get_settings().artifact_dir / "policy" / uuid.uuid4().hex,
        lambda to: shutil.copytree(folder, to, dirs_exist_ok=True) and None,
    )
    report = TrainReport(artifact_dir=artifact.path, metrics={}, params={}, seed=0, num_rows=1)
    return register_version(
        db,
        actor=SYSTEM,
        model_name=POLICY_MODEL,
        kind=ModelKind.POLICY,
        report=report,
        artifact=artifact,
    )


def promote_policy(db: Session, folder: Path) -> ModelVersionView:
    """A new version that answers from now on."""
    version = register_policy(db, folder)
    promote_version(db, version.id, actor=SYSTEM, reason="a test")
    return version
