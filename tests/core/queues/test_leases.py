"""Leases: each item is one rater's at a time, comes back when it is let go, and nothing is lost."""

import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.clock import utcnow
from rlhf_core.errors import Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.service import undo_last
from rlhf_core.queues import leases
from rlhf_core.queues.leases import (
    claim_next,
    finish_claim,
    holds_pair,
    release_expired,
    skip_claim,
)
from rlhf_core.queues.progress import count_progress
from rlhf_core.queues.service import close_queue, create_queue
from rlhf_core.queues.views import ChosenItem, Claim, QueueView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Feedback, Rater, RatingAssignment
from rlhf_core.vocabulary import AssignmentState, Choice, QueueItemKind, QueueSubject
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import make_completions
from tests.databases import only_sqlite


def make_queue(db: Session, number: int, **fields: object) -> tuple[QueueView, list[uuid.UUID]]:
    ids = [make_interaction(db).id for _ in range(number)]
    name = f"queue {uuid.uuid4().hex}"
    return create_queue(db, actor=SYSTEM, name=name, interaction_ids=ids, **fields), ids  # type: ignore[arg-type]


def given(db: Session, queue: QueueView, actor: Actor, after: uuid.UUID | None = None) -> uuid.UUID:
    claim = claim_next(db, queue.id, actor=actor, after=after)
    assert claim is not None
    return claim.interaction_id


def judge(db: Session, queue: QueueView, actor: Actor, item: uuid.UUID, **said: object) -> bool:
    stored = make_feedback(db, item, actor=actor, **said)
    return finish_claim(
        db, actor=actor, queue_id=queue.id, interaction_id=item, feedback_id=stored.id
    )


def run_out(db: Session) -> None:
    """All leases end."""
    db.execute(sa.update(RatingAssignment).values(lease_expires_at=utcnow() - timedelta(seconds=1)))


def slots(db: Session) -> list[tuple[int, AssignmentState]]:
    query = sa.select(RatingAssignment.slot, RatingAssignment.state)
    return [tuple(row) for row in db.execute(query.order_by(RatingAssignment.slot))]


def test_items_come_in_order_to_each_rater_until_all_are_done(store: Store) -> None:
    with store.writing() as db:
        queue, ids = make_queue(db, 4)
        ann, ben = make_actor(db), make_actor(db)
        assert given(db, queue, ann) == ids[0]
        assert given(db, queue, ben) == ids[1]
        assert given(db, queue, ann) == ids[0]  # the second tab shows the same item
        assert judge(db, queue, ann, ids[0])
        assert given(db, queue, ann) == ids[2]
        assert judge(db, queue, ben, ids[1])
        assert judge(db, queue, ann, ids[2])
        assert given(db, queue, ann) == ids[3]
        assert claim_next(db, queue.id, actor=ben) is None
        assert judge(db, queue, ann, ids[3])
        assert claim_next(db, queue.id, actor=ann) is None
        progress = count_progress(db, queue, actor=ben)
        marked = db.scalars(sa.select(Feedback.queue_id)).all()
    assert (progress.num_items, progress.num_done, progress.num_open) == (4, 4, 0)
    assert set(marked) == {queue.id}


def test_an_item_has_as_many_slots_as_the_overlap_says(store: Store) -> None:
    with store.writing() as db:
        queue, (item,) = make_queue(db, 1, overlap=2)
        ann, ben, cid = make_actor(db), make_actor(db), make_actor(db)
        assert given(db, queue, ann) == item
        assert given(db, queue, ben) == item
        assert claim_next(db, queue.id, actor=cid) is None
        assert judge(db, queue, ann, item)
        assert claim_next(db, queue.id, actor=cid) is None
        assert slots(db) == [(0, AssignmentState.DONE), (1, AssignmentState.LEASED)]


@pytest.mark.parametrize("way", ["runs out", "is skipped"])
def test_a_slot_that_is_let_go_goes_to_another_rater(store: Store, way: str) -> None:
    with store.writing() as db:
        queue, (item,) = make_queue(db, 1)
        ann, ben = make_actor(db), make_actor(db)
        assert given(db, queue, ann) == item
        assert claim_next(db, queue.id, actor=ben) is None
        if way == "runs out":
            run_out(db)
            assert release_expired(db, queue.id, actor=SYSTEM) == 1
            assert release_expired(db, queue.id, actor=SYSTEM) == 0
        else:
            assert skip_claim(db, actor=ann, queue_id=queue.id, interaction_id=item)
            assert not skip_claim(db, actor=ann, queue_id=queue.id, interaction_id=item)
        assert given(db, queue, ben) == item
        assert claim_next(db, queue.id, actor=ann) is None
        assert slots(db) == [(0, AssignmentState.LEASED)]


def test_a_late_submit_is_kept_and_counts_where_a_slot_is_free(store: Store) -> None:
    with store.writing() as db:
        queue, (item, taken) = make_queue(db, 2)
        ann, ben = make_actor(db), make_actor(db)
        assert given(db, queue, ann) == item
        run_out(db)
        assert judge(db, queue, ann, item)
        assert given(db, queue, ann) == taken
        run_out(db)
        assert given(db, queue, ben) == taken
        assert not judge(db, queue, ann, taken)  # it is ben's now
        assert judge(db, queue, ben, taken)
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 3
        assert [state for _, state in slots(db)] == [AssignmentState.DONE] * 2


def test_a_judgement_without_a_lease_takes_a_free_slot(store: Store) -> None:
    with store.writing() as db:
        queue, ids = make_queue(db, 2)
        ann = make_actor(db)
        assert judge(db, queue, ann, ids[1])
        assert given(db, queue, ann) == ids[0]
        elsewhere = make_interaction(db).id
        assert not judge(db, queue, ann, elsewhere)


def test_who_judged_an_item_outside_is_not_asked_again(store: Store) -> None:
    with store.writing() as db:
        queue, ids = make_queue(db, 2)
        ann = make_actor(db)
        make_feedback(db, ids[0], actor=ann)
        make_feedback(db, ids[1], actor=ann, comment="no judgement")
        assert given(db, queue, ann) == ids[1]
        assert given(db, queue, make_actor(db)) == ids[0]


def test_skipping_goes_on_behind_the_item_and_begins_again_at_the_end(store: Store) -> None:
    with store.writing() as db:
        queue, ids = make_queue(db, 3)
        ann = make_actor(db)
        assert given(db, queue, ann) == ids[0]
        assert given(db, queue, ann, after=ids[0]) == ids[1]
        assert given(db, queue, ann, after=ids[1]) == ids[2]
        assert given(db, queue, ann, after=ids[2]) == ids[0]
        judge(db, queue, ann, ids[0])
        judge(db, queue, ann, ids[1])
        assert given(db, queue, ann) == ids[2]
        assert claim_next(db, queue.id, actor=ann, after=ids[2]) is None


def test_a_judgement_taken_back_waits_for_its_rater_and_then_for_all(store: Store) -> None:
    with store.writing() as db:
        queue, (item,) = make_queue(db, 1)
        ann, ben = make_actor(db), make_actor(db)
        given(db, queue, ann)
        judge(db, queue, ann, item)
        undo_last(db, actor=ann)
        assert count_progress(db, queue, actor=ann).num_done == 0
        assert claim_next(db, queue.id, actor=ben) is None
        assert given(db, queue, ann) == item
        judge(db, queue, ann, item)
        assert claim_next(db, queue.id, actor=ann) is None
        undo_last(db, actor=ann)
        run_out(db)
        assert given(db, queue, ben) == item
        assert not judge(db, queue, ann, item)


@only_sqlite
def test_a_rating_taken_back_from_an_aspect_that_stays_opens_the_item_again(store: Store) -> None:
    with store.writing() as db:
        queue, (item,) = make_queue(db, 1)
        ann = make_actor(db)
        given(db, queue, ann)
        make_feedback(db, item, actor=ann, aspects={"tone": 2})
        judge(db, queue, ann, item, rating=4)
        assert count_progress(db, queue, actor=ann).num_done == 1
        undo_last(db, actor=ann)
        assert db.scalars(sa.select(Feedback.withdrawn_at)).all() == [None]
        assert count_progress(db, queue, actor=ann).num_done == 0
        assert given(db, queue, ann) == item
        judge(db, queue, ann, item, rating=4)
        db.execute(sa.update(RatingAssignment).values(feedback_id=None))  # the row was erased
        assert count_progress(db, queue, actor=ann).num_done == 1


def test_a_known_answer_goes_to_every_rater_and_a_blind_queue_does_not_say_so(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db).id
        gold = ChosenItem(item, kind=QueueItemKind.GOLD, gold_answer={"rating": 5})
        for is_blind in (True, False):
            queue = create_queue(
                db, actor=SYSTEM, name=f"{is_blind}", items=[gold], is_blind=is_blind
            )
            for _ in range(3):
                rater = make_actor(db)
                claim = claim_next(db, queue.id, actor=rater)
                assert claim is not None
                assert claim.kind is (QueueItemKind.NORMAL if is_blind else QueueItemKind.GOLD)
                judge(db, queue, rater, item)
                assert claim_next(db, queue.id, actor=rater) is None


def test_a_repeat_comes_a_while_later_to_who_judged_the_item_here(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "REPEAT_GAP", 2)
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(5)]
        first, *rest = ids
        repeat = ChosenItem(first, kind=QueueItemKind.REPEAT)
        placed = [*map(ChosenItem, ids[:3]), repeat, *map(ChosenItem, ids[3:])]
        queue = create_queue(db, actor=SYSTEM, name="q", items=placed, repeat_rate=0.01)
        ann, ben = make_actor(db), make_actor(db)
        seen: list[Claim] = []
        while claim := claim_next(db, queue.id, actor=ann):
            seen.append(claim)
            judge(db, queue, ann, claim.interaction_id, rating=4, occasion=claim.occasion)
        assert [(one.interaction_id, one.occasion) for one in seen] == [
            (first, 0), (rest[0], 0), (rest[1], 0), (first, 1), (rest[2], 0), (rest[3], 0),
        ]  # fmt: skip
        assert claim_next(db, queue.id, actor=ben) is None
        occasions = db.scalars(
            sa.select(Feedback.occasion).where(Feedback.interaction_id == first)
        ).all()
        progress = count_progress(db, queue, actor=ann)
    assert sorted(occasions) == [0, 1]
    assert (progress.num_items, progress.num_done, progress.num_open) == (5, 5, 0)


def test_a_queue_of_steps_is_done_by_labels_and_not_by_ratings(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, steps=2).id
        queue = create_queue(
            db, actor=SYSTEM, name="q", interaction_ids=[item], subject=QueueSubject.STEPS
        )
        ann = make_actor(db)
        make_feedback(db, item, actor=ann, rating=4)
        assert given(db, queue, ann) == item
        with pytest.raises(InvalidInput, match="not judged this item"):
            finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=item)
        for step in (0, 1):
            make_feedback(db, item, actor=ann, step=step, label=1)
        assert finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=item)
        assert claim_next(db, queue.id, actor=ann) is None
        assert count_progress(db, queue, actor=ann).num_done == 1


def test_steps_are_done_when_all_up_to_the_first_wrong_one_are_labelled(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db, steps=3).id
        queue = create_queue(
            db, actor=SYSTEM, name="q", interaction_ids=[item], subject=QueueSubject.STEPS
        )
        ann, ben = make_actor(db), make_actor(db)
        assert given(db, queue, ann) == item
        make_feedback(db, item, actor=ann, step=0, label=1)
        assert skip_claim(db, actor=ann, queue_id=queue.id, interaction_id=item)
        assert given(db, queue, ann) == item  # half of it is no judgement
        last = make_feedback(db, item, actor=ann, step=1, label=1)
        judge(db, queue, ann, item, step=1, label=-1)
        assert count_progress(db, queue, actor=ann).num_done == 1
        assert claim_next(db, queue.id, actor=ann) is None
        undo_last(db, actor=ann)  # the second step is right again, and the third has no label
        assert db.get_one(Feedback, last.id).label == 1
        assert count_progress(db, queue, actor=ann).num_done == 0
        assert given(db, queue, ann) == item
        make_feedback(db, item, actor=ben, step=0, label=-1)
        assert claim_next(db, queue.id, actor=ben) is None


def compare(db: Session, actor: Actor, left: uuid.UUID, right: uuid.UUID) -> uuid.UUID:
    rater = db.scalars(sa.select(Rater.id).where(Rater.account_id == actor.account_id)).one()
    number = uuid.uuid4()
    db.execute(
        sa.insert(Comparison),
        {"id": number, "left_interaction_id": left, "right_interaction_id": right,
         "rater_id": rater, "choice": Choice.LEFT, "source": "page", "external_id": str(number),
         "occurred_at": utcnow()},
    )  # fmt: skip
    return number


def test_a_pair_is_done_whichever_side_was_on_the_left(store: Store) -> None:
    with store.writing() as db:
        ids = [make_interaction(db, prompt="Which tea?").id for _ in range(3)]
        pairs = [(ids[0], ids[1]), (ids[1], ids[2])]
        queue = create_queue(
            db, actor=SYSTEM, name="q", pairs=pairs, subject=QueueSubject.COMPARISONS
        )
        ann = make_actor(db)
        for _ in pairs:
            claim = claim_next(db, queue.id, actor=ann)
            assert claim is not None
            one, other = claim.interaction_id, claim.other_interaction_id
            assert other is not None
            with pytest.raises(InvalidInput, match="not judged"):
                finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=one,
                             other_interaction_id=other)  # fmt: skip
            last = compare(db, ann, other, one)
            assert finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=other,
                                other_interaction_id=one)  # fmt: skip
        assert claim_next(db, queue.id, actor=ann) is None
        assert count_progress(db, queue, actor=ann).num_done == 2
        assert set(db.scalars(sa.select(Comparison.queue_id))) == {queue.id}
        db.execute(sa.update(Comparison).where(Comparison.id == last).values(withdrawn_at=utcnow()))
        again = claim_next(db, queue.id, actor=ann)
    assert again is not None
    assert again.item_id == claim.item_id


@only_sqlite
def test_what_cannot_be_finished_is_refused_with_a_sentence(store: Store) -> None:
    with store.writing() as db:
        queue, (item,) = make_queue(db, 1)
        ann, ben = make_actor(db), make_actor(db)
        given(db, queue, ann)
        with pytest.raises(InvalidInput, match="not judged this item yet"):
            finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=item)
        theirs = make_feedback(db, item, actor=ben).id
        with pytest.raises(Forbidden, match="somebody else's"):
            finish_claim(db, actor=ann, queue_id=queue.id, interaction_id=item, feedback_id=theirs)
        with pytest.raises(NotFound, match="does not exist"):
            finish_claim(db, actor=ann, queue_id=uuid.uuid4(), interaction_id=item)
        close_queue(db, queue.id, actor=SYSTEM)
        assert judge(db, queue, ann, item)  # what comes late is kept


@only_sqlite
def test_queue_holds_its_pairs_and_nothing_else(store: Store) -> None:
    with store.writing() as db:
        one, two, three = make_completions(db, 3)
        queue = create_queue(
            db, actor=SYSTEM, name="q", pairs=[(one, two)], subject=QueueSubject.COMPARISONS
        )
        actor = make_actor(db)
        for asked, is_held in (
            ((one, two), True), ((two, one), True), ((one, three), False),
            ((one, two, three), False), ((one,), False),
        ):  # fmt: skip
            assert holds_pair(db, queue.id, asked, actor=actor) is is_held
        assert not holds_pair(db, uuid.uuid4(), (one, two), actor=actor)
