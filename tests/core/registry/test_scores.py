import uuid

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Forbidden
from rlhf_core.registry import scores
from rlhf_core.registry.service import promote_version
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, ModelVersion
from rlhf_core.vocabulary import Role
from tests.builders import make_actor, make_interaction
from tests.core.registry.world import make_version


def add_interactions(store: Store, number: int) -> list[uuid.UUID]:
    with store.writing() as db:
        return sorted(make_interaction(db).id for _ in range(number))


def test_latest_reward_of_a_version_stands_and_versions_do_not_mix(store: Store) -> None:
    first, second, third = add_interactions(store, 3)
    with store.writing() as db:
        old, new = make_version(db), make_version(db)
        scores.store_rewards(db, old.id, {first: 0.2, second: 0.4}, actor=SYSTEM)
        scores.store_rewards(db, old.id, {second: 0.6}, actor=SYSTEM)
        scores.store_rewards(db, new.id, {third: 0.9}, actor=SYSTEM)
    with store.reading() as db:
        wanted = [first, second, third, uuid.uuid4()]
        assert scores.find_rewards(db, wanted, actor=SYSTEM) == {}, "none is promoted"
        found = scores.find_rewards(db, wanted, actor=SYSTEM, version_id=old.id)
        state = scores.get_scoring_state(db, old.id, actor=SYSTEM)
    assert found == {first: 0.2, second: 0.6}
    assert (state.num_interactions, state.num_scored, state.num_missing) == (3, 2, 1)
    assert state.mean == pytest.approx(0.4)
    assert state.scored_at is not None
    with store.writing() as db:
        promote_version(db, new.id, actor=SYSTEM, reason="test")
    with store.reading() as db:
        assert scores.find_rewards(db, wanted, actor=SYSTEM) == {third: 0.9}


def test_pages_hold_what_has_text_and_where_asked_only_what_is_missing(store: Store) -> None:
    ids = add_interactions(store, 5)
    with store.writing() as db:
        version = make_version(db)
        empty = sa.update(Interaction).where(Interaction.id == ids[1]).values(completion=" ")
        db.execute(empty)
        scores.store_rewards(db, version.id, {ids[0]: 0.5}, actor=SYSTEM)

    def pages(*, only_missing: bool) -> list[uuid.UUID]:
        found: list[uuid.UUID] = []
        while True:
            with store.reading() as db:
                page = scores.list_to_score(
                    db,
                    version.id,
                    after=found[-1] if found else None,
                    limit=2,
                    only_missing=only_missing,
                )
            if not page:
                return found
            found += [item.interaction_id for item in page]

    assert pages(only_missing=True) == [ids[2], ids[3], ids[4]]
    assert pages(only_missing=False) == [ids[0], ids[2], ids[3], ids[4]]
    with store.reading() as db:
        assert scores.count_to_score(db, version.id, only_missing=True) == 3
        assert scores.count_to_score(db, version.id, only_missing=False) == 4


def test_rewards_go_with_their_interaction_and_with_their_version(store: Store) -> None:
    first, second = add_interactions(store, 2)
    with store.writing() as db:
        version = make_version(db)
        rewards = {first: 0.2, second: 0.3, uuid.uuid4(): 0.4}
        scores.store_rewards(db, version.id, rewards, actor=SYSTEM)
        db.execute(sa.delete(Interaction).where(Interaction.id == first))
    with store.reading() as db:
        assert scores.get_scoring_state(db, version.id, actor=SYSTEM).num_scored == 1
    with store.writing() as db:
        db.execute(sa.delete(ModelVersion).where(ModelVersion.id == version.id))
    with store.reading() as db:
        assert scores.get_scoring_state(db, version.id, actor=SYSTEM).num_scored == 0


def test_rater_writes_no_rewards(store: Store) -> None:
    (first,) = add_interactions(store, 1)
    with store.writing() as db:
        version, rater = make_version(db), make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            scores.store_rewards(db, version.id, {first: 1.0}, actor=rater)
