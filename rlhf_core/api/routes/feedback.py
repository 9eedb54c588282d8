"""Storing interactions and feedback, and reading what was said."""

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.analytics.action_summary import summarize_by_action_type
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.api.auth import needs
from rlhf_core.api.idempotency import Answer, KeyHeader, answer_once, respond
from rlhf_core.api.schemas import (
    REFUSALS,
    AssistantFeedbackIn,
    FeedbackIn,
    FeedbackOut,
    InteractionIn,
    InteractionOut,
    RecentOut,
    SummaryOut,
)
from rlhf_core.errors import InvalidInput, NotFound
from rlhf_core.feedback import service
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.raters import lock_own_rater
from rlhf_core.feedback.step_labels import are_steps_judged
from rlhf_core.feedback.views import get_interaction
from rlhf_core.queues.leases import finish_claim
from rlhf_core.serving.served import credit_interaction, wait_for_served
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import RaterKind

router = APIRouter(responses=REFUSALS)
MAX_COUNT_S = 2.0

FEEDBACK_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": FeedbackOut, "description": "Stored; the rater's earlier row was changed"},
}
INTERACTION_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": InteractionOut, "description": "It was stored before"},
}


@router.post(
    "/v1/interactions",
    status_code=201,
    response_model=InteractionOut,
    responses=INTERACTION_ANSWERS,
    summary="Store an interaction",
)
async def post_interaction(
    request: Request,
    draft: InteractionIn,
    actor: Annotated[Actor, needs(Permission.WRITE_INTERACTIONS)],
    idempotency_key: KeyHeader = None,
) -> JSONResponse:
    """Store one prompt and completion with its steps and feedback.

    `(source, external_id)` identifies it; without an `external_id` its content does. Stored once.
    With `served_id` feedback on it is credited to the version that gave that answer, and equal
    content of another answer is another interaction.
    """
    served_id = draft.served_id
    named = draft
    if served_id is not None:
        await run_in_threadpool(wait_for_served, get_store(), served_id)
        if draft.external_id is None and draft.message_id is None:
            identity = f"{draft.identity()}:{served_id}"
            named = draft.model_copy(update={"external_id": identity})

    def work(db: Session) -> Answer:
        stored = service.create_interaction(db, named, actor=actor)
        if served_id is not None:
            credit_interaction(db, served_id, stored.id, actor=actor)
        body = {
            "id": str(stored.id),
            "step_ids": [str(step_id) for step_id in stored.step_ids],
            "was_created": stored.was_created,
        }
        return Answer(201 if stored.was_created else 200, body)

    return respond(
        await answer_once(
            request.app.state.writer,
            work,
            actor=actor,
            key=idempotency_key,
            route="POST /v1/interactions",
            body=draft,
        )
    )


@router.post(
    "/v1/feedback",
    status_code=201,
    response_model=FeedbackOut,
    responses=FEEDBACK_ANSWERS,
    summary="Store feedback",
)
async def post_feedback(
    request: Request,
    draft: FeedbackIn,
    actor: Annotated[Actor, needs(Permission.RATE)],
    idempotency_key: KeyHeader = None,
) -> JSONResponse:
    """Store what a rater says of a completion or of a step.

    One row a rater, target and occasion: a second one edits the first. `rater` (an id of your own,
    kept as a pseudonym) needs the permission to write interactions; without it the token's account
    is the rater. `queue_id` counts the item as judged in that queue; a judgement that comes late,
    or of what the queue does not hold, is stored all the same.
    """

    def work(db: Session) -> Answer:
        if draft.queue_id is not None:
            lock_own_rater(db, actor=actor)  # first of all locks, as in leasing
        stored = service.submit_feedback(
            db, draft.interaction_id, draft, actor=actor, source="api", step_id=draft.step_id
        )
        answer = _stored_feedback(stored, draft.interaction_id)
        if draft.queue_id is not None:
            answer.body["is_done"] = _finish(db, draft, draft.queue_id, stored.id, actor)
        return answer

    return respond(
        await answer_once(
            request.app.state.writer,
            work,
            actor=actor,
            key=idempotency_key,
            route="POST /v1/feedback",
            body=draft,
        )
    )


@router.post(
    "/assistant/feedback",
    status_code=201,
    response_model=FeedbackOut,
    responses=FEEDBACK_ANSWERS,
    summary="Store an end user's feedback on a chat message",
)
async def post_assistant_feedback(
    request: Request,
    said: AssistantFeedbackIn,
    actor: Annotated[Actor, needs(Permission.WRITE_INTERACTIONS)],
    idempotency_key: KeyHeader = None,
) -> JSONResponse:
    """Store a thumb and a score of the chat's own user. The message must be stored already."""

    def work(db: Session) -> Answer:
        interaction_id = service.find_message(db, said.chat_id, said.message_id)
        if interaction_id is None:
            message = "no message" if said.message_id is None else f"no message {said.message_id!r}"
            raise NotFound(
                f"The chat {said.chat_id!r} has {message}; store it first (POST /v1/interactions)."
            )
        fields: dict[str, Any] = {"rater_kind": RaterKind.END_USER}
        if said.step_id is not None:
            fields["step"] = service.get_step_position(
                db, interaction_id, _step_reference(said.step_id)
            )
        if said.feedback_type is not None:
            fields["thumb" if said.step_id is None else "label"] = said.feedback_type.sign
        if said.feedback_score is not None:
            fields["rating"] = said.feedback_score
        stored = service.submit_feedback(
            db, interaction_id, FeedbackDraft(**fields), actor=actor, source="assistant"
        )
        return _stored_feedback(stored, interaction_id)

    return respond(
        await answer_once(
            request.app.state.writer,
            work,
            actor=actor,
            key=idempotency_key,
            route="POST /assistant/feedback",
            body=said,
        )
    )


@router.get(
    "/feedback",
    response_model=RecentOut | SummaryOut,
    summary="Recent feedback, or with type=summary approval by kind of action",
)
async def get_feedback(
    actor: Annotated[Actor, needs(Permission.READ_INTERACTIONS)],
    kind: Annotated[Literal["recent", "summary"], Query(alias="type")] = "recent",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Any:
    """The latest feedback first. `type=summary` also needs the permission to read analytics."""
    if kind == "summary":
        return await run_in_threadpool(_summarize, actor)
    return await run_in_threadpool(_list_recent, actor, limit)


@router.get("/v1/feedback/summary", response_model=SummaryOut, summary="Approval by kind of action")
async def get_summary(actor: Annotated[Actor, needs(Permission.READ_ANALYTICS)]) -> Any:
    """Thumbs up and down, and their rate in percent, for each kind of action.

    Withdrawn feedback does not count, nor does what a rating queue asked a second time as a test.
    The demo world is left out where there is anything else.
    """
    return await run_in_threadpool(_summarize, actor)


def _finish(
    db: Session, draft: FeedbackIn, queue_id: uuid.UUID, feedback_id: uuid.UUID, actor: Actor
) -> bool:
    """Whether the queue counts the item as judged: not by a comment, nor while steps are left."""
    is_of_step = draft.step is not None or draft.step_id is not None
    if draft.rating is None and draft.thumb is None:
        seen = get_interaction(db, draft.interaction_id, actor=actor, occasion=draft.occasion)
        if not (are_steps_judged(seen) if is_of_step else seen.is_rated):
            return False
    try:
        return finish_claim(
            db,
            actor=actor,
            queue_id=queue_id,
            interaction_id=draft.interaction_id,
            feedback_id=None if is_of_step else feedback_id,
        )
    except InvalidInput:
        return False


def _stored_feedback(stored: service.StoredFeedback, interaction_id: uuid.UUID) -> Answer:
    body = {
        "id": str(stored.id),
        "interaction_id": str(interaction_id),
        "revision": stored.revision,
        "was_created": stored.was_created,
    }
    return Answer(201 if stored.was_created else 200, body)


def _step_reference(step_id: str) -> uuid.UUID | str:
    try:
        return uuid.UUID(step_id)
    except ValueError:
        return step_id


def _list_recent(actor: Actor, limit: int) -> dict[str, Any]:
    with get_store().reading() as db:
        return {
            "feedback": [
                vars(view) for view in service.list_recent_feedback(db, actor=actor, limit=limit)
            ]
        }


def _summarize(actor: Actor) -> dict[str, Any]:
    with reading_fresh(get_store(), max_s=MAX_COUNT_S) as db:
        summaries = summarize_by_action_type(db, actor=actor)
    return {
        "summary": [
            {
                "action_type": one.action_type,
                "total_feedback": one.num_feedback,
                "thumbs_up": one.thumbs_up,
                "thumbs_down": one.thumbs_down,
                "approval_rate": one.approval_rate,
            }
            for one in summaries
        ]
    }
