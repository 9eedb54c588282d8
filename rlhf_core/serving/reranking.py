"""Orders of candidates over the inference process: by what serves, or as a deployment says."""

import asyncio
import logging
import time
import uuid
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from rlhf_core.errors import RlhfError, Unavailable
from rlhf_core.release.interleaving import draft_teams
from rlhf_core.serving.loader import LoadedModel
from rlhf_core.serving.logbook import Logbook
from rlhf_core.serving.ranking import name_key, rank_scores
from rlhf_core.serving.traffic import Choice, Traffic

LOGGER = logging.getLogger(__name__)
MAX_AT_ONCE = 4
"""Requests that compute side by side; more would only share the same cores."""
MAX_TEXTS = 2_000

Text = Annotated[str, Field(strict=True)]


class Busy(Unavailable):
    """Too many compute already: no fault of the model that was asked."""


class RerankBody(BaseModel):
    """What `/rerank` takes. `user` is a pseudonym; the row of the served log gets `served_id`."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text
    candidates: list[Text] = Field(max_length=MAX_TEXTS)
    top_k: int | None = Field(default=None, ge=1)
    user: Text | None = None
    served_id: uuid.UUID | None = None


class RerankService:
    """Scores by the reward models in memory, a few requests at a time."""

    def __init__(
        self, traffic: Traffic[LoadedModel], logbook: Logbook, *, patience_s: float
    ) -> None:
        self._traffic = traffic
        self._logbook = logbook
        self._patience_s = patience_s
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)

    async def rerank(self, body: RerankBody) -> dict[str, Any]:
        """The candidates' order; the original one, flagged, where there is no sound model."""
        started = time.perf_counter()
        choice = self._traffic.choose(name_key(body.user, body.served_id))
        scores: list[float | None] = [None] * len(body.candidates)
        order = list(range(len(body.candidates)))[: body.top_k]
        reason = failure = details = None
        try:
            model = self.need(choice.model)
            if choice.control is None:
                scores = await self._score(model, body)
                order = list(rank_scores(scores, body.top_k))
            else:
                ours, theirs = await asyncio.gather(
                    self._score(choice.control, body),
                    self._score(model, body),
                    return_exceptions=True,
                )
                failure = theirs if isinstance(theirs, BaseException) else None
                scores, order, details = _draft(ours, theirs, body)
        except Unavailable as error:
            reason = str(error)
        self._note(body, choice, started, reason, failure, details)
        return {
            "ranking": order,
            "scores": scores,
            "is_fallback": reason is not None,
            "reason": reason,
            **describe(choice.control or choice.model),
        }

    def need(self, model: LoadedModel | None) -> LoadedModel:
        """The model. Raises Unavailable where there is none."""
        if model is None:
            raise Unavailable(self._traffic.production.problem or "No model is loaded.")
        return model

    async def compute(
        self, model: LoadedModel, prompts: list[str], completions: list[str]
    ) -> list[float | None]:
        """Wait for a turn, not longer than a caller waits, then compute in a thread."""
        try:
            await asyncio.wait_for(self._turns.acquire(), timeout=self._patience_s)
        except TimeoutError as error:
            raise Busy("The inference process is busy.") from error
        try:
            return await run_in_threadpool(model.score, prompts, completions)
        except Unavailable as error:  # a sentence that names the model
            LOGGER.warning("%s", error)
            raise
        except Exception as error:
            LOGGER.exception("%s failed", model.name)
            what = str(error) if isinstance(error, RlhfError) else type(error).__name__
            raise Unavailable(f"{model.name} failed: {what}") from error
        finally:
            self._turns.release()

    async def _score(self, model: LoadedModel, body: RerankBody) -> list[float | None]:
        return await self.compute(model, [body.prompt] * len(body.candidates), body.candidates)

    def _note(
        self,
        body: RerankBody,
        choice: Choice[LoadedModel],
        started: float,
        reason: str | None,
        failure: BaseException | None,
        details: dict[str, Any] | None,
    ) -> None:
        """Take it down. `failure` is the treatment's in an order that is drafted from two.

        Such an order takes the work of both: that it comes late or that the other one failed is no
        error of the treatment.
        """
        passed_s = time.perf_counter() - started
        if reason is None and passed_s > self._patience_s:  # whoever asked has given up
            reason = f"The model took longer than {self._patience_s:g} s."
        if choice.control is None:
            is_error = reason is not None and choice.model is not None
        else:
            is_error = failure is not None and not isinstance(failure, Busy)
        self._logbook.note(
            "rerank",
            num_candidates=len(body.candidates),
            latency_ms=passed_s * 1000,
            version_id=None if choice.model is None else choice.model.version_id,
            route=choice.route,
            user_pseudonym=body.user,
            is_fallback=reason is not None,
            is_error=is_error,
            reason=reason if failure is None else str(failure),
            details=details,
            served_id=body.served_id,
        )


def _draft(
    ours: list[float | None] | BaseException,
    theirs: list[float | None] | BaseException,
    body: RerankBody,
) -> tuple[list[float | None], list[int], dict[str, Any] | None]:
    """One order drafted from what serves and the treatment in turn; the scores are of what serves.

    The drafting team of each place is kept: the candidate that is used is a point for it. Where the
    treatment failed the order is the control's; raises what went wrong with that.
    """
    if isinstance(ours, BaseException):
        raise ours
    if isinstance(theirs, BaseException):
        return ours, list(rank_scores(ours, body.top_k)), None
    seed = (body.served_id or uuid.uuid4()).int % 2**63
    merged, teams = draft_teams(rank_scores(ours), rank_scores(theirs), seed=seed)
    order = list(merged[: body.top_k])
    return ours, order, {"order": order, "teams": list(teams[: len(order)])}


def describe(model: LoadedModel | None) -> dict[str, Any]:
    """Which version it is, as the answers say it."""
    if model is None:
        return {"version": None, "version_id": None}
    return {"version": model.name, "version_id": str(model.version_id)}
