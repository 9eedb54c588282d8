"""Versions on part of the traffic: start, watch, widen, end; and what was live when."""

import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.agreement import Interval
from rlhf_core.api.auth import needs
from rlhf_core.api.release_schemas import (
    DecisionIn,
    LiveAtOut,
    LiveTableOut,
    PlanIn,
    PlanOut,
    PromotionIn,
    ReleaseIn,
    ReleaseOut,
    ReleasesOut,
    TrafficIn,
)
from rlhf_core.api.routes.models import NO_NUL, Reader
from rlhf_core.api.routes.models import Name as ModelName
from rlhf_core.api.schemas import REFUSALS
from rlhf_core.clock import utcnow
from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.drafts import Moment
from rlhf_core.gates.deployments import (
    promote_deployment,
    set_traffic_by_gates,
    start_by_gates,
)
from rlhf_core.gates.service import verify_files
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release import live, service
from rlhf_core.release.counts import Stratum
from rlhf_core.release.plans import CanaryPlan
from rlhf_core.release.starting import get_version_of_run
from rlhf_core.release.views import ArmView, DeploymentView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DeploymentState

router = APIRouter(responses=REFUSALS)

Mover = Annotated[Actor, needs(Permission.PROMOTE_MODELS)]


@router.get("/v1/releases", response_model=ReleasesOut, summary="Versions on part of the traffic")
async def get_releases(
    actor: Reader,
    model: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> Any:
    """Running and ended ones, of all models or of one, the latest first."""

    def read(db: Session) -> dict[str, Any]:
        found = service.list_deployments(db, actor=actor, model_name=model, limit=limit)
        return {"releases": [describe(one) for one in found]}

    return await run_in_threadpool(_read, read)


@router.post("/v1/releases/plan", response_model=PlanOut, summary="What a plan takes")
async def post_plan(actor: Reader, wanted: PlanIn) -> Any:
    """Users and days at the traffic seen; starts nothing."""
    return await run_in_threadpool(_read, lambda db: _make_plan(db, actor, wanted).to_json())


@router.post(
    "/v1/releases",
    status_code=201,
    response_model=ReleaseOut,
    summary="Give a version part of the traffic",
)
async def post_release(actor: Mover, wanted: ReleaseIn) -> Any:
    """Start it, if the version keeps the rules for a share (409 `GatesFailed` where not)."""
    return await run_in_threadpool(_start, actor, wanted)


@router.get(
    "/v1/releases/{release_id}", response_model=LiveTableOut, summary="Both sides, side by side"
)
async def get_release(actor: Reader, release_id: uuid.UUID) -> Any:
    """Ratings, errors and latencies of each side with intervals, and the verdict in words."""
    return await run_in_threadpool(_read, lambda db: _read_table(db, actor, release_id))


@router.post(
    "/v1/releases/{release_id}/traffic", response_model=ReleaseOut, summary="Change the share"
)
async def post_traffic(actor: Mover, release_id: uuid.UUID, wanted: TrafficIn) -> Any:
    """Who has the version keeps it while its share grows, if it keeps the rules for that."""

    def work(db: Session) -> DeploymentView:
        return set_traffic_by_gates(
            db, release_id, actor=actor, percent=wanted.percent, reason=wanted.reason,
            expected_revision=wanted.expected_revision, override_reason=wanted.override_reason,
        )  # fmt: skip

    return await run_in_threadpool(_decide, actor, release_id, work)


@router.post(
    "/v1/releases/{release_id}/promote", response_model=ReleaseOut, summary="Give it all traffic"
)
async def post_promote(actor: Mover, release_id: uuid.UUID, wanted: PromotionIn) -> Any:
    """Move `production` to the version, if it keeps the rules (409 `GatesFailed` where not)."""

    def work(db: Session) -> DeploymentView:
        return promote_deployment(
            db, release_id, actor=actor, reason=wanted.reason,
            expected_revision=wanted.expected_revision, override_reason=wanted.override_reason,
        )  # fmt: skip

    return await run_in_threadpool(_decide, actor, release_id, work)


@router.post(
    "/v1/releases/{release_id}/rollback", response_model=ReleaseOut, summary="Take it back"
)
async def post_roll_back(actor: Mover, release_id: uuid.UUID, wanted: DecisionIn) -> Any:
    """All traffic goes to what served before."""
    return await run_in_threadpool(_end, actor, release_id, wanted, DeploymentState.ROLLED_BACK)


@router.post("/v1/releases/{release_id}/stop", response_model=ReleaseOut, summary="Stop the test")
async def post_stop(actor: Mover, release_id: uuid.UUID, wanted: DecisionIn) -> Any:
    """As a roll back, with nothing said against the version."""
    return await run_in_threadpool(_end, actor, release_id, wanted, DeploymentState.STOPPED)


@router.get("/v1/models/{name}/live", response_model=LiveAtOut, summary="What was live when")
async def get_live(actor: Reader, name: ModelName, at: Moment | None = None) -> Any:
    """The production version at the moment `at` (default: now), and who had part of the traffic."""

    def read(db: Session) -> dict[str, Any]:
        found = live.read_live_at(db, name, at or utcnow(), actor=actor)
        release = None if found.deployment is None else describe(found.deployment)
        return {**vars(found), "at": found.moment, "release": release}

    return await run_in_threadpool(_read, read)


def describe(one: DeploymentView) -> dict[str, Any]:
    """The fields of `ReleaseOut`."""
    baseline = None if one.baseline_number is None else f"{one.model_name} v{one.baseline_number}"
    return {
        **vars(one),
        "version": one.name,
        "baseline": baseline,
        "plan": None if one.plan is None else one.plan.to_json(),
        "verdict": None if one.verdict is None else one.verdict.to_json(),
        "steps": [vars(step) for step in one.steps],
    }


def _make_plan(db: Session, actor: Actor, wanted: PlanIn) -> CanaryPlan:
    names = ("detectable_drop", "power", "alpha", "looks", "harm_alpha", "max_error_rise")
    given = {name: getattr(wanted, name) for name in names}
    return live.make_plan(
        db,
        wanted.model,
        actor=actor,
        kind=wanted.kind,
        traffic_percent=wanted.traffic_percent,
        is_planned=wanted.is_planned,
        **{name: value for name, value in given.items() if value is not None},
    )


def _start(actor: Actor, wanted: ReleaseIn) -> dict[str, Any]:
    with get_store().reading() as db:
        version = _find_version(db, actor, wanted)
        plan = _make_plan(db, actor, wanted)
        verify_files(db, version.id, actor=actor)
    return _write(
        lambda db: start_by_gates(
            db,
            actor=actor,
            model_name=wanted.model,
            version_id=version.id,
            plan=plan,
            kind=wanted.kind,
            traffic_percent=wanted.traffic_percent,
            control_prompt=wanted.control_prompt,
            treatment_prompt=wanted.treatment_prompt,
            reason=wanted.reason,
            override_reason=wanted.override_reason,
        )
    )


def _decide(
    actor: Actor, release_id: uuid.UUID, work: Callable[[Session], DeploymentView]
) -> dict[str, Any]:
    with get_store().reading() as db:
        version_id = service.get_deployment(db, release_id, actor=actor).version_id
        verify_files(db, version_id, actor=actor)
    return _write(work)


def _find_version(db: Session, actor: Actor, wanted: ReleaseIn) -> ModelVersionView:
    if (wanted.number is None) == (wanted.run_id is None):
        raise InvalidInput(
            "Name the version: by its `number`, or by the `run_id` that trained it.", field="number"
        )
    if wanted.run_id is not None:
        return get_version_of_run(db, wanted.run_id, actor=actor)
    return get_version_by_number(db, wanted.model, wanted.number or 0, actor=actor)


def _end(
    actor: Actor, release_id: uuid.UUID, wanted: DecisionIn, state: DeploymentState
) -> dict[str, Any]:
    return _write(
        lambda db: service.end_deployment(
            db, release_id, actor=actor, state=state, reason=wanted.reason,
            expected_revision=wanted.expected_revision,
        )
    )  # fmt: skip


def _read_table(db: Session, actor: Actor, release_id: uuid.UUID) -> dict[str, Any]:
    table = live.read_live(db, release_id, actor=actor)
    return {
        "release": describe(table.deployment),
        "control": _describe_arm(table.control),
        "treatment": _describe_arm(table.treatment),
        "shares": [_describe_share(stratum) for stratum in table.strata],
        "verdict": None if table.verdict is None else table.verdict.to_json(),
        "read_at": table.read_at,
    }


def _describe_arm(arm: ArmView) -> dict[str, Any]:
    return {
        name: vars(value) if isinstance(value, Interval) else value
        for name, value in vars(arm).items()
    }


def _describe_share(stratum: Stratum) -> dict[str, Any]:
    return {
        "share": stratum.share,
        "since": stratum.since,
        "num_control_feedback": stratum.control.num_feedback,
        "num_control_good": stratum.control.num_good,
        "num_treatment_feedback": stratum.treatment.num_feedback,
        "num_treatment_good": stratum.treatment.num_good,
    }


def _read(read: Callable[[Session], dict[str, Any]]) -> dict[str, Any]:
    with get_store().reading() as db:
        return read(db)


def _write(work: Callable[[Session], DeploymentView]) -> dict[str, Any]:
    with get_store().writing() as db:
        return describe(work(db))
