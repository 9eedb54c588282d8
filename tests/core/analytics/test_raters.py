import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.analytics.raters import RaterFigures, report_raters
from rlhf_core.analytics.scope import Scope
from rlhf_core.clock import new_id, utcnow
from rlhf_core.errors import Forbidden
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import RatingQueue, RatingQueueItem
from rlhf_core.vocabulary import Choice, QueueItemKind, QueueSubject, RaterKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.dataset.world import vote
from tests.databases import only_sqlite


def figures_of(
    db: Session, name: str, subject: QueueSubject = QueueSubject.COMPLETIONS, **scope: object
) -> RaterFigures:
    report = report_raters(db, actor=SYSTEM, subject=subject, scope=Scope(**scope))
    return next(one for one in report.raters if one.name == name)


def make_raters(db: Session, *names: str) -> list[Actor]:
    return [make_actor(db, name=name) for name in names]


def make_gold_queue(
    db: Session, interaction_id: uuid.UUID, answer: dict[str, object], **fields: object
) -> uuid.UUID:
    queue_id = new_id()
    db.execute(
        sa.insert(RatingQueue),
        {"id": queue_id, "name": f"gold {queue_id}", "created_at": utcnow()} | fields,
    )
    db.execute(
        sa.insert(RatingQueueItem),
        {
            "id": new_id(), "queue_id": queue_id, "interaction_id": interaction_id,
            "kind": QueueItemKind.GOLD, "gold_answer": answer, "created_at": utcnow(),
        },
    )  # fmt: skip
    return queue_id


def test_each_rater_is_held_against_the_others_without_their_own_answer(store: Store) -> None:
    with store.writing() as db:
        ann, ben, cy = make_raters(db, "ann", "ben", "cy")
        for ratings in ((5, 4, 1), (2, 1, 5), (4, 5, 4)):
            item = make_interaction(db).id
            for rater, rating in zip((ann, ben, cy), ratings, strict=True):
                make_feedback(db, item, actor=rater, rating=rating, duration_s=10.0 * rating)
        alone = make_interaction(db).id
        make_feedback(db, alone, actor=ann, rating=5)
        found = figures_of(db, "cy")
        # on the third item only: on the first two the others say the opposite
        assert found.with_others is not None
        assert (found.num_shared, found.with_others.value) == (3, pytest.approx(1 / 3))
        assert found.points_above == pytest.approx((-3.5 + 3.5 - 0.5) / 3)
        assert found.median_s == 40.0
        # the others of ann are split where cy differs from ben: only the third item is left
        first = figures_of(db, "ann")
        assert (first.num_judged, first.num_shared) == (4, 1)
        assert first.quality is None


def test_steps_and_pairs_are_judged_apart(store: Store) -> None:
    with store.writing() as db:
        ann, ben = make_raters(db, "ann", "ben")
        item = make_interaction(db, steps=2).id
        for rater, labels in ((ann, (1, -1)), (ben, (1, 1))):
            for place, label in enumerate(labels):
                make_feedback(db, item, actor=rater, step=place, label=label)
        found = figures_of(db, "ann", QueueSubject.STEPS)
        assert found.with_others is not None
        assert (found.num_judged, found.num_shared, found.with_others.value) == (2, 2, 0.5)
        assert found.points_above is None

        left, right = make_interaction(db, prompt="one?").id, make_interaction(db, prompt="one?").id
        vote(db, left, right, Choice.LEFT)
        vote(db, right, left, Choice.RIGHT)  # the same answer, its sides swapped
        vote(db, right, left, Choice.TIE)
        report = report_raters(db, actor=SYSTEM, subject=QueueSubject.COMPARISONS)
        equal = [one.with_others.value for one in report.raters if one.with_others]
        assert equal == [1.0, 1.0]
        assert [one.num_judged for one in report.raters] == [1, 1, 1]


def test_known_answers_and_repeats_compare_verdicts(store: Store) -> None:
    with store.writing() as db:
        ann, maker = make_raters(db, "ann", "maker")
        good, bad, by_thumb = (make_interaction(db).id for _ in range(3))
        queue = make_gold_queue(db, good, {"rating": 5}, created_by=maker.account_id)
        make_gold_queue(db, bad, {"rating": 2})
        make_gold_queue(db, by_thumb, {"thumb": -1})
        make_feedback(db, good, actor=ann, rating=4)  # good as well
        make_feedback(db, bad, actor=ann, rating=4)
        make_feedback(db, by_thumb, actor=ann, rating=1)
        make_feedback(db, good, actor=maker, rating=5)  # their own answer proves nothing
        make_feedback(db, good, actor=ann, rating=5, occasion=1)
        make_feedback(db, bad, actor=ann, rating=1, occasion=1)
        found = figures_of(db, "ann")
        assert found.gold is not None and found.with_self is not None  # noqa: PT018
        assert (found.num_gold, found.gold.value) == (3, pytest.approx(2 / 3))
        assert (found.num_repeats, found.with_self.value) == (2, 0.5)
        assert figures_of(db, "maker").num_gold == 0
        assert figures_of(db, "ann", queue_id=queue).num_gold == 1

        stepped = make_interaction(db, steps=2).id
        make_gold_queue(db, stepped, {"labels": [[0, 1], [1, -1]]}, subject=QueueSubject.STEPS)
        for place in range(2):
            make_feedback(db, stepped, actor=ann, step=place, label=1)
        steps = figures_of(db, "ann", QueueSubject.STEPS)
        assert steps.gold is not None
        assert (steps.num_gold, steps.gold.value) == (2, 0.5)


@only_sqlite
def test_what_several_queues_know_counts_once_and_for_no_maker_of_one(store: Store) -> None:
    with store.writing() as db:
        ann, maker = make_raters(db, "ann", "maker")
        item = make_interaction(db).id
        make_gold_queue(db, item, {"rating": 1}, created_by=maker.account_id)
        newest = make_gold_queue(db, item, {"rating": 5})
        for rater in (ann, maker):
            make_feedback(db, item, actor=rater, rating=5)
        found = figures_of(db, "ann")
        assert found.gold is not None
        assert (found.num_gold, found.gold.value) == (1, 1.0)  # as the newest says
        assert figures_of(db, "maker").num_gold == 0
        assert figures_of(db, "maker", queue_id=newest).num_gold == 0


@only_sqlite
def test_quality_needs_twenty_items_and_tells_the_guesser(store: Store) -> None:
    with store.writing() as db:
        ann, ben, cy, guesser = make_raters(db, "ann", "ben", "cy", "guesser")
        for number in range(24):
            item = make_interaction(db).id
            for rater in (ann, ben, cy):
                make_feedback(db, item, actor=rater, rating=5 if number % 2 else 1)
            if number < 20:
                guess = 5 if number % 3 else 1
                make_feedback(db, item, actor=guesser, rating=guess)
        report = report_raters(db, actor=SYSTEM)
        quality = {one.name: one.quality for one in report.raters}
        assert quality["guesser"] is not None
        assert quality["guesser"] < 0.75 < 0.9 < quality["ann"]
        withdrawn = make_feedback(db, item, actor=guesser, rating=5)
        withdraw_feedback(db, withdrawn.id, actor=SYSTEM)
        assert figures_of(db, "guesser").num_judged == 20


@only_sqlite
def test_end_users_are_counted_and_never_listed(store: Store) -> None:
    with store.writing() as db:
        (ann,) = make_raters(db, "ann")
        item = make_interaction(db, source="chat").id
        make_feedback(db, item, actor=ann, rating=5)
        for user in ("kim", "lee"):
            make_feedback(db, item, rater=user, rater_kind=RaterKind.END_USER, thumb=-1)
        make_feedback(db, item, rater="outside", rating=4)
        report = report_raters(db, actor=SYSTEM, scope=Scope(source="chat"))
        assert [one.rater_kind for one in report.raters] == [RaterKind.SME, RaterKind.SME]
        names = {one.name for one in report.raters}
        assert "ann" in names
        assert all(name == "ann" or name.startswith("rater ") for name in names)
        assert "outside" not in str(names)
        assert (report.num_end_users, report.num_by_end_users) == (2, 2)
        assert report_raters(db, actor=SYSTEM, scope=Scope(source="none")).raters == ()
        assert report_raters(db, actor=SYSTEM, limit=1).num_more == 1
        with pytest.raises(Forbidden):
            report_raters(db, actor=make_actor(db, Role.RATER))


@only_sqlite
def test_end_users_are_summed_by_the_database(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writing() as db:
        (ann,) = make_raters(db, "ann")
        for number in range(30):
            item = make_interaction(db).id
            make_feedback(db, item, rater=f"u{number}", rater_kind=RaterKind.END_USER, thumb=1)
        make_feedback(db, item, actor=ann, rating=5)
        num_rows = []
        execute = db.execute

        def count(*args: Any, **options: Any) -> Any:
            found = execute(*args, **options).freeze()
            num_rows.append(len(found.data))
            return found()

        monkeypatch.setattr(db, "execute", count)
        report = report_raters(db, actor=SYSTEM)
    assert (report.num_end_users, report.num_by_end_users, len(report.raters)) == (30, 30, 1)
    assert 0 < max(num_rows) < 10
