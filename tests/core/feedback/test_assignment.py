import uuid

import pytest
import sqlalchemy as sa

from rlhf_core.errors import Forbidden
from rlhf_core.feedback import assignment
from rlhf_core.feedback.assignment import next_to_rate, rating_progress
from rlhf_core.feedback.service import undo_last
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction
from tests.builders import make_actor, make_feedback, make_interaction


def make_items(store: Store, num: int) -> list[uuid.UUID]:
    """Ids in the order in which they are rated (those made within a millisecond have any)."""
    with store.writing() as db:
        for _ in range(num):
            make_interaction(db)
        return list(db.scalars(sa.select(Interaction.id).order_by(Interaction.id)))


def test_oldest_comes_first_and_each_comes_once(store: Store) -> None:
    items = make_items(store, 5)
    seen = []
    with store.writing() as db:
        rater = make_actor(db)
        while item := next_to_rate(db, actor=rater):
            seen.append(item.id)
            make_feedback(db, item.id, actor=rater)
        assert rating_progress(db, actor=rater) == (5, 5)
    assert seen == items


def test_two_raters_spread_over_the_items_and_both_see_all(store: Store) -> None:
    items = make_items(store, 6)
    seen: dict[str, list[uuid.UUID]] = {"first": [], "second": []}
    with store.writing() as db:
        raters = {name: make_actor(db, name=name) for name in seen}
        for _ in range(6):
            for name, actor in raters.items():
                item = next_to_rate(db, actor=actor)
                assert item is not None
                seen[name].append(item.id)
                make_feedback(db, item.id, actor=actor)
        assert all(next_to_rate(db, actor=actor) is None for actor in raters.values())
    assert set(seen["first"][:3] + seen["second"][:3]) == set(items)  # 6 ratings, 6 items
    assert sorted(seen["first"]) == sorted(seen["second"]) == items


def test_unrated_come_before_those_that_others_rated(store: Store) -> None:
    items = make_items(store, 3)
    with store.writing() as db:
        make_feedback(db, items[0], actor=make_actor(db))
        item = next_to_rate(db, actor=make_actor(db))
    assert item is not None
    assert item.id == items[1]


def test_skipped_items_come_again_after_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "WINDOW", 2)
    items = make_items(store, 7)
    with store.writing() as db:
        rater = make_actor(db)
        skipped = next_to_rate(db, actor=rater, after=items[0])
        assert skipped is not None
        assert skipped.id == items[1]
        seen = []
        make_feedback(db, items[3], actor=rater)
        while item := next_to_rate(db, actor=rater):
            seen.append(item.id)
            make_feedback(db, item.id, actor=rater)
    assert seen == [*items[4:], *items[:3]]


def test_arrows_go_through_what_was_rated_and_on(store: Store) -> None:
    items = make_items(store, 4)
    with store.writing() as db:
        rater = make_actor(db)
        for item in items[:2]:
            make_feedback(db, item, actor=rater, rating=5)

        def go(**where: uuid.UUID) -> uuid.UUID | None:
            view = next_to_rate(db, actor=rater, **where)
            return view and view.id

        assert go(before=items[2]) == items[1]
        assert go(before=items[1]) == items[0]
        assert go(before=items[0]) is None
        assert go(after=items[0]) == items[1]
        assert go(after=items[1]) == items[2]
        assert go(after=items[2]) == items[3]
        assert go(after=items[3]) == items[2]  # round the end
        shown = next_to_rate(db, actor=rater, before=items[1])
    assert shown is not None
    assert shown.my_feedback is not None
    assert shown.my_feedback.rating == 5


def test_the_only_one_left_has_none_after_it(store: Store) -> None:
    (item,) = make_items(store, 1)
    with store.writing() as db:
        assert next_to_rate(db, actor=make_actor(db), after=item) is None


def test_undone_rating_and_mere_comment_leave_the_item_to_rate(store: Store) -> None:
    items = make_items(store, 2)
    with store.writing() as db:
        rater = make_actor(db)
        make_feedback(db, items[0], actor=rater)
        undo_last(db, actor=rater)
        make_feedback(db, items[0], actor=rater, comment="hm")
        item = next_to_rate(db, actor=rater)
        assert rating_progress(db, actor=rater) == (0, 2)
    assert item is not None
    assert item.id == items[0]
    assert item.my_feedback is not None
    assert not item.is_rated


def test_nothing_stored_and_no_permission(store: Store) -> None:
    with store.reading() as db:
        actor = make_actor(db)
        assert next_to_rate(db, actor=actor) is None
        assert rating_progress(db, actor=actor) == (0, 0)
        with pytest.raises(Forbidden):
            next_to_rate(db, actor=type(actor)(actor.name, actor.role, None, frozenset()))
