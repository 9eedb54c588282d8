import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.analytics import failures
from rlhf_core.analytics.failures import list_frequent
from rlhf_core.analytics.filters import Filters
from rlhf_core.analytics.rollups import refresh_rollups
from rlhf_core.clock import new_id
from rlhf_core.errors import Forbidden
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import BadExchange, BadExchangeRollup, Interaction
from rlhf_core.vocabulary import DEMO_SOURCE, RaterKind, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.databases import only_sqlite

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def say_bad(db: Session, number: int, completion: str, *, day: int = 0, **fields: object) -> None:
    """So many interactions with this answer, each called bad by an end user on that day."""
    for _ in range(number):
        item = make_interaction(
            db, prompt="Where is it?", completion=completion, external_id=new_id().hex, **fields
        ).id
        make_feedback(
            db, item, rating=1, rater=new_id().hex, rater_kind=RaterKind.END_USER,
            occurred_at=NOON + timedelta(days=day),
        )  # fmt: skip


def frequent(db: Session, **filters: object) -> list[tuple[str, int]]:
    refresh_rollups(db)
    found = list_frequent(db, actor=SYSTEM, filters=Filters(**filters))
    return [(one.completion, one.num_bad) for one in found]


def test_what_was_called_bad_more_than_twice_is_listed_the_most_frequent_first(
    store: Store,
) -> None:
    with store.writing() as db:
        say_bad(db, 2, "Twice.")
        say_bad(db, 3, "Thrice.", action_type="search")
        say_bad(db, 2, "Often.")
        say_bad(db, 2, "Often.", day=1)
        assert frequent(db) == [("Often.", 4), ("Thrice.", 3)]
        (_, last) = list_frequent(db, actor=SYSTEM, filters=Filters())
        assert (last.prompt, last.action_type) == ("Where is it?", "search")
        assert last.last_day == NOON.date()


def test_filters_count_only_what_lies_within_them(store: Store) -> None:
    with store.writing() as db:
        say_bad(db, 3, "Old.", model_name="m1")
        say_bad(db, 2, "Old.", day=3, model_name="m2")
        say_bad(db, 3, "New.", day=3)
        day = NOON.date() + timedelta(days=3)
        assert frequent(db, since=day) == [("New.", 3)]
        assert frequent(db, since=day, until=day) == [("New.", 3)]
        assert frequent(db, until=NOON.date()) == [("Old.", 3)]
        assert frequent(db, model_names=("m1",)) == [("Old.", 3)]
        assert frequent(db, model_names=("",)) == [("New.", 3)]
        assert frequent(db, rater_kinds=(RaterKind.SME,)) == []


@pytest.mark.parametrize("looks", [(2, 2, 2, 2), (2, 2), (2,)])
def test_what_is_frequent_within_the_filters_is_found_behind_what_is_more_frequent_elsewhere(
    store: Store, monkeypatch: pytest.MonkeyPatch, looks: tuple[int, ...]
) -> None:
    monkeypatch.setattr(failures, "LOOKS", looks)
    with store.writing() as db:
        for number in range(4):
            say_bad(db, 5, f"Elsewhere {number}.", model_name="m1")
        say_bad(db, 4, "Here too.", model_name="m2")
        say_bad(db, 3, "Here.", model_name="m2")
        assert frequent(db, model_names=("m2",)) == [("Here too.", 4), ("Here.", 3)]
        refresh_rollups(db)
        found = list_frequent(db, actor=SYSTEM, filters=Filters(), limit=5)
        assert [one.num_bad for one in found] == [5, 5, 5, 5, 4]


@only_sqlite
def test_the_most_frequent_are_exact_after_few_looks_whatever_the_filters(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "LOOKS", (3, 5))
    drawn = random.Random(3)
    rows = [
        BadExchangeRollup(
            pattern_hash=f"{name:032x}", day=date(2026, 5, day), source="app", model_name=model,
            rater_kind=RaterKind.END_USER, action_type="", interaction_id=new_id(),
            num_bad=drawn.randint(1, 4),
        )
        for name in range(60)
        for day in drawn.sample(range(1, 29), 2)
        for model in drawn.sample(["m1", "m2", "m3"], 2)
    ]  # fmt: skip
    totals: Counter[str] = Counter()
    for row in rows:
        totals[row.pattern_hash] += row.num_bad
    statements: list[str] = []
    with store.writing() as db:
        db.add_all([*rows, *(BadExchange(pattern_hash=n, num_bad=k) for n, k in totals.items())])
        db.flush()
        sa.event.listen(db.get_bind(), "before_cursor_execute", lambda *a: statements.append(a[2]))
        for since, models in ((None, ()), (1, ("m1",)), (9, ()), (20, ("m2",)), (None, ("none",))):
            filters = Filters(since=since and date(2026, 5, since), model_names=models)
            slow: Counter[str] = Counter()
            for row in rows:
                if row.day.day >= (since or 0) and (not models or row.model_name in models):
                    slow[row.pattern_hash] += row.num_bad
            wanted = sorted((-num, name) for name, num in slow.items() if num > 2)
            for limit in (2, 20):
                statements.clear()
                assert failures._find_most_frequent(db, filters, limit) == wanted[:limit]
                assert len(statements) <= 5


def test_the_demo_is_left_out_beside_real_data_unless_it_is_asked_for(store: Store) -> None:
    with store.writing() as db:
        say_bad(db, 3, "Made up.", source=DEMO_SOURCE)
        assert frequent(db) == [("Made up.", 3)]
        say_bad(db, 3, "Real.")
        assert frequent(db) == [("Real.", 3)]
        assert frequent(db, sources=(DEMO_SOURCE,)) == [("Made up.", 3)]


def test_what_was_erased_since_the_count_is_passed_over(store: Store) -> None:
    with store.writing() as db:
        say_bad(db, 3, "Gone.")
        refresh_rollups(db)
        db.execute(sa.delete(Interaction))
        assert list_frequent(db, actor=SYSTEM, filters=Filters()) == []


@only_sqlite
def test_a_rater_sees_no_failures(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            list_frequent(db, actor=actor, filters=Filters(since=date(2026, 1, 1)))
