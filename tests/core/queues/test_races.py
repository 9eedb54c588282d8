"""Many raters at once on one queue: nothing is given twice, nothing is lost or overwritten."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.feedback.drafts import FeedbackDraft
from rlhf_core.feedback.service import submit_feedback
from rlhf_core.queues.leases import claim_next, finish_claim
from rlhf_core.queues.service import create_queue
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, RatingAssignment
from rlhf_core.vocabulary import AssignmentState
from tests.builders import make_actor, make_interaction

NUM_RATERS = 8


def run_together(works: list[Callable[[], None]]) -> None:
    """All at once, each in a thread; fails with the first error of any."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            errors.append(error)

    start = threading.Barrier(len(works))
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def rate_all(store: Store, queue_id: uuid.UUID, actor: Actor) -> None:
    """As the page does it: each judgement, its end and the next item in one transaction."""
    draft = FeedbackDraft(rating=4)
    with store.writing() as db:
        claim = claim_next(db, queue_id, actor=actor)
    while claim is not None:
        with store.writing() as db:
            stored = submit_feedback(db, claim.interaction_id, draft, actor=actor)
            assert stored.was_created
            assert finish_claim(
                db, actor=actor, queue_id=queue_id, interaction_id=claim.interaction_id,
                feedback_id=stored.id,
            )  # fmt: skip
            claim = claim_next(db, queue_id, actor=actor)


@pytest.mark.parametrize(
    ("num_items", "overlap"), [(400, 1), pytest.param(400, 3, marks=pytest.mark.slow), (60, 3)]
)
def test_every_item_gets_exactly_its_number_of_ratings(
    store: Store, num_items: int, overlap: int
) -> None:
    with store.writing() as db:
        ids = [make_interaction(db).id for _ in range(num_items)]
        queue = create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids, overlap=overlap)
        raters = [make_actor(db) for _ in range(NUM_RATERS)]
    run_together([lambda actor=actor: rate_all(store, queue.id, actor) for actor in raters])  # type: ignore[misc]
    with store.reading() as db:
        rated = Counter(db.scalars(sa.select(Feedback.interaction_id)))
        revisions = set(db.scalars(sa.select(Feedback.revision)))
        slots = db.execute(
            sa.select(RatingAssignment.queue_item_id, RatingAssignment.slot, RatingAssignment.state)
        ).all()
        num_voices = db.scalar(sa.select(sa.func.count(sa.distinct(Feedback.rater_id))))
    assert rated == dict.fromkeys(ids, overlap)
    assert revisions == {0}  # nobody overwrote anything
    assert len(slots) == num_items * overlap
    assert {slot.state for slot in slots} == {AssignmentState.DONE}
    assert num_voices is not None
    assert num_voices > 1


def test_two_tabs_of_one_rater_show_one_item_and_leave_one_rating(store: Store) -> None:
    with store.writing() as db:
        for _ in range(20):
            make_interaction(db)
        ids = [make_interaction(db).id for _ in range(20)]
        queue = create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids)
        rater = make_actor(db)
    shown: list[uuid.UUID] = []

    def open_tab() -> None:
        with store.writing() as db:
            claim = claim_next(db, queue.id, actor=rater)
        assert claim is not None
        shown.append(claim.interaction_id)

    def rate() -> None:
        with store.writing() as db:
            stored = submit_feedback(db, shown[0], FeedbackDraft(rating=5), actor=rater)
            finish_claim(
                db, actor=rater, queue_id=queue.id, interaction_id=shown[0], feedback_id=stored.id
            )

    run_together([open_tab] * 4)
    assert set(shown) == {ids[0]}
    run_together([rate] * 4)
    with store.reading() as db:
        current = db.scalars(sa.select(Feedback.id).where(Feedback.withdrawn_at.is_(None))).all()
        done = db.scalars(sa.select(RatingAssignment.state)).all()
    assert len(current) == 1
    assert done == [AssignmentState.DONE]
