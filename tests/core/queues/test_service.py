"""Queues: who may make, see, change and close them, and what makes none."""

import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.queues.leases import claim_next
from rlhf_core.queues.service import (
    close_queue,
    create_queue,
    get_queue,
    list_queues,
    reopen_queue,
    set_queue,
)
from rlhf_core.queues.views import DEFAULT_ASPECTS, ChosenItem
from rlhf_core.registry.scores import store_rewards
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent, RatingQueueItem
from rlhf_core.vocabulary import QueueItemKind, QueueOrder, QueueSubject, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.registry.world import make_version
from tests.databases import only_sqlite


def items(db: Session, number: int, **fields: int) -> list[uuid.UUID]:
    return [make_interaction(db, **fields).id for _ in range(number)]  # type: ignore[arg-type]


def kinds_of(db: Session, queue_id: uuid.UUID) -> list[tuple[QueueItemKind, uuid.UUID]]:
    query = (
        sa.select(RatingQueueItem.kind, RatingQueueItem.interaction_id)
        .where(RatingQueueItem.queue_id == queue_id)
        .order_by(RatingQueueItem.priority.desc())
    )
    return [(row.kind, row.interaction_id) for row in db.execute(query)]


def test_all_that_was_said_of_a_queue_is_kept(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 2)
        ann = make_actor(db, name="ann")
        made = create_queue(
            db, actor=make_actor(db, Role.TRAINER), name=" q ", interaction_ids=[*ids, ids[0]],
            instructions=" Be kind. ", aspects=["tone", "tone", " depth "], overlap=3,
            is_blind=False, lease_s=60, assignee_ids=[ann.account_id or uuid.uuid4()],
        )  # fmt: skip
        found = get_queue(db, made.id, actor=ann)
        assert found == made
        assert kinds_of(db, made.id) == [(QueueItemKind.NORMAL, one) for one in ids]
    assert (found.name, found.instructions, found.aspects) == ("q", "Be kind.", ("tone", "depth"))
    assert (found.overlap, found.is_blind, found.lease_s, found.num_items) == (3, False, 60, 2)
    assert found.assignee_ids == (ann.account_id,)


@only_sqlite
def test_aspects_are_the_usual_ones_unless_said_otherwise(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 1)
        assert create_queue(db, actor=SYSTEM, name="a", interaction_ids=ids).aspects == (
            DEFAULT_ASPECTS
        )
        none = create_queue(db, actor=SYSTEM, name="b", interaction_ids=ids, aspects=())
        assert none.aspects == ()


@only_sqlite
def test_raters_see_their_own_queues_and_managers_all(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 1)
        ann, ben, boss = make_actor(db), make_actor(db), make_actor(db, Role.TRAINER)
        assert ann.account_id is not None
        open_to_all = create_queue(db, actor=boss, name="all", interaction_ids=ids)
        of_ann = create_queue(
            db, actor=boss, name="ann", interaction_ids=ids, assignee_ids=[ann.account_id]
        )
        closed = close_queue(
            db, create_queue(db, actor=boss, name="old", interaction_ids=ids).id, actor=boss
        )
        assert list_queues(db, actor=ann) == [of_ann, open_to_all]
        assert list_queues(db, actor=ben) == [open_to_all]
        assert list_queues(db, actor=boss) == [of_ann, open_to_all]
        assert list_queues(db, actor=boss, with_closed=True) == [closed, of_ann, open_to_all]
        for queue_id in (of_ann.id, closed.id, uuid.uuid4()):
            with pytest.raises(NotFound, match="does not exist, or is closed"):
                get_queue(db, queue_id, actor=ben)
        assert get_queue(db, of_ann.id, actor=boss) == of_ann
        assert not of_ann.is_for(boss)
        with pytest.raises(Forbidden, match="assigned to others"):
            claim_next(db, of_ann.id, actor=boss)


def test_reassigning_frees_what_the_former_assignee_holds(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 1)
        ann, ben = make_actor(db), make_actor(db)
        assert ann.account_id is not None
        assert ben.account_id is not None
        queue = create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids)
        assert claim_next(db, queue.id, actor=ann) is not None
        assert claim_next(db, queue.id, actor=ben) is None
        changed = set_queue(
            db, queue.id, actor=SYSTEM, instructions="New.", assignee_ids=[ben.account_id]
        )
        assert changed.instructions == "New."
        claim = claim_next(db, queue.id, actor=ben)
        assert claim is not None
        assert claim.interaction_id == ids[0]
        with pytest.raises(Forbidden):
            claim_next(db, queue.id, actor=ann)
        everyone = set_queue(db, queue.id, actor=SYSTEM, instructions=None, assignee_ids=[])
        assert everyone.is_for(ann)
        assert everyone.instructions is None
        deeds = db.scalars(sa.select(AuditEvent.action).order_by(AuditEvent.at)).all()
    assert [deed for deed in deeds if deed.startswith("queue")] == [
        "queue.create", "queue.set", "queue.set",
    ]  # fmt: skip


@only_sqlite
def test_a_closed_queue_gives_nothing_out_until_it_is_open_again(store: Store) -> None:
    with store.writing() as db:
        queue = create_queue(db, actor=SYSTEM, name="q", interaction_ids=items(db, 1))
        rater = make_actor(db)
        close_queue(db, queue.id, actor=SYSTEM)
        with pytest.raises(NotFound, match="closed"):
            claim_next(db, queue.id, actor=rater)
        with pytest.raises(Conflict, match="'q' is closed already"):
            close_queue(db, queue.id, actor=SYSTEM)
        reopen_queue(db, queue.id, actor=SYSTEM)
        assert claim_next(db, queue.id, actor=rater) is not None
        with pytest.raises(Conflict, match="'q' is open already"):
            reopen_queue(db, queue.id, actor=SYSTEM)


def test_what_makes_no_queue_is_refused(store: Store) -> None:
    def make(match: str, kind: type[Exception] = InvalidInput, **fields: object) -> None:
        with pytest.raises(kind, match=match):
            create_queue(
                db,
                **({"actor": SYSTEM, "name": "r", "interaction_ids": ids} | fields),  # type: ignore[arg-type]
            )

    with store.writing() as db:
        ids = items(db, 2)
        one, other = ids
        create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids)
        make("'q' already", Conflict, name="q")
        make("deleted meanwhile", NotFound, interaction_ids=[uuid.uuid4()])
        make("1 to 10,000 items, not 0", interaction_ids=[])
        make("printable", name=" ")
        make("overlap 0", overlap=0)
        make(r"gold_rate 0\.6", gold_rate=0.6)
        make("more than half", gold_rate=0.3, repeat_rate=0.3)
        make("lease_s 5", lease_s=5)
        make("aspect ''", aspects=["tone", " "])
        make("11 aspects are too many", aspects=[str(n) for n in range(11)])
        make("assignee has no account", NotFound, assignee_ids=[uuid.uuid4()])
        make("no reasoning steps", subject=QueueSubject.STEPS)
        make("made of pairs", subject=QueueSubject.COMPARISONS)
        make("made of pairs", interaction_ids=[], pairs=[(one, other)])
        make("No answer is known yet", gold_rate=0.1)
        pairs = {"subject": QueueSubject.COMPARISONS, "interaction_ids": []}
        make("answers to one prompt", **pairs, pairs=[(one, other)])
        make("two different", **pairs, pairs=[(one, one)])
        make("deleted meanwhile", NotFound, **pairs, pairs=[(one, uuid.uuid4())])
        make("may not manage queues", Forbidden, actor=Actor("ann", Role.ANALYST))
        assert len(list_queues(db, actor=SYSTEM)) == 1


@only_sqlite
def test_items_of_which_the_model_is_least_sure_come_first(store: Store) -> None:
    with store.writing() as db:
        unscored, sure, unsure, doubtful = items(db, 4)
        old, new = make_version(db).id, make_version(db).id
        for version, rewards in ((old, {unsure: 0.99}), (new, {sure: 0.95, unsure: 0.4})):
            store_rewards(db, version, rewards, actor=SYSTEM)
        store_rewards(db, new, {doubtful: 0.52}, actor=SYSTEM)
        queue = create_queue(
            db, actor=SYSTEM, name="doubts", order=QueueOrder.INFORMATIVE,
            interaction_ids=[unscored, sure, unsure, doubtful],
        )  # fmt: skip
        assert [one for _, one in kinds_of(db, queue.id)] == [doubtful, unsure, sure, unscored]


@only_sqlite
def test_a_pair_is_kept_once_whichever_side_comes_first(store: Store) -> None:
    with store.writing() as db:
        one, other = (make_interaction(db, prompt="Which tea?").id for _ in range(2))
        queue = create_queue(
            db, actor=SYSTEM, name="pairs", subject=QueueSubject.COMPARISONS,
            pairs=[(one, other), (other, one)],
        )  # fmt: skip
        row = db.execute(
            sa.select(RatingQueueItem.interaction_id, RatingQueueItem.other_interaction_id)
        ).one()
    assert queue.num_items == 1
    assert tuple(row) == (min(one, other), max(one, other))


@only_sqlite
def test_known_answers_and_repeats_are_the_shares_that_were_asked_for(store: Store) -> None:
    with store.writing() as db:
        known, wanted = items(db, 30), items(db, 80)
        boss = make_actor(db, Role.TRAINER)
        for item in known:
            make_feedback(db, item, actor=boss, rating=5)
        queue = create_queue(
            db, actor=boss, name="q", interaction_ids=wanted, gold_rate=0.1, repeat_rate=0.1
        )
        placed = kinds_of(db, queue.id)
        answers = db.scalars(
            sa.select(RatingQueueItem.gold_answer).where(RatingQueueItem.kind == QueueItemKind.GOLD)
        ).all()
    of = {kind: [one for k, one in placed if k is kind] for kind in QueueItemKind}
    assert (queue.num_items, queue.num_gold, queue.num_repeats) == (90, 10, 10)
    assert of[QueueItemKind.NORMAL] == wanted
    assert set(of[QueueItemKind.GOLD]) <= set(known)
    assert answers == [{"rating": 5}] * 10
    place = {item: n for n, item in enumerate(placed)}
    assert all(
        place[QueueItemKind.REPEAT, one] > place[QueueItemKind.NORMAL, one]
        for one in of[QueueItemKind.REPEAT]
    )
    assert [kind for kind, _ in placed[:100]] != sorted(kind for kind, _ in placed)


@only_sqlite
def test_a_known_answer_of_steps_is_their_labels(store: Store) -> None:
    with store.writing() as db:
        known, wanted = items(db, 2, steps=2)
        boss = make_actor(db, Role.TRAINER)
        for step, label in ((1, -1), (0, 1)):
            make_feedback(db, known, actor=boss, step=step, label=label)
        create_queue(
            db, actor=boss, name="q", interaction_ids=[wanted], gold_rate=0.5,
            subject=QueueSubject.STEPS,
        )  # fmt: skip
        answer = db.scalar(
            sa.select(RatingQueueItem.gold_answer).where(RatingQueueItem.interaction_id == known)
        )
    assert answer == {"labels": [[0, 1], [1, -1]]}


@only_sqlite
def test_chosen_items_keep_their_order_reason_and_probability(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 3)
        chosen = [ChosenItem(one, reason="random", selection_probability=0.25) for one in ids[::-1]]
        queue = create_queue(db, actor=SYSTEM, name="q", items=chosen, order=QueueOrder.INFORMATIVE)
        rows = db.execute(
            sa.select(RatingQueueItem.selection_reason, RatingQueueItem.selection_probability)
        ).all()
        assert [one for _, one in kinds_of(db, queue.id)] == ids[::-1]
    assert {tuple(row) for row in rows} == {("random", 0.25)}
