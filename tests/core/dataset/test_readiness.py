import pytest

from rlhf_core.accounts.permissions import SYSTEM, Actor
from rlhf_core.dataset.builder import ScoresParams
from rlhf_core.dataset.readiness import Readiness, check_readiness
from rlhf_core.errors import Forbidden
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.learning.rated import add_rated, make_rows, with_score


def check(store: Store, *, threshold: float = 4.0) -> Readiness:
    with store.reading() as db:
        return check_readiness(db, actor=SYSTEM, params=ScoresParams(), threshold=threshold)


def test_38_of_50_are_12_too_few(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(38))
    ready = check(store)
    assert (ready.have, ready.need, ready.missing, ready.is_ready) == (38, 50, 12, False)
    assert "12 more needed" in str(ready.obstacle)


def test_50_with_both_kinds_are_enough(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, make_rows(50))
    ready = check(store)
    assert ready.is_ready
    assert ready.counts.num_raters == 1
    assert ready.counts.num_good == 25


def test_one_kind_only_is_said_with_the_way_out(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, [with_score(row, 4 + i % 2) for i, row in enumerate(make_rows(50))])
    assert "All 50 rated interactions are good at the threshold 4" in str(check(store).obstacle)
    assert check(store, threshold=4.5).is_ready


def test_all_ratings_equal_is_said(store: Store) -> None:
    with store.writing() as db:
        add_rated(db, [with_score(row, 3) for row in make_rows(50)])
    assert "same rating 3" in str(check(store).obstacle)


def test_rater_may_not_ask(store: Store) -> None:
    with store.reading() as db, pytest.raises(Forbidden):
        check_readiness(db, actor=Actor("ann", Role.RATER), params=ScoresParams(), threshold=4.0)
