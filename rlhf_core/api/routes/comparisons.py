"""Storing comparisons of two completions, and what end users allow."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.idempotency import Answer, KeyHeader, answer_once, respond
from rlhf_core.api.schemas import REFUSALS, ComparisonIn, ComparisonOut, OptOutIn, OptOutOut
from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.comparisons import submit_comparison
from rlhf_core.feedback.raters import lock_own_rater
from rlhf_core.privacy.consent import opt_in, opt_out
from rlhf_core.queues.leases import finish_claim

router = APIRouter(responses=REFUSALS)

COMPARISON_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": ComparisonOut, "description": "Stored; the rater's earlier word was changed"},
}


@router.post(
    "/v1/comparisons",
    status_code=201,
    response_model=ComparisonOut,
    responses=COMPARISON_ANSWERS,
    summary="Store a comparison",
)
async def post_comparison(
    request: Request,
    draft: ComparisonIn,
    actor: Annotated[Actor, needs(Permission.RATE)],
    idempotency_key: KeyHeader = None,
) -> JSONResponse:
    """Store which of two completions of one prompt a rater prefers.

    One row a rater, pair and occasion, whichever side is left: a second one edits the first.
    `rater` (an id of your own, kept as a pseudonym) needs the permission to write interactions;
    without it the token's account is the rater. Shuffle the sides that you show: P(left wins) is
    checked for position bias. `queue_id` counts the pair as judged in that queue; a
    comparison that the queue cannot count is stored all the same.
    """

    def work(db: Session) -> Answer:
        if draft.queue_id is not None:
            lock_own_rater(db, actor=actor)  # first of all locks, as in leasing
        stored = submit_comparison(
            db, draft.left_id, draft.right_id, draft, actor=actor, source="api"
        )
        body: dict[str, Any] = {
            "id": str(stored.id),
            "left_id": str(draft.left_id),
            "right_id": str(draft.right_id),
            "revision": stored.revision,
            "was_created": stored.was_created,
        }
        if draft.queue_id is not None:
            body["is_done"] = _finish(db, draft, draft.queue_id, actor)
        return Answer(201 if stored.was_created else 200, body)

    return respond(
        await answer_once(
            request.app.state.writer,
            work,
            actor=actor,
            key=idempotency_key,
            route="POST /v1/comparisons",
            body=draft,
        )
    )


def _finish(db: Session, draft: ComparisonIn, queue_id: uuid.UUID, actor: Actor) -> bool:
    """Whether the queue counts the pair as judged: not where it is of other things."""
    try:
        return finish_claim(
            db,
            actor=actor,
            queue_id=queue_id,
            interaction_id=draft.left_id,
            other_interaction_id=draft.right_id,
        )
    except InvalidInput:
        return False


@router.post("/v1/opt-outs", response_model=OptOutOut, summary="Opt a user of yours out, or in")
async def post_opt_out(
    request: Request,
    said: OptOutIn,
    actor: Annotated[Actor, needs(Permission.WRITE_INTERACTIONS)],
) -> OptOutOut:
    """Take no more feedback of a user, and let nothing that they said train a model.

    Feedback that is sent for them afterwards is refused with 403. The id is kept as a pseudonym.
    """

    def work(db: Session) -> bool:
        record = opt_out if said.is_opted_out else opt_in
        return record(db, actor=actor, user=said.user)

    was_changed: bool = await request.app.state.writer.run(work)
    return OptOutOut(is_opted_out=said.is_opted_out, was_changed=was_changed)
