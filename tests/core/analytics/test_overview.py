from datetime import UTC, date, datetime

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.overview import read_overview
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.store.engine import Store
from tests.builders import make_actor, make_feedback, make_interaction

FIRST = date(2026, 3, 2)


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, day, hour, tzinfo=UTC)


def test_figures_of_a_period_and_of_the_one_before(store: Store) -> None:
    with store.writing() as db:
        raters = [make_actor(db) for _ in range(2)]
        for day, rating in ((2, 1), (3, 3), (4, 5), (5, 4)):
            item = make_interaction(db, occurred_at=at(day))
            for rater in raters[: 1 if day < 4 else 2]:
                make_feedback(db, item.id, actor=rater, rating=rating, occurred_at=at(day, 13))
        make_interaction(db, occurred_at=at(5))
        user = make_interaction(db, occurred_at=at(5))
        for name, thumb in (("ann", 1), ("bob", 0), ("cat", -1), ("dan", 1)):
            make_feedback(
                db, user.id, rater=name, rater_kind="end_user", thumb=thumb, occurred_at=at(5)
            )
    with reading_fresh(store) as db:
        found = read_overview(
            db, actor=SYSTEM, filters=Filters(since=date(2026, 3, 4), until=date(2026, 3, 5))
        )
    now, before = found.now, found.before
    assert (now.num_interactions, now.num_with_feedback, now.coverage) == (4, 3, 0.75)
    assert (now.num_feedback, now.num_good, now.num_bad, now.approval) == (8, 6, 1, 6 / 7)
    assert (now.mean_rating, now.num_raters, now.satisfaction) == (4.5, 2, 0.625)
    assert before is not None
    assert (before.num_feedback, before.approval, before.mean_rating) == (2, 0.0, 2.0)
    assert (before.num_raters, before.satisfaction) == (1, None)
    assert [(one.day.day, one.figures.num_feedback) for one in found.days] == [(4, 2), (5, 6)]


def test_days_of_an_endless_period_are_those_with_data_and_between(store: Store) -> None:
    with store.writing() as db:
        make_interaction(db, occurred_at=at(2))
        make_interaction(db, occurred_at=at(5))
    endless = Filters(since=date.min, until=date.max)
    with reading_fresh(store) as db:
        found = read_overview(db, actor=SYSTEM, filters=endless)
        assert [one.day for one in found.days][:4] == [date(2026, 3, day) for day in (2, 3, 4, 5)]
        assert len(found.days) < 4000
    with store.writing() as db:
        make_interaction(db, occurred_at=datetime(1066, 10, 14, tzinfo=UTC))
    with reading_fresh(store) as db:
        found = read_overview(db, actor=SYSTEM, filters=endless)
    assert [one.day.year for one in found.days] == [1066, 2026, 2026]
