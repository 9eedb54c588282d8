"""Rows for training, built from feedback in the database; nothing is left out uncounted.

A score is the mean over raters of what each said of the completion: the rating, or where there is
none the thumb (up counts as 5, down as 1). A neutral thumb has no score: it says neither good nor
bad, and as a 3 it would teach "bad" at the usual threshold of 4. A rater who judged a completion
several times counts once, with the mean.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.examples import ScoredCompletion
from rlhf_core.store.tables import Consent, Feedback, Interaction, Rater
from rlhf_core.vocabulary import ConsentState

THUMB_UP_SCORE = 5
THUMB_DOWN_SCORE = 1
CONSENT_PURPOSE = "training"
BLANKS = " \t\r\n"
SCORE_DIGITS = 6  # a sum of floats depends on its order, which a database may change
ROWS_A_FETCH = 2_000


class Reason(StrEnum):
    """Why an interaction with feedback gives no row; the first that applies counts."""

    OTHER_SOURCE = "another source"
    DEMO = "demo data"
    CONSENT = "consent to training withdrawn"
    WITHDRAWN = "feedback withdrawn"
    NEUTRAL = "neutral thumbs only"
    NO_SCORE = "neither rating nor thumb"
    EMPTY = "empty completion"


@dataclass(frozen=True)
class ScoresParams:
    """Which interactions. `source`: only this one's, None is every source."""

    source: str | None = None
    include_demo: bool = False


@dataclass(frozen=True)
class BuiltRows:
    """`rows` are read from the database while they are iterated, once, in a fixed order.

    Each names its `interaction_id`, so the rows are also the members. `left_out` counts
    interactions with feedback on the completion that gave no row, by reason.
    """

    rows: Iterator[ScoredCompletion]
    left_out: dict[str, int]


@dataclass(frozen=True)
class ScoreCounts:
    """What `build_scores` would give, counted only. `lowest` and `highest` are 0 without rows."""

    num_rows: int
    num_ratings: int
    num_raters: int
    num_prompts: int
    num_good: int
    num_prompts_good: int
    num_prompts_bad: int
    lowest: float
    highest: float
    left_out: dict[str, int]


def build_scores(db: Session, *, params: ScoresParams) -> BuiltRows:
    """One row an interaction that people rated, streamed; memory does not grow with the rows."""
    return BuiltRows(rows=_stream(db, params), left_out=_count_left_out(db, params))


def count_scores(db: Session, *, params: ScoresParams, threshold: float) -> ScoreCounts:
    """Count without returning any text; `num_good` are at or above the threshold."""
    judged = _judged(params).cte("judged")
    is_good = sa.func.round(sa.cast(judged.c.score, sa.Numeric(12, 8)), SCORE_DIGITS) >= threshold
    group = judged.c.prompt_hash
    query = sa.select(
        judged.c.reason,
        sa.func.count().label("num_rows"),
        sa.func.sum(judged.c.num_raters).label("num_ratings"),
        sa.func.count(sa.distinct(group)).label("num_prompts"),
        sa.func.count(sa.case((is_good, 1))).label("num_good"),
        sa.func.count(sa.distinct(sa.case((is_good, group)))).label("num_prompts_good"),
        sa.func.count(sa.distinct(sa.case((~is_good, group)))).label("num_prompts_bad"),
        sa.func.min(judged.c.score).label("lowest"),
        sa.func.max(judged.c.score).label("highest"),
    ).group_by(judged.c.reason)
    by_reason = {row.reason: row for row in db.execute(query)}
    left_out = {r.value: by_reason[r.value].num_rows for r in Reason if r.value in by_reason}
    rows = by_reason.get(None)
    whole = [name for name in ScoreCounts.__dataclass_fields__ if name.startswith("num_")]
    found = {name: int(getattr(rows, name, 0)) for name in whole}
    return ScoreCounts(
        **found | {"num_raters": _count_raters(db, params)},
        lowest=round(float(rows.lowest), SCORE_DIGITS) if rows else 0.0,
        highest=round(float(rows.highest), SCORE_DIGITS) if rows else 0.0,
        left_out=left_out,
    )


def list_sources(db: Session) -> list[str]:
    """The sources that interactions came from, in alphabetical order."""
    return list(db.scalars(sa.select(Interaction.source).distinct().order_by(Interaction.source)))


def _stream(db: Session, params: ScoresParams) -> Iterator[ScoredCompletion]:
    judged = _judged(params).cte("judged")
    query = (
        sa.select(
            Interaction.id,
            Interaction.prompt,
            Interaction.completion,
            Interaction.prompt_hash,
            judged.c.score,
            judged.c.num_raters,
        )
        .join(judged, judged.c.interaction_id == Interaction.id)
        .where(judged.c.reason.is_(None))
        .order_by(Interaction.id)
        .execution_options(yield_per=ROWS_A_FETCH)
    )
    for row in db.execute(query):
        yield ScoredCompletion(
            prompt=row.prompt,
            completion=row.completion,
            score=round(float(row.score), SCORE_DIGITS),
            num_ratings=row.num_raters,
            group=row.prompt_hash,
            interaction_id=str(row.id),
        )


def _count_left_out(db: Session, params: ScoresParams) -> dict[str, int]:
    judged = _judged(params).subquery()
    query = (
        sa.select(judged.c.reason, sa.func.count())
        .where(judged.c.reason.is_not(None))
        .group_by(judged.c.reason)
    )
    found = {reason: count for reason, count in db.execute(query)}
    return {reason.value: found[reason.value] for reason in Reason if reason.value in found}


def _count_raters(db: Session, params: ScoresParams) -> int:
    """How many people were heard, also those of whom only empty completions were rated."""
    said = _said(params).subquery()
    query = (
        sa.select(sa.func.count(sa.distinct(said.c.rater_id)))
        .join(Interaction, Interaction.id == said.c.interaction_id)
        .where(
            said.c.is_usable == 1,
            said.c.score.is_not(None),
            *(sa.not_(condition) for condition, _ in _refusals(params)),
        )
    )
    return db.scalar(query) or 0


def _withdrew() -> sa.Select[tuple[str]]:
    """Pseudonyms whose newest word on training is no."""
    newest = (
        sa.select(
            Consent.pseudonym,
            Consent.state,
            sa.func.row_number()
            .over(
                partition_by=Consent.pseudonym,
                order_by=[Consent.recorded_at.desc(), Consent.id.desc()],
            )
            .label("place"),
        )
        .where(Consent.purpose == CONSENT_PURPOSE)
        .subquery()
    )
    return sa.select(newest.c.pseudonym).where(
        newest.c.place == 1, newest.c.state == ConsentState.WITHDRAWN
    )


def _said(params: ScoresParams) -> sa.Select[Any]:
    """Feedback on completions, one row a feedback row, with its score and what speaks against it.

    A demo rater's word on a real interaction counts as demo data.
    """
    consents = Rater.pseudonym.not_in(_withdrew())
    shown = sa.true() if params.include_demo else Rater.is_demo.is_(False)
    score = sa.case(
        (Feedback.rating.is_not(None), Feedback.rating),
        (Feedback.thumb == 1, THUMB_UP_SCORE),
        (Feedback.thumb == -1, THUMB_DOWN_SCORE),
    )
    usable = sa.and_(Feedback.withdrawn_at.is_(None), consents, shown)
    return (
        sa.select(
            Feedback.interaction_id,
            Feedback.rater_id,
            score.label("score"),
            _flag(Feedback.withdrawn_at.is_not(None)).label("is_withdrawn"),
            _flag(~consents).label("is_refused"),
            _flag(sa.not_(shown)).label("is_demo"),
            _flag(usable).label("is_usable"),
            _flag(usable & (Feedback.thumb == 0)).label("is_neutral"),
        )
        .join(Rater, Rater.id == Feedback.rater_id)
        .where(Feedback.step_id.is_(None))
    )


def _judged(params: ScoresParams) -> sa.Select[Any]:
    """Every interaction with feedback on its completion: its score, or the reason for none."""
    said = _said(params).subquery("said")
    usable_score = sa.case((said.c.is_usable == 1, said.c.score))
    by_rater = (
        sa.select(
            said.c.interaction_id,
            sa.func.avg(usable_score).label("score"),
            sa.func.count().label("num_said"),
            sa.func.sum(said.c.is_withdrawn).label("num_withdrawn"),
            sa.func.sum(said.c.is_refused).label("num_refused"),
            sa.func.sum(said.c.is_demo).label("num_demo"),
            sa.func.sum(said.c.is_usable).label("num_usable"),
            sa.func.sum(said.c.is_neutral).label("num_neutral"),
        )
        .group_by(said.c.interaction_id, said.c.rater_id)
        .subquery("by_rater")
    )
    total = {
        name: sa.func.sum(by_rater.c[f"num_{name}"])
        for name in ("said", "withdrawn", "refused", "demo", "usable", "neutral")
    }
    heard = (
        sa.select(
            by_rater.c.interaction_id,
            sa.func.avg(by_rater.c.score).label("score"),
            sa.func.count(by_rater.c.score).label("num_raters"),
            *(value.label(name) for name, value in total.items()),
        )
        .group_by(by_rater.c.interaction_id)
        .subquery("heard")
    )
    none_left = heard.c.usable == 0
    reason = sa.case(
        *_refusals(params),
        (none_left & (heard.c.withdrawn == heard.c.said), Reason.WITHDRAWN.value),
        (none_left & (heard.c.refused > 0), Reason.CONSENT.value),
        (none_left & (heard.c.demo > 0), Reason.DEMO.value),
        (heard.c.score.is_(None) & (heard.c.neutral > 0), Reason.NEUTRAL.value),
        (heard.c.score.is_(None), Reason.NO_SCORE.value),
        # prompts are never empty: every door refuses that
        (sa.func.trim(Interaction.completion, BLANKS) == "", Reason.EMPTY.value),
        else_=None,
    )
    return sa.select(
        heard.c.interaction_id,
        Interaction.prompt_hash,
        heard.c.score,
        heard.c.num_raters,
        reason.label("reason"),
    ).join(Interaction, Interaction.id == heard.c.interaction_id)


def _refusals(params: ScoresParams) -> list[tuple[sa.ColumnElement[bool], str]]:
    """What speaks against an interaction as a whole, in the order of `Reason`."""
    other = sa.false() if params.source is None else Interaction.source != params.source
    demo = sa.false() if params.include_demo else Interaction.is_demo.is_(True)
    is_refused = Interaction.user_pseudonym.in_(_withdrew())
    return [
        (other, Reason.OTHER_SOURCE.value),
        (demo, Reason.DEMO.value),
        (sa.func.coalesce(is_refused, sa.false()), Reason.CONSENT.value),
    ]


def _flag(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.case((condition, 1), else_=0)
