"""Drift of raters told from drift of the answers."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.analytics.rater_drift import DriftCause, RaterDrift, read_rater_drift
from rlhf_core.clock import new_id, utcnow
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import RatingQueue, RatingQueueItem
from rlhf_core.vocabulary import QueueItemKind, RaterKind
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
SQLITE = only_sqlite
NUM = 40  # ratings a half


def moment(half: int, number: int) -> datetime:
    return START + timedelta(days=20 * half, minutes=number)


def rate(db: Session, rater: Actor, half: int, share_good: float) -> None:
    for number in range(NUM):
        at = moment(half, number)
        item = make_interaction(db, occurred_at=at).id
        rating = 5 if number < share_good * NUM else 1
        make_feedback(db, item, actor=rater, rating=rating, occurred_at=at)


def rate_known(db: Session, rater: Actor, half: int, share_good: float) -> None:
    """Items half of which are known to be good."""
    queue_id = new_id()
    db.execute(
        sa.insert(RatingQueue), {"id": queue_id, "name": str(queue_id), "created_at": utcnow()}
    )
    for number in range(NUM):
        item = make_interaction(db).id
        add_gold(db, queue_id, item, 5 if number % 2 else 1)
        rating = 5 if number < share_good * NUM else 1
        at = moment(half, number)
        make_feedback(db, item, actor=rater, rating=rating, occurred_at=at)


def add_gold(db: Session, queue_id: uuid.UUID, item: uuid.UUID, rating: int) -> None:
    db.execute(
        sa.insert(RatingQueueItem),
        {
            "id": new_id(), "queue_id": queue_id, "interaction_id": item,
            "kind": QueueItemKind.GOLD, "gold_answer": {"rating": rating}, "created_at": utcnow(),
        },
    )  # fmt: skip


def drift_of(db: Session) -> RaterDrift:
    found = read_rater_drift(db, actor=SYSTEM)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("share", "share_known", "cause"),
    [
        ((0.9, 0.3), (0.5, 0.5), DriftCause.ANSWERS),
        ((0.8, 0.2), (0.8, 0.2), DriftCause.RATERS),
        ((0.5, 0.5), (0.5, 0.5), DriftCause.NOTHING),
    ],
)
@SQLITE
def test_known_answers_tell_what_changed(
    store: Store, share: tuple[float, float], share_known: tuple[float, float], cause: DriftCause
) -> None:
    with store.writing() as db:
        ann = make_actor(db)
        for half in range(2):
            rate(db, ann, half, share[half])
            rate_known(db, ann, half, share_known[half])
        found = drift_of(db)
    assert found.cause is cause
    assert found.approval is not None
    assert found.approval.value == pytest.approx(share[1] - share[0])
    assert found.num_known == 2 * NUM
    assert [week.num_known for week in found.weeks] == [NUM, NUM]
    assert found.weeks[0].leniency == pytest.approx(share_known[0] - 0.5)


def test_repeats_tell_it_without_known_answers(store: Store) -> None:
    with store.writing() as db:
        ann = make_actor(db)
        for half in range(2):
            rate(db, ann, half, 0.9 - 0.8 * half)
        unknown = drift_of(db)
        assert (unknown.cause, unknown.raters, unknown.answers) == (DriftCause.UNKNOWN, None, None)
        for number in range(20):
            item = make_interaction(db).id
            for half, rating in ((0, 5), (1, 5 if number % 10 == 0 else 1)):
                make_feedback(
                    db, item, actor=ann, rating=rating, occasion=half,
                    occurred_at=moment(half, number),
                )  # fmt: skip
        found = drift_of(db)
    assert found.num_repeats == 20
    assert found.on_repeats is not None
    assert found.on_repeats.value == pytest.approx(-0.9)
    assert found.cause is DriftCause.RATERS


def test_only_experts_count_and_nothing_is_no_error(store: Store) -> None:
    with store.writing() as db:
        assert read_rater_drift(db, actor=SYSTEM) is None
        item = make_interaction(db, user="u").id
        make_feedback(db, item, thumb=1, rater_kind=RaterKind.END_USER)
        assert read_rater_drift(db, actor=SYSTEM) is None
        make_feedback(db, item, actor=make_actor(db), rating=5)
        alone = drift_of(db)
    assert (alone.approval, alone.cause) == (None, DriftCause.UNKNOWN)
