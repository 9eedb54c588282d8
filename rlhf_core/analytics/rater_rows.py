"""What `raters` counts, read from the database: answers, known answers, repeats, times."""

import uuid
from array import array
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, assert_never

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from rlhf_core.analytics.scope import Scope, about, about_pair
from rlhf_core.store.queries.verdicts import (
    GOOD_FROM,
    MIDDLE,
    THUMB_DOWN_SCORE,
    THUMB_UP_SCORE,
    completion_answers,
    pair_answers,
    step_answers,
)
from rlhf_core.store.tables import (
    Comparison,
    Feedback,
    Rater,
    RatingQueue,
    RatingQueueItem,
    ReasoningStep,
)
from rlhf_core.vocabulary import Choice, QueueItemKind, QueueSubject

Thing = Any


class Answer(NamedTuple):
    """What a rater says of a thing that others judged, too; 1 to 5 of a completion."""

    thing: Thing
    rater_id: uuid.UUID
    answer: float


def verdict_of(subject: QueueSubject, answer: float | None) -> int | None:
    """1 for good, right or the first of a pair, 0 for the opposite, None for neither."""
    if answer is None:
        return None
    match subject:
        case QueueSubject.COMPLETIONS:
            return int(answer >= GOOD_FROM)
        case QueueSubject.STEPS:
            return None if answer == MIDDLE else int(answer > MIDDLE)
        case QueueSubject.COMPARISONS:
            return int(answer > 0) if answer else None
        case _:
            assert_never(subject)


def score_of(rating: int | None, thumb: int | None) -> float | None:
    """The score 1 to 5 of a rating, or of a thumb that is not neutral."""
    if rating is not None:
        return float(rating)
    return float(THUMB_UP_SCORE if thumb > 0 else THUMB_DOWN_SCORE) if thumb else None


def read_shared(db: Session, subject: QueueSubject, scope: Scope) -> Iterator[Answer]:
    """The answers to all things that two or more raters judged, by thing."""
    match subject:
        case QueueSubject.COMPLETIONS:
            said = completion_answers()
            things, where = [said.c.thing], about(scope, said.c.thing)
        case QueueSubject.STEPS:
            said = step_answers()
            things, where = [said.c.thing], about(scope, said.c.interaction_id)
        case QueueSubject.COMPARISONS:
            said = pair_answers()
            things = [said.c.first, said.c.second]
            where = about_pair(scope, said.c.first, said.c.second)
        case _:
            assert_never(subject)
    number = sa.func.count().over(partition_by=things).label("number")
    inner = sa.select(*things, said.c.rater_id, said.c.answer, number).where(*where).subquery()
    query = sa.select(inner).where(inner.c.number > 1)
    for *thing, rater_id, answer, _ in db.execute(query.order_by(*list(inner.c)[: len(things)])):
        yield Answer(tuple(thing), rater_id, answer)


def judgements(subject: QueueSubject, scope: Scope) -> tuple[Any, list[sa.ColumnElement[bool]]]:
    """The table of the judgements, and which of its rows they are, repeats too."""
    if subject is QueueSubject.COMPARISONS:
        first, second = _pair(Comparison)
        return Comparison, [Comparison.withdrawn_at.is_(None), *about_pair(scope, first, second)]
    where = [Feedback.withdrawn_at.is_(None), *about(scope, Feedback.interaction_id)]
    if subject is QueueSubject.STEPS:
        said = sa.func.coalesce(Feedback.label, Feedback.thumb)
        return Feedback, [*where, Feedback.step_id.is_not(None), said.is_not(None)]
    said = sa.func.coalesce(Feedback.rating, Feedback.thumb)
    return Feedback, [*where, Feedback.step_id.is_(None), said.is_not(None)]


def read_durations(
    db: Session, subject: QueueSubject, scope: Scope, raters: list[uuid.UUID]
) -> dict[uuid.UUID, "array[float]"]:
    """Seconds that each judgement took, where they were measured, by rater."""
    table, where = judgements(subject, scope)
    query = sa.select(table.rater_id, table.duration_s).where(
        *where, table.duration_s > 0, table.rater_id.in_(raters)
    )
    found: dict[uuid.UUID, array[float]] = {}
    for rater_id, seconds in db.execute(query):
        found.setdefault(rater_id, array("d")).append(seconds)
    return found


class TwoAnswers(NamedTuple):
    """A rater's answer beside another one: the known answer, or the rater's own first.

    `one_at` is None for a known answer, which has no time.
    """

    rater_id: uuid.UUID
    one: float | None
    other: float | None
    one_at: datetime | None
    other_at: datetime


def read_repeats(db: Session, subject: QueueSubject, scope: Scope) -> Iterator[TwoAnswers]:
    """The first answer, and the answer when shown again."""
    table, where = judgements(subject, scope)
    again = aliased(table)
    about_same = [
        again.rater_id == table.rater_id,
        again.occasion > 0,
        table.occasion == 0,
        again.withdrawn_at.is_(None),
    ]
    if subject is QueueSubject.COMPARISONS:
        same_pair = [mine == other for mine, other in zip(_pair(table), _pair(again), strict=True)]
        query = sa.select(
            table.rater_id, _side(table), _side(again), table.occurred_at, again.occurred_at
        )
        for row in db.execute(query.join(again, sa.and_(*about_same, *same_pair)).where(*where)):
            yield TwoAnswers(*tuple(row))
        return
    of_steps = subject is QueueSubject.STEPS
    about_same.append(again.interaction_id == table.interaction_id)
    about_same.append(again.step_id == table.step_id if of_steps else again.step_id.is_(None))
    columns = [
        getattr(one, name) for one in (table, again) for name in ("label", "rating", "thumb")
    ]
    moments = (table.occurred_at, again.occurred_at)
    rows = db.execute(
        sa.select(table.rater_id, *columns, *moments)
        .join(again, sa.and_(*about_same))
        .where(*where)
    )
    for rater_id, label, rating, thumb, label_again, rating_again, thumb_again, *at in rows:
        if of_steps:
            yield TwoAnswers(rater_id, _right(label, thumb), _right(label_again, thumb_again), *at)
        else:
            first, later = score_of(rating, thumb), score_of(rating_again, thumb_again)
            yield TwoAnswers(rater_id, first, later, *at)


def read_gold(db: Session, subject: QueueSubject, scope: Scope) -> Iterator[TwoAnswers]:
    """The known answer and theirs, of all that has a known answer, each once a rater.

    Where several queues know an answer, the newest item's counts. Who made one of them is left out:
    what is known may be their own answer.
    """
    if subject is QueueSubject.COMPARISONS:
        return
    of_steps = subject is QueueSubject.STEPS
    item, queue = aliased(RatingQueueItem), aliased(RatingQueue)
    is_maker = (
        sa.select(sa.literal(1))
        .join_from(item, queue, queue.id == item.queue_id)
        .where(
            item.interaction_id == Feedback.interaction_id,
            item.kind == QueueItemKind.GOLD,
            queue.created_by == Rater.account_id,
        )
        .exists()
    )
    query = (
        sa.select(
            RatingQueueItem.gold_answer, Feedback.interaction_id, Feedback.rater_id,
            Feedback.rating, Feedback.thumb, Feedback.label, ReasoningStep.position,
            Feedback.occurred_at,
        )
        .join(RatingQueue, RatingQueue.id == RatingQueueItem.queue_id)
        .join(Feedback, Feedback.interaction_id == RatingQueueItem.interaction_id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .outerjoin(ReasoningStep, ReasoningStep.id == Feedback.step_id)
        .where(
            RatingQueueItem.kind == QueueItemKind.GOLD,
            RatingQueueItem.gold_answer.is_not(None),
            RatingQueue.subject == subject,
            Feedback.withdrawn_at.is_(None),
            Feedback.occasion == 0,
            Feedback.step_id.is_not(None) if of_steps else Feedback.step_id.is_(None),
            ~is_maker,
            *about(scope, Feedback.interaction_id),
        )
        .order_by(RatingQueueItem.created_at, RatingQueueItem.id)
    )  # fmt: skip
    if scope.queue_id is not None:
        query = query.where(RatingQueueItem.queue_id == scope.queue_id)
    found: dict[Thing, TwoAnswers] = {}
    for answer, thing, rater_id, rating, thumb, label, position, at in db.execute(query):
        gold = answer or {}
        if of_steps:
            known = {place: value for place, value in gold.get("labels") or ()}
            wanted, got = _right(known.get(position), None), _right(label, thumb)
        else:
            wanted, got = score_of(gold.get("rating"), gold.get("thumb")), score_of(rating, thumb)
        if wanted is not None:
            found[rater_id, thing, position] = TwoAnswers(rater_id, wanted, got, None, at)
    yield from found.values()


def _right(label: int | None, thumb: int | None) -> float | None:
    said = label if label is not None else thumb
    return float(said > 0) if said else None


def _pair(table: Any) -> tuple[Any, Any]:
    left, right = table.left_interaction_id, table.right_interaction_id
    is_first = left < right
    return sa.case((is_first, left), else_=right), sa.case((is_first, right), else_=left)


def _side(table: Any) -> Any:
    side = sa.case((table.left_interaction_id < table.right_interaction_id, 1), else_=-1)
    return sa.case((table.choice == Choice.LEFT, side), (table.choice == Choice.RIGHT, -side))
