from collections import Counter
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.analytics.rollup_failures import rebuild_bad_exchanges
from rlhf_core.clock import new_id
from rlhf_core.feedback.service import withdraw_feedback
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import BadExchange, BadExchangeRollup, Interaction
from tests.builders import make_actor, make_feedback, make_interaction

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = NOON.date()
NEXT = DAY + timedelta(days=1)


def say(db: Session, actor: Actor, *, day: int = 0, **fields: object) -> object:
    """A new interaction that somebody calls bad, unless told otherwise."""
    said = {name: fields.pop(name) for name in ("rating", "thumb") if name in fields}
    at = NOON + timedelta(days=day)
    defaults = {"prompt": "Add a user", "completion": "No.", "external_id": new_id().hex}
    item = make_interaction(db, **(defaults | fields)).id
    return make_feedback(db, item, actor=actor, occurred_at=at, **(said or {"rating": 1}))


def totals(db: Session) -> Counter[int]:
    return Counter(db.scalars(sa.select(BadExchange.num_bad)))


def days(db: Session) -> dict[date, int]:
    query = sa.select(BadExchangeRollup.day, sa.func.sum(BadExchangeRollup.num_bad))
    return {day: int(num) for day, num in db.execute(query.group_by(BadExchangeRollup.day))}


def test_the_same_exchange_is_counted_over_days_and_wordings_of_its_prompt(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        say(db, actor)
        say(db, actor, prompt="  add a  USER ", day=1)
        say(db, actor, thumb=-1, day=1)
        say(db, actor, completion="Other.")
        rebuild_bad_exchanges(db, [DAY, NEXT])
        assert totals(db) == Counter([3, 1])
        assert days(db) == {DAY: 2, NEXT: 2}


def test_another_action_is_another_exchange(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        say(db, actor, action_type="a", completion="bc")
        say(db, actor, action_type="ab", completion="c")
        say(db, actor, completion="abc")
        rebuild_bad_exchanges(db, [DAY])
        assert totals(db) == Counter([1, 1, 1])


def test_only_standing_judgements_that_say_bad_count(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        for said in ({"rating": 2}, {"rating": 3}, {"rating": 5, "thumb": -1}, {"thumb": 0}):
            say(db, actor, **said)
        gone = say(db, actor)
        withdraw_feedback(db, gone.id, actor=actor)
        rebuild_bad_exchanges(db, [DAY])
        assert totals(db) == Counter([1])


def test_a_day_that_is_counted_again_changes_nothing_twice(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        first, _ = say(db, actor), say(db, actor, day=1)
        for _ in range(2):
            rebuild_bad_exchanges(db, [DAY, NEXT])
        assert totals(db) == Counter([2])
        withdraw_feedback(db, first.id, actor=actor)
        rebuild_bad_exchanges(db, [DAY])
        assert totals(db) == Counter([1])
        assert days(db) == {NEXT: 1}


def test_an_exchange_that_nobody_calls_bad_any_more_is_gone(store: Store) -> None:
    with store.writing() as db:
        actor = make_actor(db)
        say(db, actor)
        rebuild_bad_exchanges(db, [DAY])
        db.execute(sa.delete(Interaction))
        rebuild_bad_exchanges(db, [DAY])
        assert not totals(db)
        assert not days(db)
