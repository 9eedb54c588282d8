"""From scores to an order, and what a caller gets."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranking:
    """The order of candidates. `ranking` holds indices, best first, cut to the top k asked for.

    `scores` are P(good) in 0..1 in the candidates' own order, None where there is none. With
    `is_fallback` the ranking is the original order and `reason` says why.
    """

    ranking: tuple[int, ...]
    scores: tuple[float | None, ...]
    is_fallback: bool = False
    reason: str | None = None
    version: str | None = None
    version_id: uuid.UUID | None = None


@dataclass(frozen=True)
class Scores:
    """P(good) in 0..1 of each completion, None where the model gave no number."""

    scores: tuple[float | None, ...]
    version: str
    version_id: uuid.UUID


def rank_scores(scores: Sequence[float | None], top_k: int | None = None) -> tuple[int, ...]:
    """Indices by falling score; ties keep their order, what has no number comes last.

    >>> rank_scores([0.2, float("nan"), 0.9, 0.2])
    (2, 0, 3, 1)
    """

    def place(index: int) -> tuple[bool, float]:
        score = scores[index]
        if score is None or math.isnan(score):
            return True, 0.0
        return False, -score

    return tuple(sorted(range(len(scores)), key=place)[:top_k])


def name_key(user: str | None, served_id: uuid.UUID | None) -> str | None:
    """What divides the requests among the sides of a deployment: the user, else each its own."""
    return user or (None if served_id is None else str(served_id))


def keep_order(num_candidates: int, reason: str, *, top_k: int | None = None) -> Ranking:
    """The fallback: the original order, flagged."""
    return Ranking(
        ranking=tuple(range(num_candidates))[:top_k],
        scores=(None,) * num_candidates,
        is_fallback=True,
        reason=reason,
    )
