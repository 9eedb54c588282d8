from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics.filters import Filters, list_filter_choices, previous_period, today
from rlhf_core.analytics.rollups import reading_fresh
from rlhf_core.errors import Forbidden, InvalidInput
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import InteractionRollup
from rlhf_core.vocabulary import DEMO_SOURCE, RaterKind
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite

MARCH = (date(2026, 3, 1), date(2026, 3, 31))


def sources(store: Store, filters: Filters) -> set[str]:
    with reading_fresh(store) as db:
        conditions = filters.conditions(InteractionRollup)
        return set(db.scalars(sa.select(InteractionRollup.source).where(*conditions)))


@only_sqlite
def test_demo_data_is_left_out_where_there_is_any_other(store: Store) -> None:
    with store.writing() as db:
        make_interaction(db, source=DEMO_SOURCE)
    assert sources(store, Filters()) == {DEMO_SOURCE}
    with store.writing() as db:
        make_interaction(db, source="app", occurred_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert sources(store, Filters()) == {"app"}
    assert sources(store, Filters(since=today() - timedelta(days=1))) == set()
    assert sources(store, Filters(sources=(DEMO_SOURCE,))) == {DEMO_SOURCE}


@only_sqlite
def test_choices_are_what_was_ever_counted(store: Store) -> None:
    with reading_fresh(store) as db:
        nothing = list_filter_choices(db, actor=SYSTEM)
        with pytest.raises(Forbidden):
            list_filter_choices(db, actor=make_actor(db))
    assert (nothing.sources, nothing.first_day, nothing.last_day) == ((), None, None)
    with store.writing() as db:
        for n, action_type in enumerate(("search", None, "mail")):
            moment = datetime(2026, 3, 1 + n, tzinfo=UTC)
            item = make_interaction(db, source="app", action_type=action_type, occurred_at=moment)
        make_feedback(db, item.id, rating=4, occurred_at=datetime(2026, 4, 1, tzinfo=UTC))
    with reading_fresh(store) as db:
        choices = list_filter_choices(db, actor=SYSTEM)
    assert choices.sources == ("app",)
    assert choices.action_types == ("", "mail", "search")
    assert (choices.first_day, choices.last_day) == (date(2026, 3, 1), date(2026, 4, 1))


def test_the_period_before_is_as_long_and_keeps_the_slices() -> None:
    march = Filters(*MARCH, sources=("app",), rater_kinds=(RaterKind.SME,))
    before = previous_period(march)
    assert before == Filters(
        date(2026, 1, 29), date(2026, 2, 28), sources=("app",), rater_kinds=(RaterKind.SME,)
    )
    one_day = Filters(since=today())
    assert previous_period(one_day) == Filters(*[today() - timedelta(days=1)] * 2)
    assert previous_period(Filters(until=MARCH[1])) is None
    assert previous_period(Filters(since=date.min, until=MARCH[1])) is None
    assert previous_period(Filters(since=date.max)) is not None


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidInput, match="begins on 2026-03-31 and ends on 2026-03-01"):
        Filters(since=MARCH[1], until=MARCH[0])
