"""A model with a deployment on part of its traffic, and the rows that serving and people leave."""

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id, utcnow
from rlhf_core.registry.service import REWARD_MODEL, promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release.plans import CanaryPlan, Traffic, plan_canary
from rlhf_core.release.service import start_deployment
from rlhf_core.release.views import DeploymentView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, Rater, ServedLogEntry
from rlhf_core.vocabulary import Arm, ModelKind, RaterKind
from tests.core.registry.world import make_version


def make_plan(**numbers: Any) -> CanaryPlan:
    """By default open-ended, for traffic of 100 raters a day."""
    seen = Traffic(1_000.0, 500.0, 100.0, 150.0, 0.8, 1.0)
    return plan_canary(seen, **({"is_planned": False, "traffic_percent": 50.0} | numbers))


def make_pair(
    db: Session, model_name: str = REWARD_MODEL, **fields: Any
) -> tuple[ModelVersionView, ModelVersionView]:
    """Version 1, which serves, and version 2, which does not."""
    one = make_version(db, model_name=model_name, **fields)
    two = make_version(db, model_name=model_name, **fields)
    promote_version(db, one.id, actor=SYSTEM, reason="the first")
    return one, two


def start(db: Session, version: ModelVersionView, **fields: Any) -> DeploymentView:
    """By default a canary on half of the traffic."""
    defaults: dict[str, Any] = {
        "actor": SYSTEM,
        "plan": make_plan(),
        "traffic_percent": 50.0,
        "reason": "try it",
    }
    return start_deployment(
        db, model_name=version.model_name, version_id=version.id, **(defaults | fields)
    )


def start_new(store: Store, **fields: Any) -> DeploymentView:
    """A pair and a canary between the two."""
    with store.writing() as db:
        return start(db, make_pair(db)[1], **fields)


def serve(
    db: Session,
    deployment: DeploymentView,
    arm: Arm,
    thumbs: Sequence[int | None],
    *,
    user: str | None = None,
    share: float | None = None,
    at: datetime | None = None,
    rater_kind: RaterKind = RaterKind.END_USER,
    **served: Any,
) -> list[uuid.UUID]:
    """An answer a thumb (None: nobody said anything), each by a user of its own unless named.

    `share` is the treatment's at that time. Returns the ids of the interactions.
    """
    at = at or utcnow() - timedelta(seconds=1)
    share = deployment.traffic_percent / 100 if share is None else share
    is_treatment = arm is Arm.TREATMENT
    version_id = deployment.version_id if is_treatment else deployment.baseline_version_id
    ids = [new_id() for _ in thumbs]
    db.execute(
        sa.insert(Interaction),
        [
            {
                "id": id_, "source": "api", "external_id": str(id_), "prompt": "2 + 2?",
                "prompt_hash": "0" * 32, "completion": "4", "occurred_at": at,
            }
            for id_ in ids
        ],
    )  # fmt: skip
    db.execute(
        sa.insert(ServedLogEntry),
        [
            {
                "id": new_id(), "endpoint": "chat", "model_version_id": version_id,
                "deployment_id": deployment.id, "arm": arm.value,
                "propensity": share if is_treatment else 1 - share,
                "user_pseudonym": user or f"user-{id_}", "interaction_id": id_,
                "latency_ms": 10.0 + place, "served_at": at, **served,
            }
            for place, id_ in enumerate(ids)
        ],
    )  # fmt: skip
    rate(db, [(id_, thumb) for id_, thumb in zip(ids, thumbs, strict=True) if thumb is not None],
         rater_kind=rater_kind)  # fmt: skip
    return ids


def rate(
    db: Session,
    said: Sequence[tuple[uuid.UUID, int]],
    *,
    rater_kind: RaterKind = RaterKind.END_USER,
    **fields: Any,
) -> None:
    """A thumb on each interaction, of one rater more."""
    if not said:
        return
    rater = new_id()
    db.execute(sa.insert(Rater), {"id": rater, "pseudonym": rater.hex, "rater_kind": rater_kind})
    db.execute(
        sa.insert(Feedback),
        [
            {
                "id": new_id(), "interaction_id": id_, "rater_id": rater, "source": "api",
                "external_id": new_id().hex, "thumb": thumb, "occurred_at": utcnow(), **fields,
            }
            for id_, thumb in said
        ],
    )  # fmt: skip


def policy_pair(db: Session) -> tuple[ModelVersionView, ModelVersionView]:
    """The same of the model that answers chats."""
    return make_pair(db, "assistant", kind=ModelKind.POLICY)
