"""How far a queue is, who did what, and how quickly it moves."""

import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.clock import utcnow
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import undo_last
from rlhf_core.queues.leases import claim_next, finish_claim
from rlhf_core.queues.progress import (
    compute_pace,
    count_own,
    count_progress,
    list_rater_progress,
)
from rlhf_core.queues.service import create_queue
from rlhf_core.queues.views import QueueView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import RatingAssignment
from rlhf_core.vocabulary import QueueSubject
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.feedback.pairs import make_completions
from tests.databases import only_sqlite


def judge_next(db: Session, queue: QueueView, actor: Actor, **said: object) -> uuid.UUID:
    claim = claim_next(db, queue.id, actor=actor)
    assert claim is not None
    stored = make_feedback(db, claim.interaction_id, actor=actor, **({"rating": 3} | said))
    finish_claim(
        db, actor=actor, queue_id=queue.id, interaction_id=claim.interaction_id,
        feedback_id=stored.id,
    )  # fmt: skip
    return claim.assignment_id


def make_queue(db: Session, number: int, overlap: int = 1) -> QueueView:
    ids = [make_interaction(db).id for _ in range(number)]
    return create_queue(db, actor=SYSTEM, name="q", interaction_ids=ids, overlap=overlap)


def test_an_item_is_done_with_its_last_judgement(store: Store) -> None:
    with store.writing() as db:
        queue = make_queue(db, 3, overlap=2)
        ann, ben = make_actor(db), make_actor(db)

        def counted(actor: Actor) -> tuple[int, int, int]:
            found = count_progress(db, queue, actor=actor)
            return found.num_items, found.num_done, found.num_open

        assert counted(ann) == (3, 0, 3)
        judge_next(db, queue, ann)
        assert counted(ann) == (3, 0, 2)
        judge_next(db, queue, ben)
        judge_next(db, queue, ben)
        assert counted(ann) == (3, 1, 2)
        assert counted(make_actor(db)) == (3, 1, 2)
        assert count_own(db, queue, actor=ben) == 2
        undo_last(db, actor=ben)
        assert count_own(db, queue, actor=ben) == 1
        assert count_own(db, queue, actor=make_actor(db)) == 0


def test_who_did_how_many_in_what_time(store: Store) -> None:
    with store.writing() as db:
        queue = make_queue(db, 6)
        ann, ben = make_actor(db, name="ann"), make_actor(db, name="ben")
        for duration in (2.0, 4.0, 90.0):
            judge_next(db, queue, ann, duration_s=duration)
        untimed = judge_next(db, queue, ben)
        db.execute(
            sa.update(RatingAssignment)
            .where(RatingAssignment.id == untimed)
            .values(leased_at=RatingAssignment.finished_at)
        )
        claim_next(db, queue.id, actor=ben)
        first, second = list_rater_progress(db, queue.id, actor=SYSTEM)
        with pytest.raises(Forbidden):
            list_rater_progress(db, queue.id, actor=ann)
    assert (first.name, first.num_done, first.num_open_leases, first.median_s) == ("ann", 3, 0, 4.0)
    assert (second.name, second.num_done, second.num_open_leases) == ("ben", 1, 1)
    assert second.median_s is None
    assert second.last_at is not None


def test_pace_is_that_of_the_last_week(store: Store) -> None:
    with store.writing() as db:
        queue = make_queue(db, 20, overlap=2)
        ann = make_actor(db)
        standing = compute_pace(db, queue, actor=SYSTEM)
        assert (standing.num_left, standing.per_day, standing.days_left) == (40, 0.0, None)
        now = utcnow()
        for ago in (30.0, 4.0, 3.0, 2.0, 1.0):
            done = judge_next(db, queue, ann)
            db.execute(
                sa.update(RatingAssignment)
                .where(RatingAssignment.id == done)
                .values(finished_at=now - timedelta(days=ago))
            )
        pace = compute_pace(db, queue, actor=SYSTEM)
    assert pace.num_left == 35
    assert pace.per_day == pytest.approx(4 / 7, rel=0.01)
    assert pace.days_left == pytest.approx(35 * 7 / 4, rel=0.01)
    assert pace.daily[-5:-1] == (1, 1, 1, 1)
    assert sum(pace.daily) == 4


@only_sqlite
@pytest.mark.parametrize("subject", list(QueueSubject))
def test_progress_does_not_read_all_that_a_rater_ever_said(
    store: Store, subject: QueueSubject
) -> None:
    said: list[str] = []

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def _note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    with store.writing() as db:
        ann = make_actor(db)
        one, other = make_completions(db)
        item = make_interaction(db, steps=2).id
        make_feedback(db, item, actor=ann)
        asked = {"interaction_ids": [item]}
        if subject is QueueSubject.COMPARISONS:
            asked = {"pairs": [(one, other)]}
        queue = create_queue(db, actor=SYSTEM, name="q", subject=subject, **asked)
        said.clear()
        count_progress(db, queue, actor=ann)
        claim_next(db, queue.id, actor=ann)
    reads = [text for text in said if "rating_queue_items" in text and text.startswith("SELECT")]
    with store.engine.connect() as connection:
        for text in reads:
            blank = (None,) * text.count("?")
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", blank).all()
            assert not [row for row in plan if "ix_feedback_rater_time" in str(row)], text
    assert len(reads) > 3
