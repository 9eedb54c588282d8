"""What each rater says of a thing, and when raters are evenly split: one rule for all.

Datasets, the list of disputes and the raters' figures read answers the same way: whoever judged a
thing several times counts once, by the mean; what was withdrawn does not count. A thing is disputed
where as many raters say yes as no: no majority decides it, and somebody has to.
"""

from typing import Any

import sqlalchemy as sa

from rlhf_core.store.base import table_of
from rlhf_core.store.tables import Comparison, Feedback
from rlhf_core.vocabulary import Choice

GOOD_FROM = 4.0
"""A rating at or above it says good, unless somebody chooses another."""
BAD_UP_TO = 2
"""A rating at or below it says bad."""
THUMB_UP_SCORE = 5
THUMB_DOWN_SCORE = 1
MIDDLE = 0.5  # between the verdicts "wrong" (0) and "right" (1)

FEEDBACK = table_of(Feedback)
COMPARISON = table_of(Comparison)


def is_counted(feedback: Any) -> sa.ColumnElement[bool]:
    """The row counts in figures: it stands, and is no repeat that a queue asked for as a test.

    Who rates a thing again by themselves, as in many an imported file, says something new.
    """
    is_first = sa.or_(feedback.c.occasion == 0, feedback.c.queue_id.is_(None))
    return sa.and_(feedback.c.withdrawn_at.is_(None), is_first)


def is_good(feedback: Any) -> sa.ColumnElement[bool]:
    """The row of feedback (a table or an alias) says good: by its rating, else by its thumb."""
    rating, thumb = feedback.c.rating, feedback.c.thumb
    return sa.or_(rating >= GOOD_FROM, sa.and_(rating.is_(None), thumb > 0))


def is_bad(feedback: Any) -> sa.ColumnElement[bool]:
    """It says bad."""
    rating, thumb = feedback.c.rating, feedback.c.thumb
    return sa.or_(rating <= BAD_UP_TO, sa.and_(rating.is_(None), thumb < 0))


def is_neutral(feedback: Any) -> sa.ColumnElement[bool]:
    """It says neither, and yet something: a rating between the two, else a neutral thumb."""
    rating, thumb = feedback.c.rating, feedback.c.thumb
    between = sa.and_(rating > BAD_UP_TO, rating < GOOD_FROM)
    return sa.or_(between, sa.and_(rating.is_(None), thumb == 0))


def is_split(num_for: int, num_against: int) -> bool:
    """Whether raters are disputed: as many on one side as on the other, and somebody on each."""
    return num_for == num_against > 0


def completion_answers() -> sa.Subquery:
    """(thing, rater_id, answer): the score 1 to 5 that each rater gives each completion.

    A thumb up counts as 5, down as 1; a neutral one says nothing.
    """
    by_thumb = sa.case((FEEDBACK.c.thumb > 0, THUMB_UP_SCORE), (FEEDBACK.c.thumb < 0,
                       THUMB_DOWN_SCORE))  # fmt: skip
    answer = sa.func.coalesce(FEEDBACK.c.rating, by_thumb)
    return _mean_by_rater(FEEDBACK.c.interaction_id, answer, FEEDBACK.c.step_id.is_(None))


def step_answers() -> sa.Subquery:
    """(thing, interaction_id, rater_id, answer): 0 for wrong, 1 for right, by step and rater."""
    said = sa.func.coalesce(FEEDBACK.c.label, FEEDBACK.c.thumb)
    answer = sa.case((said > 0, 1), (said < 0, 0))
    return _mean_by_rater(
        FEEDBACK.c.step_id, answer, FEEDBACK.c.step_id.is_not(None),
        FEEDBACK.c.interaction_id.label("interaction_id"),
    )  # fmt: skip


def pair_answers() -> sa.Subquery:
    """(first, second, rater_id, answer) by pair and rater, `first` having the lower id.

    `answer` > 0: the first is better; < 0: the second; 0: a tie. Who calls both bad has no answer.
    """
    left, right = COMPARISON.c.left_interaction_id, COMPARISON.c.right_interaction_id
    first = sa.case((left < right, left), else_=right)
    second = sa.case((left < right, right), else_=left)
    side = sa.case((left < right, 1), else_=-1)
    points = sa.func.coalesce(COMPARISON.c.strength, 1) * side
    answer = sa.case(
        (COMPARISON.c.choice == Choice.LEFT, points),
        (COMPARISON.c.choice == Choice.RIGHT, -points),
        (COMPARISON.c.choice == Choice.TIE, 0),
    )
    return (
        sa.select(
            first.label("first"),
            second.label("second"),
            COMPARISON.c.rater_id,
            _mean(answer).label("answer"),
        )
        .where(COMPARISON.c.withdrawn_at.is_(None), COMPARISON.c.choice != Choice.BOTH_BAD)
        .group_by(first, second, COMPARISON.c.rater_id)
        .subquery()
    )


def split_completions(good_from: float = GOOD_FROM) -> sa.Subquery:
    """(interaction_id, num_for, num_against) of the completions whose raters are evenly split."""
    said = completion_answers()
    return _split(said.c.answer >= good_from, said.c.answer < good_from,
                  said.c.thing.label("interaction_id"))  # fmt: skip


def split_steps() -> sa.Subquery:
    """(step_id, interaction_id, num_for, num_against) of the steps on which they are."""
    said = step_answers()
    return _split(said.c.answer > MIDDLE, said.c.answer < MIDDLE,
                  said.c.thing.label("step_id"), said.c.interaction_id)  # fmt: skip


def split_pairs() -> sa.Subquery:
    """(first, second, num_for, num_against) of the pairs on which they are."""
    said = pair_answers()
    return _split(said.c.answer > 0, said.c.answer < 0, said.c.first, said.c.second)


def _split(is_for: Any, is_against: Any, *things: Any) -> sa.Subquery:
    num_for, num_against = (sa.func.count().filter(side) for side in (is_for, is_against))
    return (
        sa.select(*things, num_for.label("num_for"), num_against.label("num_against"))
        .group_by(*(getattr(thing, "element", thing) for thing in things))
        .having(num_for == num_against, num_for > 0)
        .subquery()
    )


def _mean_by_rater(thing: Any, answer: Any, which: Any, *more: Any) -> sa.Subquery:
    return (
        sa.select(thing.label("thing"), *more, FEEDBACK.c.rater_id, _mean(answer).label("answer"))
        .where(which, FEEDBACK.c.withdrawn_at.is_(None), answer.is_not(None))
        .group_by(thing, *(getattr(each, "element", each) for each in more), FEEDBACK.c.rater_id)
        .subquery()
    )


def _mean(answer: Any) -> Any:
    return sa.cast(sa.func.avg(answer), sa.Double)
