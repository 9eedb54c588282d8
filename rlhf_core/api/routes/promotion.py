"""Versions reach users, and leave them: gates, promotion, roll back."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.routes.models import MAX_NUMBER, Name, Number, Reader
from rlhf_core.api.schemas import REFUSALS, Out
from rlhf_core.feedback.drafts import Draft, FilledText
from rlhf_core.gates.service import check_gates, promote_by_gates, roll_back_to, verify_files
from rlhf_core.gates.views import list_blocking
from rlhf_core.registry.service import find_roll_back_target, get_version_by_number
from rlhf_core.registry.views import AliasView
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import GateKind, GateState

router = APIRouter(responses=REFUSALS)

Mover = Annotated[Actor, needs(Permission.PROMOTE_MODELS)]
Revision = Annotated[int | None, Field(ge=0, le=MAX_NUMBER)]


class PromoteIn(Draft):
    """Why, and which revision of `production` the caller saw: moved meanwhile, it is a 409.

    `override_reason` passes over rules that the version breaks; it takes the scope
    `override_gates`.
    """

    reason: FilledText
    expected_revision: Revision = None
    override_reason: FilledText | None = None


class RollBackIn(Draft):
    """Why, and which revision the caller saw. `number`: an earlier version; default the last.

    `override_reason` passes over a veto or data that was taken back; it takes the scope
    `override_gates`.
    """

    reason: FilledText
    number: Annotated[int | None, Field(ge=1, le=MAX_NUMBER)] = None
    expected_revision: Revision = None
    override_reason: FilledText | None = None


class GateOut(Out):
    """What a rule says. `blocks`: it keeps the version from users."""

    kind: GateKind
    state: GateState
    sentence: str
    numbers: dict[str, Any]
    is_required: bool
    blocks: bool


class GatesOut(Out):
    """What all rules say."""

    version: str
    is_blocked: bool
    gates: list[GateOut]


class AliasOut(Out):
    """Where `production` points now. The next move may name this `revision`."""

    model_name: str
    number: int
    revision: int


@router.get(
    "/v1/models/{name}/{number}/gates",
    response_model=GatesOut,
    summary="What the rules say of a version",
)
async def get_gates(
    actor: Reader,
    name: Name,
    number: Number,
    share: Annotated[bool, Query(description="Of a share of the traffic.")] = False,
) -> Any:
    """Each rule: pass, fail or not measured, with its numbers."""
    return await run_in_threadpool(_check, actor, name, number, share)


@router.post(
    "/v1/models/{name}/{number}/promote",
    response_model=AliasOut,
    summary="Let a version serve",
)
async def post_promote(actor: Mover, name: Name, number: Number, body: PromoteIn) -> Any:
    """Move `production` to the version, if it keeps the rules (409 `GatesFailed` where not)."""
    return await run_in_threadpool(_promote, actor, name, number, body)


@router.post(
    "/v1/models/{name}/rollback", response_model=AliasOut, summary="Let an earlier version serve"
)
async def post_roll_back(actor: Mover, name: Name, body: RollBackIn) -> Any:
    """Move `production` back: to the version before, or to `number`, which served once.

    409 `GatesFailed` where a veto stands, its data was taken back or its files are damaged.
    """
    return await run_in_threadpool(_roll_back, actor, name, body)


def _check(actor: Actor, name: str, number: int, share: bool) -> dict[str, Any]:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        results = check_gates(db, version.id, actor=actor, for_share=share)
    return {
        "version": version.name,
        "is_blocked": bool(list_blocking(results)),
        "gates": [result.to_json() for result in results],
    }


def _promote(actor: Actor, name: str, number: int, body: PromoteIn) -> AliasView:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        verify_files(db, version.id, actor=actor)
    with get_store().writing() as db:
        return promote_by_gates(
            db,
            version.id,
            actor=actor,
            reason=body.reason,
            expected_revision=body.expected_revision,
            override_reason=body.override_reason,
        )


def _roll_back(actor: Actor, name: str, body: RollBackIn) -> AliasView:
    with get_store().reading() as db:
        wanted = None
        if body.number is not None:
            wanted = get_version_by_number(db, name, body.number, actor=actor).id
        verify_files(db, wanted or find_roll_back_target(db, name, actor=actor), actor=actor)
    with get_store().writing() as db:
        return roll_back_to(
            db,
            name,
            actor=actor,
            reason=body.reason,
            version_id=wanted,
            expected_revision=body.expected_revision,
            override_reason=body.override_reason,
        )
