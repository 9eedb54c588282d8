"""Reranking and scoring by the promoted reward model."""

import uuid
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.schemas import (
    REFUSALS,
    Candidate,
    ChoiceIn,
    ChoiceOut,
    RerankIn,
    RerankOut,
    ScoreIn,
    ScoreOut,
)
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.errors import Unavailable
from rlhf_core.privacy.pseudonyms import make_pseudonym
from rlhf_core.serving.client import InferenceClient
from rlhf_core.serving.served import choose_candidate, wait_for_served
from rlhf_core.store.engine import get_store

T = TypeVar("T")

router = APIRouter(responses=REFUSALS)


@router.post("/v1/rerank", response_model=RerankOut, summary="Order candidates, best first")
async def post_rerank(
    request: Request, asked: RerankIn, _actor: Annotated[Actor, needs(Permission.SCORE)]
) -> Any:
    """Order candidates by the promoted reward model.

    Without a model, or with one that is broken or too slow, they come back in their own order with
    `is_fallback`, and `reason` says why. While two versions are interleaved the order is of both,
    the scores are those of the promoted one.
    """
    candidates = [
        item if isinstance(item, Candidate) else Candidate(text=item) for item in asked.candidates
    ]
    texts = [candidate.text for candidate in candidates]
    served_id = new_id()
    user = asked.user and make_pseudonym(asked.user, get_settings().read_secret_key())
    found = await _ask(
        request,
        lambda client: client.rerank(
            asked.query, texts, top_k=asked.top_k, user=user, served_id=served_id
        ),
    )
    return {
        "id": served_id,
        "ranking": [
            {
                "index": index,
                "text": candidates[index].text,
                "id": candidates[index].id,
                "score": found.scores[index],
            }
            for index in found.ranking
        ],
        "is_fallback": found.is_fallback,
        "reason": found.reason,
        "model_version": found.version,
        "model_version_id": found.version_id,
    }


@router.post(
    "/v1/rerank/{served_id}/choice",
    response_model=ChoiceOut,
    summary="Say which candidate was used",
)
async def post_choice(
    request: Request,
    served_id: uuid.UUID,
    said: ChoiceIn,
    actor: Annotated[Actor, needs(Permission.SCORE)],
) -> Any:
    """Note which candidate of an order was used: so versions are compared by what they led to.

    Said again, the last word counts.
    """
    await run_in_threadpool(wait_for_served, get_store(), served_id)
    chosen = await request.app.state.writer.run(
        lambda db: choose_candidate(db, served_id, said.index, actor=actor)
    )
    return {"id": chosen.served_id, "index": chosen.index}


@router.post("/v1/score", response_model=ScoreOut, summary="Score completions")
async def post_score(
    request: Request, asked: ScoreIn, _actor: Annotated[Actor, needs(Permission.SCORE)]
) -> Any:
    """The probability, 0 to 1, that each completion is good by the promoted reward model."""
    prompts = [item.prompt for item in asked.items]
    completions = [item.completion for item in asked.items]
    try:
        found = await _ask(request, lambda client: client.score(prompts, completions))
    except Unavailable as error:
        return {
            "scores": [None] * len(prompts),
            "is_fallback": True,
            "reason": str(error),
            "model_version": None,
            "model_version_id": None,
        }
    return {
        "scores": found.scores,
        "is_fallback": False,
        "reason": None,
        "model_version": found.version,
        "model_version_id": found.version_id,
    }


async def _ask(request: Request, call: Callable[[InferenceClient], T]) -> T:
    state = request.app.state
    return await anyio.to_thread.run_sync(call, state.inference, limiter=state.inference_places)
