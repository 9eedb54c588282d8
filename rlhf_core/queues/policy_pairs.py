"""People compare what two policies answer to the same prompts, blind; and who wins.

An examination keeps the answers to some of its prompts, none of which the policies learned from.
They are stored as interactions of the source `comparison`, and a blind queue holds the pairs.
"""

import uuid
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.agreement import Interval
from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.errors import InvalidInput, NotEnoughData, NotFound
from rlhf_core.feedback.drafts import InteractionDraft
from rlhf_core.feedback.service import create_interaction
from rlhf_core.queues.service import create_queue
from rlhf_core.queues.views import QueueView
from rlhf_core.registry.evaluations import EvaluationView, list_evaluations
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import Comparison, Interaction, Model, ModelVersion, RatingQueue
from rlhf_core.store.tables import RatingQueueItem as Item
from rlhf_core.vocabulary import Choice, QueueSubject

SOURCE = "comparison"
OWN = "policy"
MAX_PAIRS = 200
INSTRUCTIONS = (
    "Which answer would you rather send? Both answer the same prompt; who wrote them is hidden."
)


@dataclass(frozen=True)
class HumanVerdict:
    """What people say of a policy beside another one, pair by pair.

    A pair's votes are averaged: 1 where the policy is better, 0 where the other one is, a half for
    a tie and for two bad ones. `win_rate` is their mean over the pairs that were compared, with
    Wilson's 95 % interval; None before the first vote.
    """

    queue_id: uuid.UUID
    queue: str
    is_open: bool
    other: str
    num_pairs: int
    num_compared: int
    num_votes: int
    num_wins: int
    num_losses: int
    num_ties: int
    num_both_bad: int
    win_rate: Interval | None

    def turn(self, own: str) -> "HumanVerdict":
        """The same, said of the other one; `own` is the name of whom this is said of."""
        rate = self.win_rate
        return replace(
            self,
            other=own,
            num_wins=self.num_losses,
            num_losses=self.num_wins,
            win_rate=rate and Interval(1.0 - rate.value, 1.0 - rate.high, 1.0 - rate.low),
        )


def list_opponents(evaluation: EvaluationView) -> dict[str, tuple[str, int]]:
    """The other policies by their place in the examination: (name, how many pairs there are).

    Only answers that differ make a pair.
    """
    names = evaluation.examination.get("names") or {}
    found = {}
    for place in evaluation.examination.get("policies") or {}:
        pairs = _pairs_of(evaluation, place)
        if place != OWN and pairs:
            found[place] = (str(names.get(place) or place), len(pairs))
    return found


def create_policy_queue(
    db: Session,
    *,
    actor: Actor,
    version_id: uuid.UUID,
    evaluation_id: uuid.UUID,
    other: str = "base",
    overlap: int = 1,
    assignee_ids: Sequence[uuid.UUID] = (),
) -> QueueView:
    """Let people compare a version's answers with those of `other`, as an examination kept them.

    The answers are stored once, however many queues are made of them.

    Raises:
        NotFound: there is no such version or examination.
        NotEnoughData: the examination kept no answers of the two that differ.
        Conflict: there is a queue of them already.
    """
    require(actor, Permission.MANAGE_QUEUES)
    require(actor, Permission.WRITE_INTERACTIONS)
    version = _get_version(db, version_id)
    evaluation = _get_evaluation(db, version_id, evaluation_id, actor)
    if other == OWN:
        raise InvalidInput("A policy is not compared with itself: name another.", field="other")
    pairs = _pairs_of(evaluation, other)[:MAX_PAIRS]
    if not pairs:
        raise NotEnoughData(have=0, need=1, what="prompts with two different answers")
    name = str((evaluation.examination.get("names") or {}).get(other) or other)
    opponent = _find_version(db, name)
    ids = []
    for prompt, own_answer, other_answer in pairs:
        own = store_answer(db, actor, prompt, own_answer, version.name, version.id)
        its = store_answer(db, actor, prompt, other_answer, name, opponent.id if opponent else None)
        ids.append((own, its))
    made = f"{evaluation.created_at:%Y-%m-%d %H:%M}"
    return create_queue(
        db,
        actor=actor,
        name=f"{version.name} against {name}, answers of {made}"[:200],
        pairs=ids,
        subject=QueueSubject.COMPARISONS,
        instructions=INSTRUCTIONS,
        overlap=overlap,
        assignee_ids=assignee_ids,
        is_blind=True,
        filters={
            "evaluation_id": str(evaluation_id),
            "version_id": str(version_id),
            "version": version.name,
            "other": other,
            "other_name": name,
        },
    )


def list_verdicts(db: Session, evaluation_id: uuid.UUID, *, actor: Actor) -> list[HumanVerdict]:
    """What people said so far of the pairs of an examination, the newest queue first."""
    require(actor, Permission.READ_MODELS)
    queues = db.execute(
        sa.select(RatingQueue.id, RatingQueue.name, RatingQueue.filters, RatingQueue.closed_at)
        .where(
            RatingQueue.subject == QueueSubject.COMPARISONS,
            RatingQueue.filters["evaluation_id"].as_string() == str(evaluation_id),
        )
        .order_by(RatingQueue.created_at.desc())
    ).all()
    return [_count(db, queue) for queue in queues]


def _count(db: Session, queue: Any) -> HumanVerdict:
    mine = _ids_of(db, queue.id, queue.filters["version"])
    num_pairs = db.scalar(sa.select(sa.func.count()).where(Item.queue_id == queue.id)) or 0
    one, other = Item.interaction_id, Item.other_interaction_id
    left, right = Comparison.left_interaction_id, Comparison.right_interaction_id
    is_pair = sa.or_(sa.and_(left == one, right == other), sa.and_(left == other, right == one))
    votes = db.execute(  # also those that were given outside of the queue: they count as much
        sa.select(left, right, Comparison.choice)
        .join(Item, is_pair)
        .where(
            Item.queue_id == queue.id,
            Comparison.occasion == 0,
            Comparison.withdrawn_at.is_(None),
        )
    ).all()
    turned = {Choice.LEFT: Choice.RIGHT, Choice.RIGHT: Choice.LEFT}
    said = [  # as if the policy always stood left
        (frozenset((left_id, right_id)), choice if left_id in mine else turned.get(choice, choice))
        for left_id, right_id, choice in votes
    ]
    return sum_up(queue, num_pairs, said)


def sum_up(queue: Any, num_pairs: int, votes: Iterable[tuple[Hashable, Choice]]) -> HumanVerdict:
    """The verdict on the left one of two, from votes (pair, choice) and the queue's row."""
    counts = {Choice.LEFT: 0, Choice.RIGHT: 0, Choice.TIE: 0, Choice.BOTH_BAD: 0}
    scores: dict[Hashable, list[float]] = defaultdict(list)
    for pair, choice in votes:
        counts[choice] += 1
        scores[pair].append({Choice.LEFT: 1.0, Choice.RIGHT: 0.0}.get(choice, 0.5))
    total = sum(sum(said) / len(said) for said in scores.values())
    return HumanVerdict(
        queue_id=queue.id,
        queue=queue.name,
        is_open=queue.closed_at is None,
        other=str(queue.filters["other_name"]),
        num_pairs=num_pairs,
        num_compared=len(scores),
        num_votes=sum(counts.values()),
        num_wins=counts[Choice.LEFT],
        num_losses=counts[Choice.RIGHT],
        num_ties=counts[Choice.TIE],
        num_both_bad=counts[Choice.BOTH_BAD],
        win_rate=wilson_interval(total, len(scores)),
    )


def _ids_of(db: Session, queue_id: uuid.UUID, model_name: str) -> set[uuid.UUID]:
    """The interactions of the queue that this model answered."""
    is_side = sa.or_(Interaction.id == Item.interaction_id,
                     Interaction.id == Item.other_interaction_id)  # fmt: skip
    query = (
        sa.select(Interaction.id)
        .join(Item, is_side)
        .where(Item.queue_id == queue_id, Interaction.model_name == model_name)
    )
    return set(db.scalars(query))


def _pairs_of(evaluation: EvaluationView, other: str) -> list[tuple[str, str, str]]:
    """(prompt, own answer, the other's) where both answered, and not the same."""
    found: dict[str, tuple[str, str]] = {}
    for sample in evaluation.examination.get("samples") or []:
        own, its = sample["answers"].get(OWN), sample["answers"].get(other)
        if own and its and own.strip() != its.strip() and own.strip() and its.strip():
            found.setdefault(str(sample["prompt"]), (str(own), str(its)))
    return [(prompt, *answers) for prompt, answers in found.items()]


def store_answer(
    db: Session,
    actor: Actor,
    prompt: str,
    completion: str,
    model_name: str,
    version_id: uuid.UUID | None,
) -> uuid.UUID:
    """The interaction of a policy's answer; made once, however often it is asked for."""
    said = "\0".join((model_name, prompt, completion))
    draft = InteractionDraft(
        prompt=prompt,
        completion=completion,
        source=SOURCE,
        external_id=blake2b(said.encode(), digest_size=16).hexdigest(),
        model_name=model_name,
    )
    stored = create_interaction(db, draft, actor=actor)
    if stored.was_created and version_id is not None:
        db.execute(
            sa.update(Interaction)
            .where(Interaction.id == stored.id)
            .values(model_version_id=version_id)
        )
    return stored.id


def _get_version(db: Session, version_id: uuid.UUID) -> ModelVersionView:
    found = load_versions(db, ModelVersion.id == version_id)
    if not found:
        raise NotFound(f"There is no model version {version_id}.")
    return found[0]


def _find_version(db: Session, name: str) -> ModelVersionView | None:
    """The version that people call so (`assistant v3`); a hub id or a folder is none."""
    model, _, number = name.rpartition(" v")
    if not model or not number.isdecimal():
        return None
    found = load_versions(db, Model.name == model, ModelVersion.number == int(number))
    return found[0] if found else None


def _get_evaluation(
    db: Session, version_id: uuid.UUID, evaluation_id: uuid.UUID, actor: Actor
) -> EvaluationView:
    for evaluation in list_evaluations(db, version_id, actor=actor):
        if evaluation.id == evaluation_id:
            return evaluation
    raise NotFound(f"There is no examination {evaluation_id} of this version.")
