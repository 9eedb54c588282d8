"""Deployments that run, as rows: what their start asks for is tested with the release."""

import uuid
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import new_id, utcnow
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.tables import Deployment
from rlhf_core.vocabulary import DeploymentState


def run_deployment(
    db: Session,
    treatment: ModelVersionView,
    control: ModelVersionView | None,
    *,
    percent: float = 50.0,
    **fields: Any,
) -> uuid.UUID:
    """One with `percent` of the traffic for the treatment; its id."""
    row = Deployment(
        id=new_id(),
        model_id=treatment.model_id,
        version_id=treatment.id,
        baseline_version_id=None if control is None else control.id,
        traffic_percent=percent,
        started_at=utcnow(),
        **fields,
    )
    db.add(row)
    db.flush()
    return row.id


def end_deployment(db: Session, deployment_id: uuid.UUID) -> None:
    """It is rolled back."""
    db.execute(
        sa.update(Deployment)
        .where(Deployment.id == deployment_id)
        .values(state=DeploymentState.ROLLED_BACK, ended_at=utcnow())
    )
