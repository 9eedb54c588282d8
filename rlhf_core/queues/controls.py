"""Items that test the raters: some whose answer is known, some that come a second time."""

import random
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import InvalidInput
from rlhf_core.feedback.raters import find_rater
from rlhf_core.queues.slots import FEEDBACK, ITEM
from rlhf_core.queues.views import ChosenItem
from rlhf_core.store.tables import Adjudication, RatingQueue, ReasoningStep
from rlhf_core.vocabulary import AdjudicationDecision, QueueItemKind, QueueSubject

Answers = dict[uuid.UUID, dict[str, Any]]


def add_controls(
    db: Session,
    chosen: list[ChosenItem],
    *,
    actor: Actor,
    subject: QueueSubject,
    gold_rate: float,
    repeat_rate: float,
    rng: random.Random,
) -> list[ChosenItem]:
    """The items with known answers among them and repeats behind; shares are of the whole.

    An item stands in the order of `chosen`. Where fewer answers are known than asked for, all of
    them come in.

    Raises:
        InvalidInput: known answers are asked for and there are none.
    """
    num_all = len(chosen) / (1 - gold_rate - repeat_rate)
    normal = [item for item in chosen if item.kind is QueueItemKind.NORMAL]
    repeated = rng.sample(normal, min(len(normal), round(num_all * repeat_rate)))
    repeats = [replace(item, kind=QueueItemKind.REPEAT, reason="repeat",
                       selection_probability=None) for item in repeated]  # fmt: skip
    golden: list[ChosenItem] = []
    if gold_rate:
        answers = find_known_answers(db, actor=actor, subject=subject)
        if not answers:
            raise InvalidInput(
                "No answer is known yet: rate some items yourself, or adjudicate disputed ones, "
                "and make the queue then; or ask for no known answers.",
                field="gold_rate",
            )
        wanted = max(1, round(num_all * gold_rate))
        picked = rng.sample(sorted(answers), min(wanted, len(answers)))
        golden = [ChosenItem(one, kind=QueueItemKind.GOLD, reason="known answer",
                             gold_answer=answers[one]) for one in picked]  # fmt: skip
    is_gold = {item.interaction_id for item in golden}
    rest = [item for item in chosen if item.interaction_id not in is_gold]
    mixed = _spread(rest, golden, rng)
    return _put_behind(mixed, [item for item in repeats if item.interaction_id not in is_gold], rng)


def find_known_answers(db: Session, *, actor: Actor, subject: QueueSubject) -> Answers:
    """What is known to be right, by interaction: `{"rating": 4}`, or `{"labels": [[0, 1], ...]}`.

    Known is what was adjudicated, else what was gold in a queue before, else what the actor, who
    makes the queue, judged. Comparisons have no known answers.
    """
    require(actor, Permission.MANAGE_QUEUES)
    if subject is QueueSubject.COMPARISONS:
        return {}
    of_steps = subject is QueueSubject.STEPS
    rater_id = find_rater(db, actor=actor)
    known: Answers = {}
    if rater_id is not None:
        mine = sa.and_(FEEDBACK.c.rater_id == rater_id, FEEDBACK.c.occasion == 0)
        known |= _answers_in(db, FEEDBACK, mine & FEEDBACK.c.withdrawn_at.is_(None), of_steps)
    known |= _earlier_gold(db, subject)
    decided = Adjudication.__table__
    stands = sa.and_(
        decided.c.superseded_at.is_(None),
        decided.c.decision == AdjudicationDecision.RESOLVED,
    )
    return known | _answers_in(db, decided, stands, of_steps)


def _answers_in(db: Session, table: Any, which: sa.ColumnElement[bool], of_steps: bool) -> Answers:
    """The answers in a table that has thumb, rating and label."""
    found: Answers = {}
    if of_steps:
        query = (
            sa.select(table.c.interaction_id, ReasoningStep.position, table.c.label)
            .join(ReasoningStep, ReasoningStep.id == table.c.step_id)
            .where(which, table.c.label.is_not(None))
            .order_by(table.c.interaction_id, ReasoningStep.position)
        )
        for interaction_id, position, label in db.execute(query):
            found.setdefault(interaction_id, {"labels": []})["labels"].append([position, label])
        return found
    query = sa.select(table.c.interaction_id, table.c.rating, table.c.thumb).where(
        which, table.c.step_id.is_(None)
    )
    for interaction_id, rating, thumb in db.execute(query):
        answer = {"rating": rating, "thumb": thumb}
        if answer := {name: value for name, value in answer.items() if value is not None}:
            found[interaction_id] = answer
    return found


def _earlier_gold(db: Session, subject: QueueSubject) -> Answers:
    query = (
        sa.select(ITEM.c.interaction_id, ITEM.c.gold_answer)
        .join(RatingQueue, RatingQueue.id == ITEM.c.queue_id)
        .where(
            RatingQueue.subject == subject,
            ITEM.c.kind == QueueItemKind.GOLD,
            ITEM.c.gold_answer.is_not(None),
        )
        .order_by(ITEM.c.created_at)
    )
    return {row.interaction_id: row.gold_answer for row in db.execute(query)}


def _spread(
    items: list[ChosenItem], among: list[ChosenItem], rng: random.Random
) -> list[ChosenItem]:
    """`items` in their order, the others at places left to chance."""
    places = set(rng.sample(range(len(items) + len(among)), len(among)))
    rest, others = iter(items), iter(among)
    return [next(others if n in places else rest) for n in range(len(items) + len(among))]


def _put_behind(
    items: list[ChosenItem], repeats: Sequence[ChosenItem], rng: random.Random
) -> list[ChosenItem]:
    """Each repeat at a place left to chance somewhere behind the item that it repeats."""
    place_of = {(one.interaction_id, one.other_interaction_id): n for n, one in enumerate(items)}
    keyed = [(float(place), item) for place, item in enumerate(items)]
    for item in repeats:
        first = place_of[item.interaction_id, item.other_interaction_id]
        keyed.append((rng.uniform(first + 0.5, len(items) + 0.5), item))
    return [item for _, item in sorted(keyed, key=lambda pair: pair[0])]
