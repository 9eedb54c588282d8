"""Rating queues: what is asked for is what raters see, in order, until it is done."""

import uuid

import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.errors import Conflict, Forbidden, InvalidInput, NotFound
from rlhf_core.feedback.assignment import next_to_rate
from rlhf_core.feedback.queues import count_progress, create_queue, get_queue, list_queues
from rlhf_core.registry.scores import store_rewards
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import QueueOrder, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.registry.world import make_version


def items(db: Session, number: int, **fields: int) -> list[uuid.UUID]:
    return [make_interaction(db, **fields).id for _ in range(number)]  # type: ignore[arg-type]


def seen(
    db: Session, actor: Actor, queue: uuid.UUID, after: uuid.UUID | None = None
) -> uuid.UUID | None:
    found = next_to_rate(db, actor=actor, queue_id=queue, after=after)
    return None if found is None else found.id


def test_items_come_in_the_order_of_the_queue_until_it_is_done(store: Store) -> None:
    with store.writing() as db:
        all_items = items(db, 5)
        wanted = [all_items[3], all_items[1], all_items[4]]
        queue = create_queue(db, actor=SYSTEM, name="pairs", interaction_ids=wanted)
        rater = make_actor(db)
        for item in wanted:
            assert seen(db, rater, queue.id) == item
            make_feedback(db, item, actor=rater)
        assert seen(db, rater, queue.id) is None
        assert seen(db, make_actor(db), queue.id) is None
        progress = count_progress(db, queue, actor=rater)
    assert (progress.num_items, progress.num_done, progress.num_open) == (3, 3, 0)


def test_an_item_needs_as_many_raters_as_the_overlap_says(store: Store) -> None:
    with store.writing() as db:
        (item,) = items(db, 1)
        queue = create_queue(db, actor=SYSTEM, name="twice", interaction_ids=[item], overlap=2)
        first, second, third = make_actor(db), make_actor(db), make_actor(db)
        make_feedback(db, item, actor=first)
        assert seen(db, first, queue.id) is None
        assert seen(db, second, queue.id) == item
        make_feedback(db, item, actor=second)
        assert seen(db, third, queue.id) is None


def test_ratings_from_before_the_queue_do_not_finish_it(store: Store) -> None:
    with store.writing() as db:
        (item,) = items(db, 1)
        make_feedback(db, item, actor=make_actor(db))
    with store.writing() as db:
        queue = create_queue(db, actor=SYSTEM, name="again", interaction_ids=[item])
        assert seen(db, make_actor(db), queue.id) == item


def test_skipping_goes_on_behind_the_item_and_then_begins_again(store: Store) -> None:
    with store.writing() as db:
        wanted = items(db, 3)
        queue = create_queue(db, actor=SYSTEM, name="q", interaction_ids=wanted)
        rater = make_actor(db)
        assert seen(db, rater, queue.id, after=wanted[0]) == wanted[1]
        assert seen(db, rater, queue.id, after=wanted[2]) == wanted[0]
        make_feedback(db, wanted[0], actor=rater)
        make_feedback(db, wanted[1], actor=rater)
        assert seen(db, rater, queue.id, after=wanted[2]) is None


def test_a_queue_about_steps_is_done_by_labels_and_not_by_ratings(store: Store) -> None:
    with store.writing() as db:
        (item,) = items(db, 1, steps=2)
        queue = create_queue(
            db, actor=SYSTEM, name="steps", interaction_ids=[item], is_about_steps=True
        )
        rater = make_actor(db)
        make_feedback(db, item, actor=rater, rating=4)
        assert seen(db, rater, queue.id) == item
        make_feedback(db, item, actor=rater, step=0, label=1)
        assert seen(db, rater, queue.id) is None
        assert get_queue(db, queue.id, actor=rater) == queue


def test_queues_are_listed_newest_first_and_noted(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 2)
        first = create_queue(db, actor=SYSTEM, name="first", interaction_ids=[*ids, ids[0]])
        second = create_queue(
            db, actor=SYSTEM, name=" second ", interaction_ids=ids[:1], instructions="Be kind."
        )
        assert list_queues(db, actor=make_actor(db)) == [second, first]
    assert (first.num_items, second.name, second.instructions) == (2, "second", "Be kind.")


def test_what_makes_no_queue_is_refused(store: Store) -> None:
    with store.writing() as db:
        ids = items(db, 1)
        create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids)
        with pytest.raises(Conflict, match="'q' already"):
            create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids)
        with pytest.raises(NotFound, match="deleted meanwhile"):
            create_queue(db, actor=SYSTEM, name="r", interaction_ids=[uuid.uuid4()])
        with pytest.raises(InvalidInput, match="1 to 10,000 items, not 0"):
            create_queue(db, actor=SYSTEM, name="r", interaction_ids=[])
        with pytest.raises(InvalidInput, match="printable"):
            create_queue(db, actor=SYSTEM, name=" ", interaction_ids=ids)
        with pytest.raises(InvalidInput, match="overlap 0"):
            create_queue(db, actor=SYSTEM, name="r", interaction_ids=ids, overlap=0)
        with pytest.raises(Forbidden):
            create_queue(db, actor=Actor("ann", Role.RATER), name="r", interaction_ids=ids)
        with pytest.raises(NotFound, match="does not exist, or is closed"):
            seen(db, make_actor(db), uuid.uuid4())
        assert len(list_queues(db, actor=SYSTEM)) == 1


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
        rater = make_actor(db)
        for item in (doubtful, unsure, sure, unscored):
            assert seen(db, rater, queue.id) == item
            make_feedback(db, item, actor=rater)
