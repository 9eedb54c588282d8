"""Working on a rating queue from outside: the next item, leased to the token's account."""

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.schemas import REFUSALS, NextIn, NextOut
from rlhf_core.feedback.views import get_interaction
from rlhf_core.queues.leases import claim_next
from rlhf_core.queues.views import Claim

router = APIRouter(responses=REFUSALS)


@router.post(
    "/v1/queues/{queue_id}/next", response_model=NextOut, summary="Take the next item of a queue"
)
async def post_next(
    request: Request,
    queue_id: uuid.UUID,
    actor: Annotated[Actor, needs(Permission.RATE)],
    asked: NextIn | None = None,
) -> Any:
    """Lease the next item to rate; nobody else is given the same slot until the lease ends.

    What you hold already comes again until it is judged (`POST /v1/feedback` or
    `POST /v1/comparisons` with `queue_id`, and `occasion` as it stands here), or skipped: `after`
    names the item or its interaction. `item` is null where nothing is left for you.
    """
    after = None if asked is None else asked.after

    def work(db: Session) -> dict[str, Any] | None:
        claim = claim_next(db, queue_id, actor=actor, after=after)
        return None if claim is None else _describe(db, claim, actor)

    return {"item": await request.app.state.writer.run(work)}


def _describe(db: Session, claim: Claim, actor: Actor) -> dict[str, Any]:
    """What is to be judged. Not which model answered, nor who asked."""
    seen = get_interaction(db, claim.interaction_id, actor=actor, occasion=claim.occasion)
    other = claim.other_interaction_id
    return {
        **vars(claim),
        "prompt": seen.prompt,
        "completion": seen.completion,
        "other_completion": other and get_interaction(db, other, actor=actor).completion,
        "context": [{"role": role, "content": content} for role, content in seen.context],
        "action_type": seen.action_type,
        "action_data": seen.action_data,
        "steps": [vars(step) for step in seen.steps],
    }
