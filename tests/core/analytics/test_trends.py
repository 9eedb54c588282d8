from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.agreement.shares import wilson_interval
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.loop import read_loop
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.analytics.time_marks import MarkKind, list_marks
from rlhf_core.analytics.trends import OTHERS, Grain, Split, read_aspects, read_ratings, read_trend
from rlhf_core.clock import utcnow
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.registry import service as registry
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Alert, AlertRule, Dataset, DatasetVersion, Job
from rlhf_core.vocabulary import DatasetPurpose, JobKind, JobState, Resource
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

FORTNIGHT = Filters(since=date(2026, 3, 1), until=date(2026, 3, 14))


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


def test_points_by_time_with_interval_and_mean(store: Store) -> None:
    with store.writing() as db:
        for day, ratings in ((2, (5, 4, 1)), (8, (3,)), (9, (2, 5))):
            item = make_interaction(db, occurred_at=at(day))
            for hour, rating in enumerate(ratings):
                make_feedback(
                    db, item.id, actor=make_actor(db), rating=rating, occurred_at=at(day, hour)
                )
    with reading_fresh(store) as db:
        weeks = read_trend(db, actor=SYSTEM, grain=Grain.WEEK)
        hours = read_trend(db, actor=SYSTEM, grain=Grain.HOUR, filters=FORTNIGHT)
        months = read_trend(db, actor=SYSTEM, grain=Grain.MONTH)
    assert [(point.start, point.num_feedback) for point in weeks] == [(at(2, 0), 4), (at(9, 0), 2)]
    assert weeks[0].approval == wilson_interval(2, 3)
    assert weeks[0].mean_rating == 3.25
    starts = [(2, 0), (2, 1), (2, 2), (8, 0), (9, 0), (9, 1)]
    assert [point.start for point in hours] == [at(*start) for start in starts]
    assert hours[3].approval is None
    assert [(point.start, point.num_feedback) for point in months] == [(at(1, 0), 6)]


@only_sqlite
def test_names_beyond_the_most_frequent_ones_are_one(store: Store) -> None:
    with store.writing() as db:
        for name, count in (("a", 3), ("b", 2), ("c", 1), (None, 1)):
            for _ in range(count):
                item = make_interaction(db, model_name=name, occurred_at=at(2))
                make_feedback(db, item.id, thumb=1, occurred_at=at(2))
    with reading_fresh(store) as db:
        points = read_trend(db, actor=SYSTEM, split=Split.MODEL_NAME, max_names=2)
        all_points = read_trend(db, actor=SYSTEM, split=Split.MODEL_NAME)
    found = {point.name: (point.num_good, point.thumbs[1]) for point in points}
    assert found == {"a": (3, 3), "b": (2, 2), OTHERS: (2, 2)}
    assert [point.name for point in all_points] == ["", "a", "b", "c"]


@only_sqlite
def test_by_hour_only_a_fortnight_is_shown(store: Store) -> None:
    with store.reading() as db:
        assert read_trend(db, actor=SYSTEM, grain=Grain.HOUR, filters=FORTNIGHT) == []
        for longer in (Filters(), Filters(since=date(2026, 2, 28), until=FORTNIGHT.until)):
            with pytest.raises(InvalidInput, match="at most 14 days"):
                read_trend(db, actor=SYSTEM, grain=Grain.HOUR, filters=longer)
        with pytest.raises(Forbidden):
            read_trend(db, actor=make_actor(db))


@only_sqlite
def test_ratings_and_aspects_of_nothing_and_of_something(store: Store) -> None:
    with reading_fresh(store) as db:
        nothing = read_ratings(db, actor=SYSTEM)
        assert read_aspects(db, actor=SYSTEM) == []
    assert (nothing.num_feedback, nothing.mean_rating, nothing.approval) == (0, None, None)
    with store.writing() as db:
        item = make_interaction(db)
        make_feedback(db, item.id, rating=5, thumb=-1, aspects={"tone": 2, "truth": 5})
        make_feedback(db, item.id, actor=make_actor(db), thumb=-1, aspects={"tone": 4})
        make_feedback(db, item.id, actor=make_actor(db), comment="Hm.")
    with reading_fresh(store) as db:
        said = read_ratings(db, actor=SYSTEM)
        aspects = read_aspects(db, actor=SYSTEM)
    assert (said.num_feedback, said.num_good, said.num_neutral, said.num_bad) == (3, 1, 0, 1)
    assert (said.ratings[5], said.thumbs) == (1, {1: 0, 0: 0, -1: 2})
    assert [(one.name, one.num_ratings, one.mean_rating) for one in aspects] == [
        ("tone", 2, 3.0),
        ("truth", 1, 5.0),
    ]


@only_sqlite
def test_releases_and_alerts_are_marks_on_the_axis(store: Store) -> None:
    with store.writing() as db:
        first, second = make_version(db), make_version(db)
        for version in (first, second):
            registry.promote_version(db, version.id, actor=SYSTEM, reason="better")
        registry.roll_back(db, "reward", actor=SYSTEM, reason="worse")
        db.add(AlertRule(name="Approval", kind="approval_below", params={}))
        db.flush()
        rule = db.scalars(sa.select(AlertRule.id)).one()
        db.add(Alert(rule_id=rule, slice_key="search", opened_at=utcnow()))
        db.add(Alert(rule_id=rule, opened_at=at(2)))
    with store.reading() as db:
        marks = list_marks(db, actor=SYSTEM)
        march = list_marks(db, actor=SYSTEM, filters=FORTNIGHT)
    assert [(mark.kind, mark.text) for mark in marks] == [
        (MarkKind.ALERT, "Approval"),
        (MarkKind.PROMOTION, "reward v1"),
        (MarkKind.PROMOTION, "reward v2"),
        (MarkKind.ROLL_BACK, "reward back to v1"),
        (MarkKind.ALERT, "Approval: search"),
    ]
    assert march == marks[:1]


def test_the_loop_tells_what_waits_runs_and_serves(store: Store) -> None:
    with store.writing() as db:
        empty = read_loop(db, actor=SYSTEM)
        item = make_interaction(db)
        said = [make_feedback(db, item.id, actor=make_actor(db)).id for _ in range(3)]
        withdraw_feedback(db, said[0], actor=SYSTEM)
        versions = [make_version(db) for _ in range(3)]
        registry.promote_version(db, versions[1].id, actor=SYSTEM, reason="better")
        make_version(db, model_name="other")
        moment = utcnow()
        dataset = Dataset(name="ratings", purpose=DatasetPurpose.SCORES)
        db.add(dataset)
        db.flush()
        for state in (JobState.QUEUED, JobState.RUNNING, JobState.FAILED):
            db.add(Job(kind=JobKind.EVALUATE, state=state, resource=Resource.CPU, params={}))
        before = read_loop(db, actor=SYSTEM)
        frozen = DatasetVersion(
            dataset_id=dataset.id, number=1, content_hash="0", artifact_path="x", params={},
            num_rows=2, num_groups=1, left_out={}, created_at=moment - timedelta(microseconds=1),
        )  # fmt: skip
        db.add(frozen)
    with store.writing() as db:
        make_feedback(db, item.id, actor=make_actor(db))
        after = read_loop(db, actor=SYSTEM)
        with pytest.raises(Forbidden):
            read_loop(db, actor=make_actor(db))
    assert (empty.num_waiting, empty.newest_dataset, empty.live) == (0, None, [])
    assert (before.num_waiting, before.num_queued_jobs, before.num_running_jobs) == (2, 1, 1)
    assert (before.num_candidates, before.num_canaries, before.num_open_alerts) == (2, 0, 0)
    assert [(one.model, one.number) for one in before.live] == [("reward", 2)]
    assert after.newest_dataset is not None
    assert (after.newest_dataset.name, after.newest_dataset.num_rows) == ("ratings", 2)
    assert after.num_waiting == 1
