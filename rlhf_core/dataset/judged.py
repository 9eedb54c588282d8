"""Every completion that people judged: its score, or the reason for none."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.dataset.merge import learn_weights, merge_answers
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason
from rlhf_core.dataset.said import Said, pick_unheard, read_said
from rlhf_core.dataset.texts import Ruling, has_any, in_batches, load_rulings
from rlhf_core.store.queries.verdicts import (
    MIDDLE,
    THUMB_DOWN_SCORE,
    THUMB_UP_SCORE,
    is_split,
)
from rlhf_core.store.tables import Adjudication
from rlhf_core.vocabulary import DatasetPurpose, DisputeRule, MergeRule


@dataclass(slots=True)
class Judged:
    """A completion, as its raters left it.

    `reason` is None where it has a score. `answers` by rater: scores 1 to 5, or for the purpose
    UNPAIRED verdicts 0 and 1. `heard` holds the rater of each feedback row that is heard.
    `corrections` holds the rating of each feedback row that corrects the completion.
    """

    interaction_id: UUID
    group: str
    reason: str | None = None
    score: float = 0.0
    answers: dict[UUID, float] = field(default_factory=dict)
    heard: dict[UUID, UUID] = field(default_factory=dict)
    corrections: dict[UUID, int | None] = field(default_factory=dict)


def read_judged(
    db: Session,
    params: DatasetParams,
    *,
    by_prompt: bool = False,
    corrections_only: bool = False,
) -> Iterator[Judged]:
    """Each completion with feedback, in the order of `read_said`."""
    weights = _learn_from_all(db, params) if params.merge is MergeRule.WEIGHTED else {}
    rules = params.adjudicated_first and has_any(db, Adjudication)
    said = read_said(db, params, by_prompt=by_prompt, corrections_only=corrections_only)
    things = (list(rows) for _, rows in groupby(said, key=attrgetter("interaction_id")))
    for batch in in_batches(things):
        rulings = load_rulings(db, [rows[0].interaction_id for rows in batch]) if rules else {}
        for rows in batch:
            yield _judge(rows, params, weights, rulings.get(rows[0].interaction_id))


def _judge(
    rows: Sequence[Said],
    params: DatasetParams,
    weights: Mapping[UUID, float],
    ruling: Ruling | None,
) -> Judged:
    first = rows[0]
    judged = Judged(first.interaction_id, first.group)
    heard = [row for row in rows if row.unheard is None]
    if first.refusal is not None:
        judged.reason = first.refusal
    elif ruling is not None and ruling.is_excluded:
        judged.reason = Reason.EXCLUDED
    elif not heard:
        judged.reason = pick_unheard([row.unheard for row in rows])
    if judged.reason is not None:
        return judged
    judged.heard = {row.feedback_id: row.rater_id for row in heard}
    judged.corrections = {row.feedback_id: row.rating for row in heard if row.has_correction}
    judged.answers = _answers_by_rater(heard, params)
    decided = None if ruling is None else _answer(ruling.rating, ruling.thumb, params)
    judged.reason = _find_reason(judged, heard, params, decided)
    if judged.reason is None:
        merged = (
            merge_answers(judged.answers, params.merge, weights) if decided is None else decided
        )
        judged.score = merged
    return judged


def _find_reason(
    judged: Judged, heard: Sequence[Said], params: DatasetParams, decided: float | None
) -> str | None:
    if decided is None and not judged.answers:
        return Reason.NEUTRAL if any(row.thumb == 0 for row in heard) else Reason.NO_SCORE
    if heard[0].is_empty:
        return Reason.EMPTY
    if decided is not None:
        return None
    if len(judged.answers) < params.filters.min_raters:
        return Reason.FEW_RATERS
    if params.disputes is DisputeRule.DROP:
        cut = _cut(params)
        num_good = sum(answer >= cut for answer in judged.answers.values())
        if is_split(num_good, len(judged.answers) - num_good):
            return Reason.DISPUTE
    return None


def _answers_by_rater(heard: Sequence[Said], params: DatasetParams) -> dict[UUID, float]:
    """One answer a rater: whoever judged a completion several times counts once, by the mean."""
    said: dict[UUID, list[float]] = {}
    for row in heard:
        answer = _answer(row.rating, row.thumb, params)
        if answer is not None:
            said.setdefault(row.rater_id, []).append(answer)
    return {rater: sum(all_) / len(all_) for rater, all_ in said.items()}


def _answer(rating: int | None, thumb: int | None, params: DatasetParams) -> float | None:
    """A score, or for UNPAIRED a verdict; None where neither was given.

    A neutral thumb is no answer: it says neither good nor bad, and as a 3 it would teach "bad" at
    the usual threshold.
    """
    if params.purpose is DatasetPurpose.UNPAIRED:
        if thumb:
            return float(thumb > 0)
        return None if rating is None else float(rating >= params.threshold)
    if rating is not None:
        return float(rating)
    return float(THUMB_UP_SCORE if thumb > 0 else THUMB_DOWN_SCORE) if thumb else None


def _cut(params: DatasetParams) -> float:
    """At or above this, an answer says good."""
    return MIDDLE if params.purpose is DatasetPurpose.UNPAIRED else params.threshold


def _learn_from_all(db: Session, params: DatasetParams) -> dict[UUID, float]:
    cut = _cut(params)
    said = read_said(db, params)

    def answers() -> Iterator[tuple[UUID, UUID, int]]:
        for interaction_id, rows in groupby(said, key=attrgetter("interaction_id")):
            heard = [row for row in rows if row.refusal is None and row.unheard is None]
            for rater, answer in _answers_by_rater(heard, params).items():
                yield interaction_id, rater, int(answer >= cut)

    return learn_weights(answers())
