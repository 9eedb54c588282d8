"""Rows of one completion each: scores, thumbs, texts to imitate."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from rlhf_core.dataset.judged import Judged, read_judged
from rlhf_core.dataset.merge import DIGITS, spread_of
from rlhf_core.dataset.params import DatasetParams
from rlhf_core.dataset.reasons import Reason, Tally
from rlhf_core.dataset.texts import (
    Texts,
    has_any,
    in_batches,
    load_aspects,
    load_corrections,
    load_texts,
)
from rlhf_core.dataset.voices import Voices
from rlhf_core.examples import ScoredCompletion, SftExample, UnpairedPreference
from rlhf_core.store.queries.verdicts import MIDDLE
from rlhf_core.store.tables import FeedbackAspect

NO_TEXTS = Texts("", "", {})


def build_scores(
    db: Session, params: DatasetParams, tally: Tally, voices: Voices, *, with_text: bool = True
) -> Iterator[ScoredCompletion]:
    """One row a completion with a score, by interaction."""
    use_aspects = with_text and has_any(db, FeedbackAspect)
    for batch in in_batches(_usable(read_judged(db, params), tally)):
        texts = _load(db, batch, with_text)
        ids = [own for judged in batch for own in judged.heard] if use_aspects else []
        aspects = load_aspects(db, ids)
        for judged in batch:
            text = texts.get(judged.interaction_id)
            if text is None:  # deleted since
                continue
            voices.hear(judged.answers)
            yield ScoredCompletion(
                prompt=text.prompt,
                completion=text.completion,
                score=judged.score,
                num_ratings=max(1, len(judged.answers)),
                group=judged.group,
                interaction_id=str(judged.interaction_id),
                aspects=_mean_aspects(judged.heard, aspects) if aspects else {},
                spread=spread_of(judged.answers.values()) if judged.answers else 0.0,
                segments=text.segments,
            )


def build_unpaired(
    db: Session, params: DatasetParams, tally: Tally, voices: Voices, *, with_text: bool = True
) -> Iterator[UnpairedPreference]:
    """One row a completion that more raters call good than bad, or bad than good."""
    for batch in in_batches(_usable(read_judged(db, params), tally)):
        texts = _load(db, batch, with_text)
        for judged in batch:
            text = texts.get(judged.interaction_id)
            if judged.score == MIDDLE:
                tally.count(Reason.SPLIT)
            elif text is not None:
                voices.hear(judged.answers)
                yield UnpairedPreference(
                    prompt=text.prompt,
                    completion=text.completion,
                    label=judged.score > MIDDLE,
                    group=judged.group,
                    interaction_id=str(judged.interaction_id),
                    segments=text.segments,
                )


def build_sft(
    db: Session, params: DatasetParams, tally: Tally, voices: Voices
) -> Iterator[SftExample]:
    """One row a completion at or above the threshold, and one a correction, which replaces it."""
    for batch in in_batches(read_judged(db, params)):
        texts = load_texts(db, [judged.interaction_id for judged in batch])
        corrections = load_corrections(db, [own for one in batch for own in one.corrections])
        for judged in batch:
            text = texts.get(judged.interaction_id)
            if text is None:
                if judged.reason is not None:
                    tally.count(judged.reason)
                continue
            yield from _imitable(judged, text, corrections, params, tally, voices)


def _imitable(
    judged: Judged,
    text: Texts,
    corrections: Mapping[UUID, str],
    params: DatasetParams,
    tally: Tally,
    voices: Voices,
) -> Iterator[SftExample]:
    common: dict[str, Any] = {
        "prompt": text.prompt,
        "group": judged.group,
        "interaction_id": str(judged.interaction_id),
        "segments": text.segments,
    }
    wanted: dict[str, UUID] = {}
    for feedback_id in judged.corrections:
        correction = corrections.get(feedback_id, "")
        if correction.strip() == text.completion.strip() or correction in wanted:
            tally.count(Reason.UNCHANGED)
        elif correction:
            wanted[correction] = feedback_id
    if wanted:
        voices.hear(judged.answers, also=[judged.heard[own] for own in wanted.values()])
        for correction, feedback_id in wanted.items():
            yield SftExample(
                completion=correction, is_correction=True, feedback_id=str(feedback_id), **common
            )
        if judged.reason is None and judged.score >= params.threshold:
            tally.count(Reason.CORRECTED)
    elif judged.reason is not None:
        tally.count(judged.reason)
    elif judged.score < params.threshold:
        tally.count(Reason.BELOW)
    else:
        voices.hear(judged.answers)
        yield SftExample(completion=text.completion, **common)


def _usable(things: Iterable[Judged], tally: Tally) -> Iterator[Judged]:
    """Those with a score; the others are counted."""
    for judged in things:
        if judged.reason is None:
            yield judged
        else:
            tally.count(judged.reason)


def _load(db: Session, batch: list[Judged], with_text: bool) -> Mapping[UUID, Texts]:
    ids = [judged.interaction_id for judged in batch]
    return load_texts(db, ids) if with_text else dict.fromkeys(ids, NO_TEXTS)


def _mean_aspects(
    heard: Mapping[UUID, UUID], aspects: Mapping[UUID, Mapping[str, int]]
) -> dict[str, float]:
    """The mean over raters by aspect; a rater who judged several times counts once."""
    said: dict[str, dict[UUID, list[int]]] = {}
    for feedback_id, rater in heard.items():
        for name, rating in aspects.get(feedback_id, {}).items():
            said.setdefault(name, {}).setdefault(rater, []).append(rating)
    return {name: round(_mean(map(_mean, said[name].values())), DIGITS) for name in sorted(said)}


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)
