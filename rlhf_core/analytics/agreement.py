"""How far raters agree, by what they were asked: from the database, in patterns.

The database counts how many things got the same set of answers (`agreement.UnitCounts`): few rows
leave it, however many ratings it holds.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import (
    AgreementSummary,
    Level,
    UnitCounts,
    count_patterns,
    summarize_agreement,
)
from rlhf_core.analytics.scope import EVERYTHING, Scope, about, about_pair, in_period
from rlhf_core.store.tables import Comparison, Feedback, FeedbackAspect, Interaction
from rlhf_core.vocabulary import Choice

RATINGS = (1, 2, 3, 4, 5)
SIGNS = (-1, 0, 1)
BOTH_BAD = 2  # beside -1 and 1 for the sides of a pair, and 0 for a tie
SIDES = (*SIGNS, BOTH_BAD)


class Question(StrEnum):
    """What raters were asked."""

    RATING = "rating"
    THUMB = "thumb"
    ASPECT = "aspect"
    STEP_LABEL = "step_label"
    CHOICE = "choice"
    PREFERRED_MODEL = "preferred_model"


@dataclass(frozen=True)
class AspectAgreement:
    """How far raters agree on one question. `name` is the aspect's, or that of the question.

    Alpha is ordinal for ratings 1 to 5, nominal for the rest. CHOICE: which of two answers is
    better (one, the other, tie, both bad); as sides were shuffled, "left" means nothing: the
    figures are those of both ways of naming them. PREFERRED_MODEL: the same comparisons, but the
    answer is the better one's model (tie, both bad); of pairs whose two models are known.
    """

    question: Question
    name: str
    level: Level
    agreement: AgreementSummary


def compute_agreement(
    db: Session, *, actor: Actor, scope: Scope = EVERYTHING, with_repeats: bool = False
) -> list[AspectAgreement]:
    """The agreement on each question that two or more raters answered of at least one thing.

    What was withdrawn does not count. `with_repeats`: an item that a rater was shown again is
    answered again; without, a rater counts once a thing, by the first answer: agreement with
    oneself is none between raters.
    """
    require(actor, Permission.READ_ANALYTICS)
    found = [
        *_of_completions(db, scope, with_repeats),
        *_of_aspects(db, scope, with_repeats),
        *_of_steps(db, scope, with_repeats),
        *_of_pairs(db, scope, with_repeats),
    ]
    return [one for one in found if one.agreement.num_units]


def _of_completions(db: Session, scope: Scope, with_repeats: bool) -> list[AspectAgreement]:
    where = [*_standing(Feedback, scope, with_repeats), Feedback.step_id.is_(None)]
    where += about(scope, Feedback.interaction_id)
    found = []
    for question, column, values, level in (
        (Question.RATING, Feedback.rating, RATINGS, "ordinal"),
        (Question.THUMB, Feedback.thumb, SIGNS, "nominal"),
    ):
        query = _answers(column, values, [Feedback.interaction_id]).where(*where)
        units = _read_units(db, query, values).get((), None)
        found.append(_summarize(question, question.value, units, level))
    return found


def _of_aspects(db: Session, scope: Scope, with_repeats: bool) -> list[AspectAgreement]:
    query = (
        _answers(
            FeedbackAspect.rating, RATINGS, [Feedback.interaction_id, Feedback.step_id],
            names=[FeedbackAspect.name],
        )
        .join(Feedback, Feedback.id == FeedbackAspect.feedback_id)
        .where(*_standing(Feedback, scope, with_repeats), *about(scope, Feedback.interaction_id))
    )  # fmt: skip
    by_name = _read_units(db, query, RATINGS)
    return [
        _summarize(Question.ASPECT, name, by_name[(name,)], "ordinal")
        for (name,) in sorted(by_name)
    ]


def _of_steps(db: Session, scope: Scope, with_repeats: bool) -> list[AspectAgreement]:
    """A thumb on a step counts as its label, as in datasets."""
    said = sa.func.coalesce(Feedback.label, Feedback.thumb)
    query = _answers(said, SIGNS, [Feedback.step_id]).where(
        *_standing(Feedback, scope, with_repeats),
        Feedback.step_id.is_not(None),
        *about(scope, Feedback.interaction_id),
    )
    units = _read_units(db, query, SIGNS).get((), None)
    return [_summarize(Question.STEP_LABEL, "step label", units, "nominal")]


def _of_pairs(db: Session, scope: Scope, with_repeats: bool) -> list[AspectAgreement]:
    left, right = Comparison.left_interaction_id, Comparison.right_interaction_id
    first = sa.case((left < right, left), else_=right)
    second = sa.case((left < right, right), else_=left)
    side = sa.case((left < right, 1), else_=-1)
    said = sa.case(
        (Comparison.choice == Choice.LEFT, side),
        (Comparison.choice == Choice.RIGHT, -side),
        (Comparison.choice == Choice.TIE, 0),
        else_=BOTH_BAD,
    )
    # a rater's row may stand for each way round: the first of them counts
    same = [first, second, Comparison.rater_id, Comparison.occasion]
    in_time = [Comparison.occurred_at, Comparison.created_at, Comparison.id]
    number = sa.func.row_number().over(partition_by=same, order_by=in_time)
    numbered = (
        sa.select(
            first.label("first"), second.label("second"), said.label("said"), number.label("number")
        )
        .where(*_standing(Comparison, scope, with_repeats), *about_pair(scope, first, second))
        .subquery()
    )
    pair, answer, counts = [numbered.c.first, numbered.c.second], numbered.c.said, numbered.c.number
    by_side = _answers(answer, SIDES, pair).where(counts == 1)
    units = _read_units(db, by_side, SIDES).get((), None)
    one, other = aliased(Interaction), aliased(Interaction)
    by_model = (
        _answers(answer, SIDES, pair, names=[one.model_name, other.model_name])
        .join_from(numbered, one, one.id == numbered.c.first)
        .join(other, other.id == numbered.c.second)
        .where(counts == 1, one.model_name != other.model_name)
    )
    models = _name_winners(_read_units(db, by_model, SIDES))
    return [
        _summarize(Question.CHOICE, "comparison", units, "nominal", is_mirrored=True),
        _summarize(Question.PREFERRED_MODEL, "preferred model", models, "nominal"),
    ]


def _name_winners(by_models: dict[tuple[Any, ...], UnitCounts]) -> UnitCounts:
    """Units of sides as units of models: patterns of the names of those that won."""
    patterns: Counter[tuple[str, ...]] = Counter()
    for (first, second), units in by_models.items():
        # blanks in front: no model's name can be mistaken for them
        names = {1: first, -1: second, 0: "  tie", BOTH_BAD: "  both bad"}
        for counts, number in zip(units.counts, units.num_units, strict=True):
            said = (
                [names[int(value)]] * int(count)
                for value, count in zip(units.values, counts, strict=True)
            )
            patterns[tuple(sorted(name for each in said for name in each))] += int(number)
    return count_patterns(patterns)


def _standing(table: Any, scope: Scope, with_repeats: bool) -> list[sa.ColumnElement[bool]]:
    stands = [table.withdrawn_at.is_(None), *in_period(scope, table.occurred_at)]
    return stands if with_repeats else [*stands, table.occasion == 0]


def _answers(
    value: Any, values: Sequence[int], thing: Sequence[Any], names: Sequence[Any] = ()
) -> sa.Select[Any]:
    """By thing: its names, and how often each value was said of it, where it was said twice."""
    labels = [name.label(f"name_{place}") for place, name in enumerate(names)]
    counts = [
        sa.func.sum(sa.case((value == each, 1), else_=0)).label(f"count_{place}")
        for place, each in enumerate(values)
    ]
    return sa.select(*labels, *counts).group_by(*thing, *names).having(sa.func.count(value) > 1)


def _read_units(
    db: Session, by_thing: sa.Select[Any], values: Sequence[int]
) -> dict[tuple[Any, ...], UnitCounts]:
    """The things as patterns, by their names."""
    inner = by_thing.subquery()
    query = sa.select(*inner.c, sa.func.count()).group_by(*inner.c)
    rows: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in db.execute(query):
        names = tuple(row[: -len(values) - 1])
        rows.setdefault(names, []).append(tuple(row[len(names) :]))
    found = {}
    for names, patterns in rows.items():
        table = np.array(patterns, dtype=np.float64)
        found[names] = UnitCounts(np.array(values, dtype=np.float64), table[:, :-1], table[:, -1])
    return found


def _summarize(
    question: Question,
    name: str,
    units: UnitCounts | None,
    level: Any,
    *,
    is_mirrored: bool = False,
) -> AspectAgreement:
    summary = summarize_agreement(
        units or count_patterns({}),
        level,
        num_values=len(RATINGS) if level == "ordinal" else None,
        is_mirrored=is_mirrored,
    )
    return AspectAgreement(question, name, level, summary)
