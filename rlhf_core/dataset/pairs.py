"""Preference pairs: from comparisons, from two rated answers to one prompt, from corrections.

Prompt by prompt, so that what was compared directly is not paired again by its ratings, and no
prompt gives more pairs than it may. A tie that is kept has the margin 0, the lower id first.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby, islice
from operator import attrgetter, itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.dataset.comparisons import Compared, read_compared
from rlhf_core.dataset.judged import Judged, read_judged
from rlhf_core.dataset.merge import DIGITS
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason, Tally
from rlhf_core.dataset.texts import has_any, in_batches, load_corrections, load_texts
from rlhf_core.dataset.voices import Voices
from rlhf_core.examples import PreferencePair
from rlhf_core.store.tables import Comparison
from rlhf_core.vocabulary import PairOrigin, TieRule

MAX_RATING = 5.0
LEAST_MARGIN = 1.0
_EPSILON = 10**-DIGITS / 2


@dataclass(frozen=True)
class _Pair:
    """A pair without its texts; a correction has no `chosen` of its own."""

    group: str
    origin: PairOrigin
    margin: float
    chosen: UUID
    rejected: UUID
    num_votes: int = 1
    comparison_id: UUID | None = None
    feedback_id: UUID | None = None


def build_pairs(
    db: Session, params: DatasetParams, tally: Tally, voices: Voices
) -> Iterator[PreferencePair]:
    """One row a pair, by prompt."""
    pairs = (
        pair
        for compared, judged in _by_prompt(db, params)
        for pair in _pairs_of_prompt(compared, judged, params, tally, voices)
    )
    for batch in in_batches(pairs):
        ids = (own for pair in batch for own in (pair.chosen, pair.rejected))
        texts = load_texts(db, ids)
        corrections = load_corrections(db, [p.feedback_id for p in batch if p.feedback_id])
        for pair in batch:
            chosen, rejected = texts.get(pair.chosen), texts.get(pair.rejected)
            if chosen is None or rejected is None:  # deleted since
                continue
            is_correction = pair.feedback_id is not None
            better = chosen.completion
            if pair.feedback_id is not None:
                better = corrections.get(pair.feedback_id, rejected.completion)
            if not rejected.completion.strip():  # corrected, but there is nothing to prefer it to
                tally.count(Reason.EMPTY)
                continue
            if better.strip() == rejected.completion.strip():
                tally.count(Reason.UNCHANGED if is_correction else Reason.SAME)
                continue
            yield PreferencePair(
                prompt=chosen.prompt,
                chosen=better,
                rejected=rejected.completion,
                margin=pair.margin,
                group=pair.group,
                origin=pair.origin.value,
                num_votes=pair.num_votes,
                chosen_interaction_id=str(pair.chosen),
                rejected_interaction_id=str(pair.rejected),
                comparison_id=str(pair.comparison_id or ""),
                feedback_id=str(pair.feedback_id or ""),
                segments=chosen.segments,
            )


def _by_prompt(db: Session, params: DatasetParams) -> Iterator[tuple[list[Compared], list[Judged]]]:
    """What was compared and what was judged, one prompt after another."""
    origins = params.pair_origins
    compared: Iterable[Compared] = ()
    judged: Iterable[Judged] = ()
    if PairOrigin.COMPARISON in origins and has_any(db, Comparison):
        compared = read_compared(db, params)
    if PairOrigin.RATINGS in origins or PairOrigin.CORRECTION in origins:
        only = PairOrigin.RATINGS not in origins
        judged = read_judged(db, params, by_prompt=True, corrections_only=only)
    both = heapq.merge(_groups(compared, 0), _groups(judged, 1), key=itemgetter(0))
    for _, parts in groupby(both, key=itemgetter(0)):
        found: tuple[list[Any], list[Any]] = ([], [])
        for _, side, members in parts:
            found[side].extend(members)
        yield found


def _groups(things: Iterable[Any], side: int) -> Iterator[tuple[str, int, list[Any]]]:
    for group, members in groupby(things, key=attrgetter("group")):
        yield group, side, list(members)


def _pairs_of_prompt(
    compared: Sequence[Compared],
    judged: Sequence[Judged],
    params: DatasetParams,
    tally: Tally,
    voices: Voices,
) -> Iterator[_Pair]:
    room = params.max_pairs_a_prompt
    used: set[UUID] = set()
    for pair in _from_comparisons(compared, params, tally, voices):
        if not room:
            tally.count(Reason.TOO_MANY)
            continue
        room -= 1
        used |= {pair.chosen, pair.rejected}
        yield pair
    if PairOrigin.CORRECTION in params.pair_origins:
        for one in judged:
            taken = list(islice(_from_corrections(one), room))
            tally.count(Reason.TOO_MANY, len(one.corrections) - len(taken))
            room -= len(taken)
            if taken:
                used.add(one.interaction_id)
                voices.hear({}, also=[one.heard[own] for own in one.corrections])
            yield from taken
    if PairOrigin.RATINGS in params.pair_origins:
        known = {(one.first, one.second) for one in compared if one.is_decided}
        yield from _from_ratings(judged, known, used, room, params, tally, voices)
    else:
        for one in judged:
            if one.reason is not None and not one.corrections:
                tally.count(one.reason)


def _from_comparisons(
    compared: Sequence[Compared], params: DatasetParams, tally: Tally, voices: Voices
) -> Iterator[_Pair]:
    for one in compared:
        reason = one.reason
        if reason is None and one.lead == 0 and params.ties is TieRule.DROP:
            reason = one.reason = Reason.TIE
        if reason is not None:
            tally.count(reason)
            continue
        voices.hear(one.votes)
        is_first = one.lead >= 0
        yield _Pair(
            group=one.group,
            origin=PairOrigin.COMPARISON,
            margin=abs(one.lead),
            chosen=one.first if is_first else one.second,
            rejected=one.second if is_first else one.first,
            num_votes=max(1, len(one.votes)),  # decided though all called both bad
            comparison_id=one.comparison_id,
        )


def _from_corrections(judged: Judged) -> Iterator[_Pair]:
    """The correction over the original; by more, the worse its author rated the original."""
    for feedback_id, rating in judged.corrections.items():
        yield _Pair(
            group=judged.group,
            origin=PairOrigin.CORRECTION,
            margin=LEAST_MARGIN if rating is None else max(LEAST_MARGIN, MAX_RATING - rating),
            chosen=judged.interaction_id,
            rejected=judged.interaction_id,
            feedback_id=feedback_id,
        )


def _from_ratings(
    judged: Sequence[Judged],
    known: set[tuple[UUID, UUID]],
    used: set[UUID],
    room: int,
    params: DatasetParams,
    tally: Tally,
    voices: Voices,
) -> Iterator[_Pair]:
    """Two rated answers, further apart than `min_gap`; those in `known` were compared directly."""
    rated = [one for one in judged if one.reason is None]
    for one in judged:
        if one.reason is not None and not one.corrections and one.interaction_id not in used:
            tally.count(one.reason)
    if len(rated) == 1 and rated[0].interaction_id not in used:
        tally.count(Reason.SINGLE)
    num_ties, wide = _count_apart(rated, known, params.min_gap)
    better_worse = _spread_out(rated, known, params.min_gap)
    keeps_ties = params.ties is TieRule.KEEP
    ties = _alike(rated, known, params.min_gap) if keeps_ties else iter(())
    taken = [_pair_up(a, b) for a, b in islice(better_worse, room)]
    tied = [replace(_pair_up(a, b), margin=0.0) for a, b in islice(ties, room - len(taken))]
    tally.count(Reason.TOO_MANY, wide - len(taken) + (num_ties - len(tied) if keeps_ties else 0))
    if not keeps_ties:
        tally.count(Reason.TIE, num_ties)
    heard: set[UUID] = set()
    for pair in (*taken, *tied):
        heard |= {pair.chosen, pair.rejected}
        yield pair
    for one in rated:
        if one.interaction_id in heard:
            voices.hear(one.answers)


def _pair_up(better: Judged, worse: Judged) -> _Pair:
    return _Pair(
        group=better.group,
        origin=PairOrigin.RATINGS,
        margin=round(better.score - worse.score, DIGITS),
        chosen=better.interaction_id,
        rejected=worse.interaction_id,
        num_votes=max(1, min(len(better.answers), len(worse.answers))),
    )


def _is_known(a: Judged, b: Judged, known: set[tuple[UUID, UUID]]) -> bool:
    low, high = sorted((a.interaction_id, b.interaction_id))
    return (low, high) in known


def _count_apart(
    rated: Sequence[Judged], known: set[tuple[UUID, UUID]], min_gap: float
) -> tuple[int, int]:
    """How many pairs are ties and how many are apart, without those in `known`."""
    scores = sorted(one.score for one in rated)
    wide = sum(bisect_left(scores, round(s - min_gap, DIGITS) + _EPSILON) for s in scores)
    ties = len(rated) * (len(rated) - 1) // 2 - wide
    by_id = {one.interaction_id: one for one in rated}
    for first, second in known:
        if first in by_id and second in by_id:
            gap = abs(by_id[first].score - by_id[second].score)
            is_wide = round(gap, DIGITS) >= min_gap
            wide, ties = wide - is_wide, ties - (not is_wide)
    return ties, wide


def _spread_out(
    rated: Sequence[Judged], known: set[tuple[UUID, UUID]], min_gap: float
) -> Iterator[tuple[Judged, Judged]]:
    """All (better, worse) far enough apart, so ordered that any number of them uses all evenly."""
    by_score = sorted(rated, key=lambda one: (one.score, one.interaction_id))
    scores = [one.score for one in by_score]
    # who is worse than each: the first so many of `by_score`
    worse = [
        (one, bisect_left(scores, round(one.score - min_gap, DIGITS) + _EPSILON))
        for one in by_score
    ]
    open_ = sorted(
        ((one, count) for one, count in worse if count), key=lambda item: _shuffled(item[0])
    )
    turn = 0
    while open_:
        for one, count in open_:
            start = int(_shuffled(one)[:8], 16)
            other = by_score[(start + turn) % count]
            if not _is_known(one, other, known):
                yield one, other
        turn += 1
        open_ = [(one, count) for one, count in open_ if count > turn]


def _alike(
    rated: Sequence[Judged], known: set[tuple[UUID, UUID]], min_gap: float
) -> Iterator[tuple[Judged, Judged]]:
    """All pairs that are too close to call, the lower id first."""
    by_score = sorted(rated, key=lambda one: (one.score, one.interaction_id))
    for place, one in enumerate(by_score):
        for other in islice(by_score, place + 1, None):
            if round(other.score - one.score, DIGITS) >= min_gap:
                break
            if not _is_known(one, other, known):
                low, high = sorted((one, other), key=attrgetter("interaction_id"))
                yield low, high


def _shuffled(one: Judged) -> str:
    """A place in an order that has nothing to do with the score, the same each time."""
    return blake2b(one.interaction_id.bytes, digest_size=8).hexdigest()
