"""Storing what end users did."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.idempotency import Answer, KeyHeader, answer_once, respond
from rlhf_core.api.schemas import REFUSALS, EventsOut
from rlhf_core.feedback.events import EventBatch, submit_events

router = APIRouter(responses=REFUSALS)

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": EventsOut, "description": "Nothing new: all of them were stored before"},
}


@router.post(
    "/v1/events",
    status_code=201,
    response_model=EventsOut,
    responses=ANSWERS,
    summary="Store events",
)
async def post_events(
    request: Request,
    batch: EventBatch,
    actor: Annotated[Actor, needs(Permission.WRITE_INTERACTIONS)],
    idempotency_key: KeyHeader = None,
) -> JSONResponse:
    """Store up to 1,000 things that end users did, from which sessions and funnels are made.

    `(source, external_id)` identifies an event: what was stored before is passed over, so a batch
    can be sent again. All of a batch is stored, or nothing.
    """

    def work(db: Session) -> Answer:
        stored = submit_events(db, batch.events, actor=actor)
        return Answer(201 if stored.num_stored else 200, vars(stored))

    return respond(
        await answer_once(
            request.app.state.writer,
            work,
            actor=actor,
            key=idempotency_key,
            route="POST /v1/events",
            body=batch,
        )
    )
