"""Who gets which side of a running deployment: sticky by user, without a row a user."""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.clock import utcnow
from rlhf_core.store.tables import Deployment, Model
from rlhf_core.vocabulary import Arm, DeploymentKind, DeploymentState

_FLOAT_BITS = 53
"""Whole numbers below 2^53 are exact in a float, so the position is below 1."""
UNWATCHED_AFTER = timedelta(seconds=60)
"""A worker looks every few seconds, at most every 15."""


@dataclass(frozen=True)
class RunningDeployment:
    """What serving has to know of the deployment that runs on a model.

    `version_id` is the treatment with `traffic_percent` of the traffic, `baseline_version_id` the
    control with the rest. `revision` rises with each change of the share. A worker looked last at
    `checked_at`.
    """

    id: uuid.UUID
    model_name: str
    kind: DeploymentKind
    version_id: uuid.UUID
    baseline_version_id: uuid.UUID | None
    traffic_percent: float
    control_prompt: str | None
    treatment_prompt: str | None
    revision: int
    started_at: datetime | None = None
    checked_at: datetime | None = None

    @property
    def is_watched(self) -> bool:
        """Whether a worker looks at it: nobody else would take a harmful version back."""
        known = [moment for moment in (self.started_at, self.checked_at) if moment is not None]
        return not known or max(known) > utcnow() - UNWATCHED_AFTER


@dataclass(frozen=True)
class Route:
    """Where one request goes.

    Args:
        arm: the side taken; PRODUCTION while no deployment runs. In an interleaving test TREATMENT
            means that the answer is merged from both versions.
        version_id: the version to ask; None: whatever production names.
        propensity: share of the traffic (0-1) that this side has.
        system_prompt: what the test puts before the messages.
    """

    arm: Arm
    version_id: uuid.UUID | None
    deployment_id: uuid.UUID | None
    propensity: float
    system_prompt: str | None


PRODUCTION_ROUTE = Route(Arm.PRODUCTION, None, None, 1.0, None)


def read_running(db: Session, model_name: str) -> RunningDeployment | None:
    """The deployment that runs on the model: one query over the index of running ones."""
    row = db.execute(
        sa.select(
            Deployment.id,
            Model.name,
            Deployment.kind,
            Deployment.version_id,
            Deployment.baseline_version_id,
            Deployment.traffic_percent,
            Deployment.control_prompt,
            Deployment.treatment_prompt,
            Deployment.revision,
            Deployment.started_at,
            Deployment.checked_at,
        )
        .join(Model, Model.id == Deployment.model_id)
        .where(Model.name == model_name, Deployment.state == DeploymentState.RUNNING)
    ).first()
    return None if row is None else RunningDeployment(*row)


def assign(running: RunningDeployment | None, key: str | None) -> Route:
    """The side of the request's user. A raised share keeps everybody who was in the treatment.

    Args:
        running: the model's deployment; None: production answers.
        key: who asks (a pseudonym, else the conversation); None: drawn at random, not sticky.
    """
    if running is None:
        return PRODUCTION_ROUTE
    share = running.traffic_percent / 100
    if _position(running.id, key) < share:
        return Route(Arm.TREATMENT, running.version_id, running.id, share, running.treatment_prompt)
    return Route(
        Arm.CONTROL, running.baseline_version_id, running.id, 1 - share, running.control_prompt
    )


def _position(deployment_id: uuid.UUID, key: str | None) -> float:
    """Where the user stands in [0, 1): anew in each deployment, so no one is always first."""
    if key is None:
        return secrets.randbits(_FLOAT_BITS) / 2.0**_FLOAT_BITS
    digest = hashlib.blake2b(
        key.encode("utf-8", "surrogatepass"), digest_size=8, key=deployment_id.bytes
    ).digest()
    return (int.from_bytes(digest, "big") >> (64 - _FLOAT_BITS)) / 2.0**_FLOAT_BITS
