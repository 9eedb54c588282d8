"""People judge, blind, what two versions disagree on; and with which of them they side.

Of reward models that are two answers to one prompt which they put into different orders; where
there are none, single completions that one calls good and the other bad. Of step models it is
solutions of which one says that there is no mistake. Of policies it is their answers.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.queues.policy_pairs import INSTRUCTIONS, HumanVerdict, store_answer, sum_up
from rlhf_core.queues.service import create_queue
from rlhf_core.queues.views import ChosenItem, QueueView
from rlhf_core.registry.comparisons import (
    POLICY_PURPOSE,
    ComparisonView,
    get_comparison,
    read_rows,
    set_comparison_queue,
)
from rlhf_core.store.bulk import in_slices
from rlhf_core.store.queries.verdicts import FEEDBACK, is_bad, is_counted, is_good
from rlhf_core.store.tables import Comparison, Feedback, Interaction, Rater, RatingQueue
from rlhf_core.store.tables import RatingQueueItem as Item
from rlhf_core.vocabulary import Choice, DatasetPurpose, QueueSubject, RaterKind

MAX_ITEMS = 200
MAX_A_PROMPT = 3
"""Pairs of one prompt say much the same."""
MIN_PAIRS = 5
"""With fewer pairs, single completions are asked about where there are more of them."""
GOOD, BAD = "good", "bad"
ASKED = {
    QueueSubject.COMPARISONS: "Which answer is better? Both answer the same prompt.",
    QueueSubject.COMPLETIONS: "Is this a good answer? Judge it by itself.",
    QueueSubject.STEPS: "Is each step right? Stop at the first mistake.",
}


@dataclass(frozen=True)
class Disagreements:
    """What two versions disagree on. `sides` by item: what the first of them holds.

    An item is an interaction's id, of a pair both with `:` between them, the lower one first; a
    side is `good` or `bad`, of a pair the id of the better one. `num_texts` counts pairs of
    answers that are no interactions yet (those of policies).
    """

    subject: QueueSubject
    sides: dict[str, str] = field(default_factory=dict)
    num_texts: int = 0

    @property
    def num_items(self) -> int:
        """How many items a queue of them would have."""
        return self.num_texts or len(self.sides)


@dataclass(frozen=True)
class PeopleVerdict:
    """With whom people side: a win is a word for `version_id`, a loss one for `other_id`."""

    comparison_id: uuid.UUID
    version_id: uuid.UUID
    other_id: uuid.UUID
    version: str
    subject: QueueSubject
    verdict: HumanVerdict


def find_disagreements(
    comparison: ComparisonView, version_id: uuid.UUID, other_id: uuid.UUID
) -> Disagreements:
    """What two of the compared versions disagree on, the most first; at most `MAX_ITEMS` items.

    Raises InvalidInput where one of them was not compared.
    """
    for one in (version_id, other_id):
        if one not in comparison.version_ids or version_id == other_id:
            raise InvalidInput("Name two different versions of those that were compared.")
    if comparison.purpose == POLICY_PURPOSE:
        answers = _find_answers(comparison, version_id, other_id)
        return Disagreements(QueueSubject.COMPARISONS, num_texts=len(answers))
    rows, own, other = read_rows(comparison), str(version_id), str(other_id)
    if comparison.purpose == DatasetPurpose.PREFERENCES:
        return Disagreements(QueueSubject.COMPARISONS, _find_pairs(rows, own, other))
    singles = _find_singles(rows, own, other)
    if comparison.purpose == DatasetPurpose.STEPS:
        return Disagreements(QueueSubject.STEPS, singles)
    pairs = _find_orders(rows, own, other)
    if len(pairs) >= min(MIN_PAIRS, len(singles) + 1):
        return Disagreements(QueueSubject.COMPARISONS, pairs)
    return Disagreements(QueueSubject.COMPLETIONS, singles)


def create_version_queue(
    db: Session,
    *,
    actor: Actor,
    comparison_id: uuid.UUID,
    version_id: uuid.UUID,
    other_id: uuid.UUID | None = None,
    overlap: int = 1,
    assignee_ids: Sequence[uuid.UUID] = (),
) -> QueueView:
    """A blind queue of what a version and `other_id` (None: the first one compared) disagree on.

    Raises:
        NotFound: there is no such comparison.
        NotEnoughData: they disagree on nothing that is still stored.
        Conflict: there is a queue of it already.
    """
    require(actor, Permission.MANAGE_QUEUES)
    comparison = get_comparison(db, comparison_id, actor=actor)
    other_id = other_id or comparison.version_ids[0]
    found = find_disagreements(comparison, version_id, other_id)
    sides = found.sides
    if found.num_texts:
        require(actor, Permission.WRITE_INTERACTIONS)
        sides = _store_answers(db, actor, comparison, version_id, other_id)
    sides = _keep_stored(db, sides)
    if not sides:
        raise NotEnoughData(have=0, need=1, what="rows on which the two versions disagree")
    names = comparison.names
    name, other = names[str(version_id)], names[str(other_id)]
    is_policy = comparison.purpose == POLICY_PURPOSE
    queue = create_queue(
        db,
        actor=actor,
        name=f"{name} against {other}, compared {comparison.created_at:%Y-%m-%d %H:%M}"[:200],
        items=[ChosenItem(*_parse_key(key), reason="disagreement") for key in sides],
        subject=found.subject,
        instructions=INSTRUCTIONS if is_policy else ASKED[found.subject],
        overlap=overlap,
        assignee_ids=assignee_ids,
        is_blind=True,
        filters={
            "comparison_id": str(comparison_id),
            "version_id": str(version_id),
            "version": name,
            "other_id": str(other_id),
            "other_name": other,
            "sides": sides,
        },
    )
    set_comparison_queue(db, comparison_id, actor=actor, queue_id=queue.id)
    return queue


def list_people(
    db: Session,
    *,
    actor: Actor,
    comparison_ids: Sequence[uuid.UUID] | None = None,
    version_id: uuid.UUID | None = None,
) -> list[PeopleVerdict]:
    """What people said of these comparisons, or of a version in all its comparisons; newest first.

    With `version_id` each is said of that version, also where it was the other one.
    """
    require(actor, Permission.READ_MODELS)
    filters = RatingQueue.filters
    conditions = [filters["comparison_id"].as_string().is_not(None)]
    if comparison_ids is not None:
        conditions.append(filters["comparison_id"].as_string().in_(map(str, comparison_ids)))
    if version_id is not None:
        wanted = str(version_id)
        sides = (filters[name].as_string() == wanted for name in ("version_id", "other_id"))
        conditions.append(sa.or_(*sides))
    columns = ("id", "name", "subject", "filters", "closed_at", "created_at")
    queues = db.execute(
        sa.select(*(getattr(RatingQueue, name) for name in columns))
        .where(*conditions)
        .order_by(RatingQueue.created_at.desc())
    ).all()
    found = [_judge(db, queue) for queue in queues]
    return [_turn(one) if version_id == one.other_id else one for one in found]


def _turn(people: PeopleVerdict) -> PeopleVerdict:
    return replace(
        people,
        version_id=people.other_id,
        other_id=people.version_id,
        version=people.verdict.other,
        verdict=people.verdict.turn(people.version),
    )


def _judge(db: Session, queue: Any) -> PeopleVerdict:
    sides: dict[str, str] = queue.filters["sides"]
    if queue.subject is QueueSubject.COMPARISONS:
        votes = _read_pair_votes(db, queue)
    elif queue.subject is QueueSubject.STEPS:
        votes = _read_step_votes(db, queue)
    else:
        votes = _read_single_votes(db, queue)
    return PeopleVerdict(
        comparison_id=uuid.UUID(queue.filters["comparison_id"]),
        version_id=uuid.UUID(queue.filters["version_id"]),
        other_id=uuid.UUID(queue.filters["other_id"]),
        version=str(queue.filters["version"]),
        subject=queue.subject,
        verdict=sum_up(
            queue,
            len(sides),
            [(key, _side(sides[key], said)) for key, said in votes if key in sides],
        ),
    )


def _side(own: str, said: str | Choice) -> Choice:
    """LEFT where people say what the version says, RIGHT where they say the other thing."""
    if isinstance(said, Choice):
        return said
    return Choice.LEFT if said == own else Choice.RIGHT


def _read_pair_votes(db: Session, queue: Any) -> Iterable[tuple[str, str | Choice]]:
    one, other = Item.interaction_id, Item.other_interaction_id
    left, right = Comparison.left_interaction_id, Comparison.right_interaction_id
    is_pair = sa.or_(sa.and_(left == one, right == other), sa.and_(left == other, right == one))
    rows = db.execute(
        sa.select(left, right, Comparison.choice)
        .join(Item, is_pair)
        .join(Rater, Rater.id == Comparison.rater_id)
        .where(
            Item.queue_id == queue.id,
            Rater.rater_kind != RaterKind.MODEL,
            Comparison.occasion == 0,
            Comparison.withdrawn_at.is_(None),
            sa.or_(Comparison.queue_id == queue.id, Comparison.created_at >= queue.created_at),
        )
    )
    for left_id, right_id, choice in rows:
        better = {Choice.LEFT: str(left_id), Choice.RIGHT: str(right_id)}
        yield _make_key(left_id, right_id), better.get(choice, choice)


def _read_single_votes(db: Session, queue: Any) -> Iterable[tuple[str, str | Choice]]:
    rows = db.execute(
        _said_in(queue, sa.case((is_good(FEEDBACK), GOOD), (is_bad(FEEDBACK), BAD)), is_step=False)
    )
    return [(str(item), said or Choice.TIE) for item, _, said in rows]


def _read_step_votes(db: Session, queue: Any) -> Iterable[tuple[str, str | Choice]]:
    """A rater who found no wrong step says that the solution is good."""
    labels: dict[tuple[uuid.UUID, uuid.UUID], list[int]] = defaultdict(list)
    for item, rater, label in db.execute(_said_in(queue, Feedback.label, is_step=True)):
        labels[item, rater].append(label)
    return [(str(item), BAD if min(said) < 0 else GOOD) for (item, _), said in labels.items()]


def _said_in(queue: Any, said: Any, *, is_step: bool) -> sa.Select[Any]:
    """(interaction, rater, what was said) of the queue's items, since it was made."""
    kind = Feedback.label.is_not(None) if is_step else Feedback.step_id.is_(None)
    says_something = sa.or_(Feedback.rating.is_not(None), Feedback.thumb.is_not(None))
    return (
        sa.select(Feedback.interaction_id, Feedback.rater_id, said)
        .join(Item, Item.interaction_id == Feedback.interaction_id)
        .join(Rater, Rater.id == Feedback.rater_id)
        .where(
            Item.queue_id == queue.id,
            Rater.rater_kind == RaterKind.SME,
            kind if is_step else sa.and_(kind, says_something),
            is_counted(FEEDBACK),
            sa.or_(Feedback.queue_id == queue.id, Feedback.created_at >= queue.created_at),
        )
    )


def _find_pairs(rows: Sequence[Mapping[str, Any]], own: str, other: str) -> dict[str, str]:
    """Frozen pairs of which one version says what people said, and the other does not."""
    found: dict[str, str] = {}
    for row in rows:
        better, worse = row["interaction_id"], row["other_id"]
        sides_with_people = own in row["called_good"]
        is_disputed = sides_with_people is not (other in row["called_good"])
        if is_disputed and better and worse and better != worse:
            found[_make_key(better, worse)] = better if sides_with_people else worse
    return dict(list(found.items())[:MAX_ITEMS])


def _find_singles(rows: Sequence[Mapping[str, Any]], own: str, other: str) -> dict[str, str]:
    """Completions that one version calls good and the other bad."""
    found: dict[str, str] = {}
    for row in rows:
        is_good_to_own = own in row["called_good"]
        if row["interaction_id"] and is_good_to_own is not (other in row["called_good"]):
            found[row["interaction_id"]] = GOOD if is_good_to_own else BAD
    return dict(list(found.items())[:MAX_ITEMS])


def _find_orders(rows: Sequence[Mapping[str, Any]], own: str, other: str) -> dict[str, str]:
    """Completions of one prompt that the two put into different orders."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["interaction_id"]:
            groups[row["group"]].append(row)
    found: list[tuple[float, str, str]] = []
    for members in groups.values():
        pairs = []
        for one, two in combinations(members[:20], 2):
            mine, theirs = (one["said"][key] - two["said"][key] for key in (own, other))
            if mine * theirs < 0 and one["interaction_id"] != two["interaction_id"]:
                better = one if mine > 0 else two
                key = _make_key(one["interaction_id"], two["interaction_id"])
                pairs.append((abs(mine - theirs), key, str(better["interaction_id"])))
        found += sorted(pairs, reverse=True)[:MAX_A_PROMPT]
    return {key: better for _, key, better in sorted(found, reverse=True)[:MAX_ITEMS]}


def _find_answers(
    comparison: ComparisonView, version_id: uuid.UUID, other_id: uuid.UUID
) -> list[tuple[str, str, str]]:
    """(prompt, the version's answer, the other's) where both answered, and not the same."""
    found: dict[str, tuple[str, str]] = {}
    for sample in comparison.result.get("samples") or ():
        own, other = (str(sample["answers"].get(str(one)) or "") for one in (version_id, other_id))
        if own.strip() and other.strip() and own.strip() != other.strip():
            found.setdefault(str(sample["prompt"]), (own, other))
    return [(prompt, *answers) for prompt, answers in found.items()][:MAX_ITEMS]


def _store_answers(
    db: Session,
    actor: Actor,
    comparison: ComparisonView,
    version_id: uuid.UUID,
    other_id: uuid.UUID,
) -> dict[str, str]:
    sides = {}
    names = comparison.names
    for prompt, *answers in _find_answers(comparison, version_id, other_id):
        own, other = (
            store_answer(db, actor, prompt, answer, names[str(one)], one)
            for answer, one in zip(answers, (version_id, other_id), strict=True)
        )
        sides[_make_key(own, other)] = str(own)
    return sides


def _keep_stored(db: Session, sides: Mapping[str, str]) -> dict[str, str]:
    """Without the items of which an interaction was deleted since the rows were frozen."""
    wanted = {one for key in sides for one in _parse_key(key) if one is not None}
    stored: set[uuid.UUID] = set()
    for part in in_slices(wanted):
        stored.update(db.scalars(sa.select(Interaction.id).where(Interaction.id.in_(part))))
    return {
        key: side
        for key, side in sides.items()
        if all(one is None or one in stored for one in _parse_key(key))
    }


def _make_key(one: uuid.UUID | str, other: uuid.UUID | str) -> str:
    low, high = sorted((uuid.UUID(str(one)), uuid.UUID(str(other))))
    return f"{low}:{high}"


def _parse_key(key: str) -> tuple[uuid.UUID, uuid.UUID | None]:
    one, _, other = key.partition(":")
    return uuid.UUID(one), uuid.UUID(other) if other else None
