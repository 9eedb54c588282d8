"""Models in their order, examinations, and rewards against what people say."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.model_trends import list_examinations, read_models
from rlhf_core.analytics.reward_drift import (
    compute_auc,
    list_scoring_versions,
    read_reward_drift,
)
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.scores import store_rewards
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import RaterKind
from tests.builders import make_feedback, make_interaction
from tests.core.registry.world import make_version
from tests.databases import only_sqlite

MONDAY = datetime(2026, 3, 2, 12, tzinfo=UTC)
SQLITE = only_sqlite


def say(db: Session, model: str, day: int, thumbs: list[int]) -> None:
    for thumb in thumbs:
        at = MONDAY + timedelta(days=day)
        item = make_interaction(db, model_name=model, occurred_at=at).id
        make_feedback(db, item, rater="ann", thumb=thumb, occurred_at=at)


def test_models_stand_in_the_order_in_which_they_came(store: Store) -> None:
    with store.writing() as db:
        say(db, "b", 0, [1] * 5 + [-1] * 5)
        say(db, "a", 3, [1] * 9 + [-1])
        say(db, "c", 4, [0])
        refresh_rollups(db)
        found = read_models(db, actor=SYSTEM)
        late = read_models(db, actor=SYSTEM, filters=Filters(since=date(2026, 3, 5)))
    assert [one.name for one in found] == ["b", "a", "c"]
    assert [str(one.first_day) for one in found] == ["2026-03-02", "2026-03-05", "2026-03-06"]
    before, after, without = found
    assert (before.change, without.approval, without.change) == (None, None, None)
    assert after.change is not None
    assert after.change.value == pytest.approx(0.4)
    assert after.change.low < 0.4 < after.change.high
    assert [one.name for one in late] == ["a", "c"]
    assert late[0].change is None


@SQLITE
def test_examinations_come_with_their_intervals_in_the_order_of_time(store: Store) -> None:
    with store.writing() as db:
        for auc in (0.6, 0.7):
            record_evaluation(
                db, actor=SYSTEM, version_id=make_version(db).id, dataset_version_id=None,
                job_id=None, split="test", num_rows=9,
                examination_json={"metrics": {"auc": auc}, "intervals": {"auc": [0.5, 0.8]}},
            )  # fmt: skip
        found = list_examinations(db, actor=SYSTEM)
    assert [(one.number, one.metrics["auc"], one.intervals["auc"]) for one in found] == [
        (1, 0.6, (0.5, 0.8)),
        (2, 0.7, (0.5, 0.8)),
    ]


def test_a_reward_that_stops_telling_good_from_bad_shows_by_week(store: Store) -> None:
    drawn = random.Random(2)
    with store.writing() as db:
        old, live = make_version(db), make_version(db)
        promote_version(db, actor=SYSTEM, version_id=live.id, reason="better")
        rewards = {}
        for number in range(80):
            thumb, week = number % 2 * 2 - 1, number // 40
            at = MONDAY + timedelta(weeks=week, minutes=number)
            item = make_interaction(db, occurred_at=at).id
            make_feedback(db, item, thumb=thumb, rater_kind=RaterKind.SME, occurred_at=at)
            rewards[item] = drawn.gauss(thumb if week == 0 else 2, 0.5)
        unscored = make_interaction(db, occurred_at=MONDAY).id
        make_feedback(db, unscored, thumb=1, occurred_at=MONDAY)
        store_rewards(db, live.id, rewards, actor=SYSTEM)
        refresh_rollups(db)
        assert [one.id for one in list_scoring_versions(db, actor=SYSTEM)] == [live.id]
        first, second = read_reward_drift(db, live.id, actor=SYSTEM)
        assert read_reward_drift(db, old.id, actor=SYSTEM) == []
        one_week = Filters(since=date(2026, 3, 9), until=date(2026, 3, 15))
        assert read_reward_drift(db, live.id, actor=SYSTEM, filters=one_week) == [second]
    assert (first.start, second.start) == (date(2026, 3, 2), date(2026, 3, 9))
    assert (first.num_good, first.num_bad) == (20, 20)
    assert first.auc is not None
    assert second.auc is not None
    assert first.auc.low > 0.9
    assert second.auc.low < 0.5 < second.auc.high
    assert second.mean_reward > 1.5 > first.mean_reward


def test_auc_is_the_share_of_pairs_in_order_and_its_interval_covers() -> None:
    good, bad = [3.0, 2.0, 2.0, 5.0] * 5, [1.0, 2.0, 4.0] * 5
    pairs = [(a > b) + (a == b) / 2 for a in good for b in bad]
    found = compute_auc(good, bad)
    assert found is not None
    assert found.value == pytest.approx(sum(pairs) / len(pairs))
    assert compute_auc(good[:9], bad) is None
    apart = compute_auc([2.0] * 20, [1.0] * 20)
    assert apart is not None
    assert (apart.value, apart.high) == (1.0, 1.0)
    assert apart.low == pytest.approx(0.85)
    drawn = random.Random(4)
    num_covered = 0
    for _ in range(200):  # P(x > y) of N(1, 1) and N(0, 1) is 0.7602
        one = [drawn.gauss(1, 1) for _ in range(40)]
        other = [drawn.gauss(0, 1) for _ in range(40)]
        interval = compute_auc(one, other)
        num_covered += interval is not None and interval.low <= 0.7602 <= interval.high
    assert num_covered / 200 > 0.89
