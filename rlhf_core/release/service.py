"""Deployments: a version gets part of a model's traffic, more of it, and at last all or none.

At most one runs a model. Who changes one holds the model's row until the commit, names the revision
that was seen, and changes the row only while it runs with that revision: of two decisions at once
one wins, the other gets Conflict. Production does not move under a running deployment: a move ends
it (`close_for_move`), so that the control stays what it was.
"""

import uuid
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import open_lately
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Conflict, InvalidInput, NotFound
from rlhf_core.registry.reasons import MAX_REASON_CHARS, clean_reason
from rlhf_core.registry.service import (
    find_production,
    get_version,
    hold_version,
    promote_version,
)
from rlhf_core.registry.views import ModelVersionView, storable
from rlhf_core.release.assignment import read_running
from rlhf_core.release.canary_alias import point_canary
from rlhf_core.release.judging import Verdict
from rlhf_core.release.live import read_live as read_live
from rlhf_core.release.plans import SHARES, CanaryPlan
from rlhf_core.release.starting import SERVED, check_share, check_sides
from rlhf_core.release.views import (
    DUE_DAYS,
    GATES,
    PLAN,
    STEPS,
    DeploymentView,
    Step,
    load_deployments,
)
from rlhf_core.store.tables import Deployment, Model
from rlhf_core.store.upsert import changed_rows
from rlhf_core.vocabulary import DeploymentKind, DeploymentState

ACTIONS = {
    DeploymentState.PROMOTED: "deployment.promote",
    DeploymentState.ROLLED_BACK: "deployment.roll_back",
    DeploymentState.STOPPED: "deployment.stop",
}


def start_deployment(
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
    gates: dict[str, Any] | None = None,
) -> DeploymentView:
    """Give the version part of the traffic of `model_name`, against what serves.

    `gates` is what the rules for a promotion say of the version now; it is kept with the plan.

    Raises:
        Conflict: another one runs on the model, or nothing was promoted to compare with.
        InvalidInput: the version cannot take part, its files are damaged, the share is none.
        NotFound: there is no such version or model.
        Unavailable: the version's files cannot be read.
    """
    require(actor, Permission.PROMOTE_MODELS)
    reason = clean_reason(reason)
    check_share(kind, traffic_percent)
    model_id = _hold_model(db, model_name)
    hold_version(db, version_id)  # against a deletion at the same moment
    version = get_version(db, version_id, actor=actor)
    production = _find_control(db, model_name, version, actor=actor)
    check_sides(
        model_name, version, production,
        kind=kind, control_prompt=control_prompt, treatment_prompt=treatment_prompt,
    )  # fmt: skip
    open_lately(version.folder, version.manifest_sha256)
    now = utcnow()
    row = Deployment(
        id=new_id(),
        model_id=model_id,
        version_id=version.id,
        baseline_version_id=production.id,
        kind=kind,
        traffic_percent=float(traffic_percent),
        control_prompt=control_prompt,
        treatment_prompt=treatment_prompt,
        plan={
            PLAN: plan.to_json(),
            DUE_DAYS: plan.days_expected if plan.is_planned else None,
            GATES: storable(gates) if gates else None,
            STEPS: [Step(float(traffic_percent), now, actor.name, reason).to_json()],
        },
        reason=reason,
        created_by=actor.account_id,
        started_at=now,
    )
    db.add(row)
    db.flush()
    point_canary(db, model_id, version.id, actor=actor, reason=reason)
    record_event(
        db, actor=actor, action="deployment.start", target_kind="deployment", target_id=row.id,
        details={"version": version.name, "against": production.name, "kind": kind.value,
                 "traffic_percent": row.traffic_percent, "reason": reason},
    )  # fmt: skip
    return _get(db, row.id)


def set_traffic(
    db: Session,
    deployment_id: uuid.UUID,
    *,
    actor: Actor,
    percent: float,
    expected_revision: int,
    reason: str,
    gates: dict[str, Any] | None = None,
) -> DeploymentView:
    """Change the treatment's share. Who had the treatment keeps it while the share grows.

    Asks no rule: ways in call `gates.deployments.set_traffic_by_gates`. `gates` is what the rules
    said, kept with the plan in place of what they said before.

    Raises:
        Conflict: it ended, or somebody changed it meanwhile, or the share is that already.
        InvalidInput: the share is none; 100 % is a promotion.
    """
    require(actor, Permission.PROMOTE_MODELS)
    reason = clean_reason(reason)
    before = _hold(db, deployment_id, expected_revision)
    check_share(before.kind, percent)
    if percent == before.traffic_percent:
        raise Conflict(f"{before.name} has {percent:g} % of the traffic already.")
    steps = (*before.steps, Step(float(percent), utcnow(), actor.name, reason))
    plan = db.scalar(sa.select(Deployment.plan).where(Deployment.id == deployment_id)) or {}
    plan = {**plan, STEPS: [step.to_json() for step in steps]}
    if gates:
        plan[GATES] = storable(gates)
    _change(db, before, traffic_percent=float(percent), plan=plan)
    record_event(
        db, actor=actor, action="deployment.set_traffic", target_kind="deployment",
        target_id=deployment_id,
        details={"version": before.name, "from_percent": before.traffic_percent,
                 "traffic_percent": percent, "reason": reason},
    )  # fmt: skip
    return _get(db, deployment_id)


def end_deployment(
    db: Session,
    deployment_id: uuid.UUID,
    *,
    actor: Actor,
    state: DeploymentState,
    reason: str,
    expected_revision: int,
    verdict: Verdict | None = None,
    evidence: dict[str, Any] | None = None,
) -> DeploymentView:
    """Decide: the version gets all the traffic (PROMOTED) or none (ROLLED_BACK, STOPPED).

    PROMOTED moves `production` in the same transaction and asks no rule: ways in promote through
    the gates, which call `close_for_move`. `verdict` is what was known at this moment: without it
    the last one stored stays. `evidence` is kept with the move of `production`, beside the verdict.

    Raises:
        Conflict: it ended, or somebody changed it or moved `production` meanwhile.
        InvalidInput: a test of system prompts has no version to promote.
    """
    require(actor, Permission.PROMOTE_MODELS)
    reason = clean_reason(reason)
    if state is DeploymentState.RUNNING:
        raise InvalidInput("A deployment ends promoted, rolled back or stopped.", field="state")
    before = _hold(db, deployment_id, expected_revision)
    _close(db, before, actor=actor, state=state, reason=reason, verdict=verdict)
    if state is DeploymentState.PROMOTED:
        if before.version_id == before.baseline_version_id:
            raise InvalidInput(
                f"Both sides of this test are {before.name}: stop it, and send the better system "
                "prompt with your requests.",
                field="state",
            )
        found = describe_evidence(_get(db, deployment_id))
        promote_version(
            db,
            before.version_id,
            actor=actor,
            reason=reason,
            evidence={**found, **(evidence or {})},
        )
    return _get(db, deployment_id)


def hold_deployment(
    db: Session, deployment_id: uuid.UUID, *, actor: Actor, expected_revision: int
) -> DeploymentView:
    """The deployment as the caller saw it; nobody else decides on it until the caller commits.

    Raises:
        Conflict: it ended, or somebody changed it meanwhile.
    """
    require(actor, Permission.PROMOTE_MODELS)
    return _hold(db, deployment_id, expected_revision)


def close_for_move(
    db: Session, model_name: str, *, actor: Actor, version_id: uuid.UUID, reason: str
) -> DeploymentView | None:
    """End what runs on the model because `production` is about to move to `version_id`.

    To be called in the same transaction, before the move, by whoever promotes or rolls back. The
    deployment ends PROMOTED where its own version is the one, else STOPPED. Returns it as it ended
    (see `describe_evidence`), or None where none ran.
    """
    require(actor, Permission.PROMOTE_MODELS)
    reason = clean_reason(reason)
    _hold_model(db, model_name)
    running = read_running(db, model_name)
    if running is None:
        return None
    before = _get(db, running.id)
    state = DeploymentState.STOPPED
    if version_id == running.version_id != running.baseline_version_id:
        state = DeploymentState.PROMOTED
    else:
        name = get_version(db, version_id, actor=actor).name
        reason = f"Production moves to {name}: {reason}"[:MAX_REASON_CHARS]
    _close(db, before, actor=actor, state=state, reason=reason)
    return _get(db, running.id)


def describe_evidence(deployment: DeploymentView) -> dict[str, Any]:
    """What a move of `production` keeps of the deployment that led to it."""
    return {
        "deployment_id": str(deployment.id),
        "traffic_percent": deployment.traffic_percent,
        "verdict": None if deployment.verdict is None else deployment.verdict.to_json(),
    }


def get_deployment(db: Session, deployment_id: uuid.UUID, *, actor: Actor) -> DeploymentView:
    """One deployment, an ended one too."""
    require(actor, Permission.READ_MODELS)
    return _get(db, deployment_id)


def list_deployments(
    db: Session, *, actor: Actor, model_name: str | None = None, limit: int | None = None
) -> Sequence[DeploymentView]:
    """The deployments of one model or of all, the latest first."""
    require(actor, Permission.READ_MODELS)
    conditions = [] if model_name is None else [Model.name == model_name]
    return load_deployments(db, *conditions, limit=limit)


def _hold_model(db: Session, name: str) -> uuid.UUID:
    """The model's id; its row is held until the commit, yet rows may still point to it."""
    if name not in SERVED:
        raise InvalidInput(
            f"Only {' and '.join(SERVED)} answer requests, so {name!r} has no traffic to share.",
            field="model_name",
        )
    statement = sa.select(Model.id).where(Model.name == name).with_for_update(key_share=True)
    model_id = db.scalar(statement)
    if model_id is None:
        raise NotFound(f"There is no model {name!r} yet: train one first.")
    return model_id


def _find_control(
    db: Session, model_name: str, version: ModelVersionView, *, actor: Actor
) -> ModelVersionView:
    """What serves now, where nothing runs on the model."""
    running = read_running(db, model_name)
    if running is not None:
        name = get_version(db, running.version_id, actor=actor).name
        raise Conflict(
            f"{name} is on {running.traffic_percent:g} % of the traffic of {model_name!r} already: "
            "promote it, roll it back or stop it first."
        )
    production = find_production(db, model_name)
    if production is None:
        raise Conflict(
            f"No version of {model_name!r} serves yet, so there is nothing to compare with: "
            f"promote {version.name} or another one."
        )
    return production


def _hold(db: Session, deployment_id: uuid.UUID, expected_revision: int) -> DeploymentView:
    """The deployment, if it runs with that revision; nobody else decides until the commit."""
    _hold_model(db, _get(db, deployment_id).model_name)
    found = _get(db, deployment_id)
    if not found.is_running:
        raise Conflict(
            f"{found.name} was {found.state.value.replace('_', ' ')} already: look at why."
        )
    if found.revision != expected_revision:
        raise Conflict(
            f"Somebody else changed the share of {found.name} meanwhile: it has "
            f"{found.traffic_percent:g} % now. Look at it, then decide again."
        )
    return found


def _close(
    db: Session,
    before: DeploymentView,
    *,
    actor: Actor,
    state: DeploymentState,
    reason: str,
    verdict: Verdict | None = None,
) -> None:
    values: dict[str, Any] = {} if verdict is None else {"verdict": storable(verdict.to_json())}
    _change(
        db, before, state=state, end_reason=reason, ended_by=actor.account_id,
        ended_at=utcnow(), **values,
    )  # fmt: skip
    model_id = db.scalars(sa.select(Deployment.model_id).where(Deployment.id == before.id)).one()
    point_canary(db, model_id, None, actor=actor, reason=reason)
    known = before.verdict if verdict is None else verdict
    record_event(
        db, actor=actor, action=ACTIONS[state], target_kind="deployment", target_id=before.id,
        details={"version": before.name, "traffic_percent": before.traffic_percent,
                 "reason": reason, "verdict": None if known is None else known.sentence},
    )  # fmt: skip


def _change(db: Session, before: DeploymentView, **values: Any) -> None:
    """Compare and set."""
    changed = db.execute(
        sa.update(Deployment)
        .where(
            Deployment.id == before.id,
            Deployment.state == DeploymentState.RUNNING,
            Deployment.revision == before.revision,
        )
        .values(revision=before.revision + 1, **values)
    )
    if changed_rows(changed) != 1:
        raise Conflict(f"Somebody else decided on {before.name} meanwhile: look at it again.")


def _get(db: Session, deployment_id: uuid.UUID) -> DeploymentView:
    found = load_deployments(db, Deployment.id == deployment_id)
    if not found:
        raise NotFound(f"There is no deployment {deployment_id}.")
    return found[0]
