"""Deployments by the rules: what ways in (pages, API, command line) call to start, grow, promote.

Less of the traffic, a roll back and a stop need no rule: see `release.service`.
"""

import uuid
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import InvalidInput
from rlhf_core.gates.service import check_share, promote_by_gates
from rlhf_core.release.plans import SHARES, CanaryPlan
from rlhf_core.release.service import (
    get_deployment,
    hold_deployment,
    set_traffic,
    start_deployment,
)
from rlhf_core.release.starting import check_share as check_percent
from rlhf_core.release.views import DeploymentView
from rlhf_core.vocabulary import DeploymentKind


def start_by_gates(
    db: Session,
    *,
    actor: Actor,
    model_name: str,
    version_id: uuid.UUID,
    plan: CanaryPlan,
    reason: str,
    kind: DeploymentKind = DeploymentKind.CANARY,
    traffic_percent: float = SHARES[0],
    control_prompt: str | None = None,
    treatment_prompt: str | None = None,
    override_reason: str | None = None,
) -> DeploymentView:
    """Start it, if the version keeps the rules for the share; what they say is kept with the plan.

    A test of system prompts on the version that serves asks no rule: users have that version.

    Raises:
        GatesFailed, Forbidden: as `promote_by_gates`.
        Conflict, InvalidInput, NotFound, Unavailable: as `start_deployment`.
    """
    require(actor, Permission.PROMOTE_MODELS)
    check_percent(kind, traffic_percent)
    gates: dict[str, Any] | None = None
    if (control_prompt, treatment_prompt) == (None, None):
        gates = check_share(
            db, version_id, actor=actor, percent=traffic_percent, override_reason=override_reason
        )
    return start_deployment(
        db, actor=actor, model_name=model_name, version_id=version_id, plan=plan, reason=reason,
        kind=kind, traffic_percent=traffic_percent, control_prompt=control_prompt,
        treatment_prompt=treatment_prompt, gates=gates,
    )  # fmt: skip


def set_traffic_by_gates(
    db: Session,
    deployment_id: uuid.UUID,
    *,
    actor: Actor,
    percent: float,
    expected_revision: int,
    reason: str,
    override_reason: str | None = None,
) -> DeploymentView:
    """Change the share: a greater one only if the version keeps the rules for it.

    Raises:
        GatesFailed, Forbidden: as `promote_by_gates`.
        Conflict, InvalidInput: as `set_traffic`.
    """
    held = hold_deployment(db, deployment_id, actor=actor, expected_revision=expected_revision)
    check_percent(held.kind, percent)
    gates: dict[str, Any] | None = None
    if percent > held.traffic_percent and held.version_id != held.baseline_version_id:
        gates = check_share(
            db, held.version_id, actor=actor, percent=percent, override_reason=override_reason
        )
    return set_traffic(
        db, deployment_id, actor=actor, percent=percent, expected_revision=expected_revision,
        reason=reason, gates=gates,
    )  # fmt: skip


def promote_deployment(
    db: Session,
    deployment_id: uuid.UUID,
    *,
    actor: Actor,
    reason: str,
    expected_revision: int,
    override_reason: str | None = None,
) -> DeploymentView:
    """100 %: the version serves all requests, if it keeps the rules, and the deployment ends.

    Raises:
        Conflict: it ended, or somebody changed it or moved `production` meanwhile.
        GatesFailed, Forbidden, InvalidInput: as `promote_by_gates`.
    """
    held = hold_deployment(db, deployment_id, actor=actor, expected_revision=expected_revision)
    if held.version_id == held.baseline_version_id:
        raise InvalidInput(
            f"Both sides of this test are {held.name}: stop it, and send the better system prompt "
            "with your requests."
        )
    promote_by_gates(
        db, held.version_id, actor=actor, reason=reason, override_reason=override_reason
    )
    return get_deployment(db, deployment_id, actor=actor)
