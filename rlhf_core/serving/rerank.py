"""Reranking for Python programs: asks the inference process, else loads the model here."""

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rlhf_core.artifacts import read_manifest
from rlhf_core.encoder.model import clean_text
from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.registry.service import find_production
from rlhf_core.serving.client import InferenceClient, NotRunning
from rlhf_core.serving.loader import LoadedModel, ModelSlot, load_version
from rlhf_core.serving.ranking import Ranking, Scores, keep_order, rank_scores
from rlhf_core.store.engine import get_store

LOGGER = logging.getLogger(__name__)
REFRESH_S = 1.0


@dataclass(frozen=True)
class Reranked:
    """Candidates in a new order. `top` are the candidates as given, best first, at most top k.

    `scores` are P(good) in 0..1 in the order given (None: no number), `ranking` the indices of
    `top`. With `is_fallback` the order is the one given, and `reason` says why.
    """

    top: tuple[Any, ...]
    ranking: tuple[int, ...]
    scores: tuple[float | None, ...]
    is_fallback: bool
    reason: str | None
    version: str | None
    version_id: uuid.UUID | None


def is_model_ready() -> bool:
    """Whether a promoted model can score now: served, or with its files at hand. Never raises."""
    try:
        if _client().health().is_ready:
            return True
        with get_store().reading() as db:
            version = find_production(db)
        if version is None:
            return False
        read_manifest(version.folder, version.manifest_sha256)
    except Exception:
        LOGGER.debug("no model is ready", exc_info=True)
        return False
    return True


def rerank_candidates(
    query: str, candidates: Sequence[Any], *, top_k: int | None = None
) -> Reranked:
    """Order candidates (texts, or dicts with `text`) by how good an answer to `query` they are.

    Never raises: without a model, or with input that cannot be scored, the order stays as it is
    and the result says so. Equal scores keep their order.
    """
    try:
        given = list(candidates)
    except TypeError:
        given = []
        return _pack(given, keep_order(0, "The candidates are no list."))
    keep = top_k if isinstance(top_k, int) and top_k >= 0 else None
    try:
        ranking = _rank(query, [_text_of(candidate) for candidate in given], top_k)
    except Exception as error:  # noqa: BLE001 - a caller gets the order it had, whatever happens
        reason = str(error) if isinstance(error, RlhfError) else f"{type(error).__name__}: {error}"
        ranking = keep_order(len(given), reason, top_k=keep)
    return _pack(given, ranking)


def score_completions(
    prompts: Sequence[str], completions: Sequence[str], *, client: InferenceClient | None = None
) -> Scores:
    """P(good) of each pair, from the inference process or, where none runs, a model loaded here.

    Raises Unavailable where there is no model, InvalidInput for what is no text.
    """
    try:
        return (client or _client()).score(prompts, completions)
    except NotRunning:
        return _score_here(prompts, completions)


def _rank(query: str, texts: list[str], top_k: int | None) -> Ranking:
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise InvalidInput(f"top_k is {top_k!r}: choose 1 or more.", field="top_k")
    try:
        return _client().request_ranking(query, texts, top_k=top_k)
    except NotRunning:
        found = _score_here([query] * len(texts), texts)
    return Ranking(
        ranking=rank_scores(found.scores, top_k),
        scores=found.scores,
        version=found.version,
        version_id=found.version_id,
    )


def _score_here(prompts: Sequence[str], completions: Sequence[str]) -> Scores:
    slot = _slot()
    slot.refresh(at_most_every_s=REFRESH_S)
    model = slot.current
    if model is None:
        raise Unavailable(slot.problem or "No model is loaded.")
    cleaned = [[clean_text(text) for text in texts] for texts in (prompts, completions)]
    return Scores(tuple(model.score(*cleaned)), model.name, model.version_id)


def _text_of(candidate: Any) -> str:
    text = candidate.get("text") if isinstance(candidate, dict) else candidate
    if not isinstance(text, str):
        raise InvalidInput(
            f"A candidate is a text or a dict with `text`, not {type(candidate).__name__}."
        )
    return text


def _pack(given: list[Any], ranking: Ranking) -> Reranked:
    return Reranked(
        top=tuple(given[index] for index in ranking.ranking),
        ranking=ranking.ranking,
        scores=ranking.scores,
        is_fallback=ranking.is_fallback,
        reason=ranking.reason,
        version=ranking.version,
        version_id=ranking.version_id,
    )


@lru_cache
def _client() -> InferenceClient:
    return InferenceClient()


@lru_cache
def _slot() -> ModelSlot[LoadedModel]:
    return ModelSlot(get_store(), load_version)
