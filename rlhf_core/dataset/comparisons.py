"""Votes on two completions of one prompt, merged into one word on the pair."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.dataset.merge import DIGITS, LEAST_WEIGHT, learn_weights
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason
from rlhf_core.dataset.said import Vote, pick_unheard, read_votes
from rlhf_core.dataset.texts import PairRuling, load_pair_rulings
from rlhf_core.store.queries.verdicts import is_split
from rlhf_core.vocabulary import Choice, DisputeRule, MergeRule


@dataclass(slots=True)
class Compared:
    """What was said of a pair, `first` having the lower id.

    `lead` > 0: the first one is better, by so many points; < 0: the second one; 0: a tie. `votes`
    by rater: 1 for the first, -1 for the second, 0 for a tie.
    """

    group: str
    first: UUID
    second: UUID
    comparison_id: UUID
    reason: str | None = None
    lead: float = 0.0
    votes: dict[UUID, float] = field(default_factory=dict)

    @property
    def is_decided(self) -> bool:
        """Whether people compared the two and said something usable, a tie for one.

        So is a pair that an adjudicator took out: it is not to come back by its ratings.
        """
        return self.reason in (
            None, Reason.TIE, Reason.BOTH_BAD, Reason.DISPUTE, Reason.EXCLUDED,
        )  # fmt: skip


def read_compared(db: Session, params: DatasetParams) -> Iterator[Compared]:
    """Each pair that was compared, by prompt."""
    weights = _learn_from_all(db, params) if params.merge is MergeRule.WEIGHTED else {}
    rulings = load_pair_rulings(db) if params.adjudicated_first else {}
    for pair, rows in groupby(read_votes(db, params), key=_pair_of):
        yield _merge(list(rows), params, weights, rulings.get(pair))


def _merge(
    rows: Sequence[Vote],
    params: DatasetParams,
    weights: Mapping[UUID, float],
    ruling: PairRuling | None,
) -> Compared:
    first, second = _pair_of(rows[0])
    pair = Compared(rows[0].group, first, second, rows[0].comparison_id)
    heard = [row for row in rows if row.unheard is None]
    if rows[0].refusal is not None:
        pair.reason = rows[0].refusal
    elif ruling is not None and ruling.is_excluded:
        pair.reason = Reason.EXCLUDED
    elif not heard:
        pair.reason = pick_unheard([row.unheard for row in rows])
    elif rows[0].is_other_prompt:
        pair.reason = Reason.OTHER_PROMPT
    elif rows[0].is_empty:
        pair.reason = Reason.EMPTY
    else:
        pair.comparison_id = heard[0].comparison_id
        if ruling is None:
            _decide(pair, heard, params, weights)
        else:
            _follow(pair, heard, ruling.side)
    return pair


def _follow(pair: Compared, heard: Sequence[Vote], side: float) -> None:
    """Put the adjudicator's side ahead: by as much as the raters who say the same, else by one."""
    points = _points_by_rater(heard)
    pair.votes = {rater: _sign(lead) for rater, lead in points.items()}
    agreeing = {rater: lead for rater, lead in points.items() if _sign(lead) == side}
    pair.lead = _mean(agreeing, {}) if agreeing else side


def _decide(
    pair: Compared, heard: Sequence[Vote], params: DatasetParams, weights: Mapping[UUID, float]
) -> None:
    raters = {row.rater_id for row in heard}
    points = _points_by_rater(heard)
    pair.votes = {rater: _sign(lead) for rater, lead in points.items()}
    if len(raters) < params.filters.min_raters:
        pair.reason = Reason.FEW_RATERS
        return
    if len(points) * 2 <= len(raters):  # at least half of them like neither
        pair.reason = Reason.BOTH_BAD
        return
    votes = list(pair.votes.values())
    ahead, behind = votes.count(1.0), votes.count(-1.0)
    if params.disputes is DisputeRule.DROP and is_split(ahead, behind):
        pair.reason = Reason.DISPUTE
        return
    pair.lead = _lead(points, pair.votes, params, weights)


def _lead(
    points: Mapping[UUID, float],
    votes: Mapping[UUID, float],
    params: DatasetParams,
    weights: Mapping[UUID, float],
) -> float:
    """By how much the first is ahead. MAJORITY: more votes than the other and than ties."""
    if params.merge is MergeRule.MAJORITY:
        said = list(votes.values())
        counts = {side: said.count(side) for side in (1.0, -1.0, 0.0)}
        best = max(counts.values())
        winners = [side for side, count in counts.items() if count == best]
        if len(winners) > 1 or winners == [0.0]:
            return 0.0
        return _mean({own: points[own] for own, vote in votes.items() if vote == winners[0]}, {})
    return _mean(points, weights)


def _mean(points: Mapping[UUID, float], weights: Mapping[UUID, float]) -> float:
    shares = {rater: max(LEAST_WEIGHT, weights.get(rater, 1.0)) for rater in points}
    total = math.fsum(points[rater] * share for rater, share in shares.items())
    return round(total / math.fsum(shares.values()), DIGITS)


def _points_by_rater(heard: Sequence[Vote]) -> dict[UUID, float]:
    """By how much each rater puts the first ahead; who calls both bad has no points."""
    said: dict[UUID, list[float]] = {}
    for row in heard:
        if row.choice is not Choice.BOTH_BAD:
            said.setdefault(row.rater_id, []).append(_points(row))
    return {rater: math.fsum(all_) / len(all_) for rater, all_ in said.items()}


def _points(row: Vote) -> float:
    if row.choice is Choice.TIE:
        return 0.0
    is_first = (row.choice is Choice.LEFT) == (row.left_id < row.right_id)
    return float((row.strength or 1) * (1 if is_first else -1))


def _sign(value: float) -> float:
    return float((value > 0) - (value < 0))


def _pair_of(row: Vote) -> tuple[UUID, UUID]:
    low, high = sorted((row.left_id, row.right_id))
    return low, high


def _learn_from_all(db: Session, params: DatasetParams) -> dict[UUID, float]:
    def answers() -> Iterator[tuple[tuple[UUID, UUID], UUID, int]]:
        for pair, rows in groupby(read_votes(db, params), key=_pair_of):
            heard = [row for row in rows if row.refusal is None and row.unheard is None]
            for rater, points in _points_by_rater(heard).items():
                if points:
                    yield pair, rater, int(points > 0)

    return learn_weights(answers())
