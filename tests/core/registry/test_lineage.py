"""Where a version comes from, and which versions learned from a row."""

import uuid

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id
from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.errors import Forbidden, NotFound
from rlhf_core.registry.lineage import find_trained_on, get_lineage, list_lineage_rows
from rlhf_core.registry.lineage_raters import list_lineage_raters
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, Job
from rlhf_core.vocabulary import JobKind, RaterKind, Resource, Role
from tests.builders import make_actor, make_feedback, make_interaction
from tests.core.registry.world import make_frozen, make_version
from tests.databases import only_sqlite


def named(version: ModelVersionView) -> dict[str, str]:
    return {"name": version.name, "version_id": str(version.id)}


def make_family(
    db: Session,
) -> tuple[DatasetVersionView, ModelVersionView, ModelVersionView, ModelVersionView]:
    """A reward model of frozen rows, a policy that it rewarded, and a child of the policy."""
    frozen = make_frozen(db)
    reward = make_version(db, dataset_version_id=frozen.id)
    policy = make_version(
        db, model_name="assistant", details={"rewards": [{**named(reward), "weight": 1.0}]}
    )
    child = make_version(
        db, model_name="assistant",
        details={"base": named(policy), "held_out": {"name": "gone v1", "version_id": "no id"}},
    )  # fmt: skip
    return frozen, reward, policy, child


def test_a_version_leads_to_its_run_rows_and_raters(store: Store) -> None:
    job_id = new_id()
    with store.writing() as db:
        frozen = make_frozen(db)
        trainer = make_actor(db, Role.TRAINER, name="Ola")
        db.add(
            Job(
                id=job_id,
                kind=JobKind.TRAIN_SBERT,
                resource=Resource.CPU,
                params={},
                created_by=trainer.account_id,
            )
        )
        db.flush()
        version = make_version(db, job_id=job_id, dataset_version_id=frozen.id)
    with store.reading() as db:
        lineage = get_lineage(db, version.id, actor=SYSTEM)
        page = list_lineage_rows(db, version.id, actor=SYSTEM, limit=2, offset=1)
        raters = list_lineage_raters(db, version.id, actor=SYSTEM)
    assert lineage.run is not None
    assert (lineage.run.id, lineage.run.created_by) == (job_id, "Ola")
    assert lineage.dataset is not None
    assert (lineage.dataset.name, lineage.dataset.num_rows) == ("ratings v1", 3)
    assert (page.num_all, [row.row_number for row in page.rows]) == (3, [1, 2])
    assert all((row.prompt or "").startswith("Why is it") for row in page.rows)
    assert [(one.name, one.num_judgements) for one in raters.raters] == [("Kim", 3)]


def test_what_was_said_after_freezing_or_taken_back_is_not_behind_the_rows(store: Store) -> None:
    with store.writing() as db:
        frozen = make_frozen(db)
        version = make_version(db, dataset_version_id=frozen.id)
        item = db.scalars(sa.select(Interaction.id)).first()
        assert item is not None
        make_feedback(db, item, actor=make_actor(db, name="Late"), rating=1)
    with store.reading() as db:
        raters = list_lineage_raters(db, version.id, actor=SYSTEM)
    assert [one.name for one in raters.raters] == ["Kim"]


@only_sqlite
def test_end_users_are_counted_and_never_listed(store: Store) -> None:
    with store.writing() as db:
        item = make_interaction(db)
        make_feedback(
            db, item.id, source="app", thumb=1, rater="user 7", rater_kind=RaterKind.END_USER
        )
        frozen = make_frozen(db)
        version = make_version(db, dataset_version_id=frozen.id)
    with store.reading() as db:
        raters = list_lineage_raters(db, version.id, actor=SYSTEM)
    assert [one.name for one in raters.raters] == ["Kim"]
    assert (raters.num_end_users, raters.num_by_end_users) == (1, 1)


def test_a_row_leads_to_all_versions_that_have_it_also_through_others(store: Store) -> None:
    with store.writing() as db:
        _, reward, policy, child = make_family(db)
        make_version(db, model_name="other")
        item = db.scalars(sa.select(Interaction.id)).first()
        assert item is not None
        outside = make_interaction(db).id
    with store.reading() as db:
        found = find_trained_on(db, item, actor=SYSTEM)
        assert find_trained_on(db, outside, actor=SYSTEM) == ()
        with pytest.raises(NotFound, match="may have been erased"):
            find_trained_on(db, uuid.uuid4(), actor=SYSTEM)
    through = {one.version.name: one.through for one in found}
    assert through == {
        reward.name: "",
        policy.name: "rewarded by reward v1",
        child.name: "began from assistant v1",
    }
    assert found[0].version.id == reward.id
    assert found[0].dataset == "ratings v1"


@only_sqlite
def test_relatives_go_both_ways_and_one_that_is_gone_keeps_its_name(store: Store) -> None:
    with store.writing() as db:
        _, reward, policy, child = make_family(db)
    with store.reading() as db:
        above, middle = (get_lineage(db, one.id, actor=SYSTEM) for one in (child, policy))
        assert [(one.role, one.name) for one in get_lineage(db, reward.id, actor=SYSTEM).children] \
            == [("reward", "assistant v1")]  # fmt: skip
    assert [(one.role, one.name, one.version and one.version.id) for one in above.parents] == [
        ("base", "assistant v1", policy.id),
        ("held_out", "gone v1", None),
    ]
    assert [one.role for one in middle.parents] == ["reward"]
    assert [one.name for one in middle.children] == ["assistant v2"]


@only_sqlite
def test_an_erased_interaction_leaves_its_row_and_is_counted(store: Store) -> None:
    with store.writing() as db:
        frozen = make_frozen(db)
        version = make_version(db, dataset_version_id=frozen.id)
        item = sa.select(Interaction.id).limit(1).scalar_subquery()
        db.execute(sa.delete(Interaction).where(Interaction.id == item))
    with store.reading() as db:
        lineage = get_lineage(db, version.id, actor=SYSTEM)
        page = list_lineage_rows(db, version.id, actor=SYSTEM)
    assert lineage.dataset is not None
    assert (lineage.dataset.num_origins, lineage.dataset.num_gone) == (3, 1)
    assert [row.interaction_id is None for row in page.rows].count(True) == 1


@only_sqlite
def test_lineage_of_a_version_without_frozen_rows_is_empty(store: Store) -> None:
    with store.writing() as db:
        version = make_version(db, details={"base": "a text", "rewards": ["x"]})
        rater = make_actor(db, Role.RATER)
        with pytest.raises(Forbidden):
            get_lineage(db, version.id, actor=rater)
    with store.reading() as db:
        lineage = get_lineage(db, version.id, actor=SYSTEM)
        assert (lineage.run, lineage.dataset, lineage.parents) == (None, None, ())
        assert list_lineage_rows(db, version.id, actor=SYSTEM).num_all == 0
        assert list_lineage_raters(db, version.id, actor=SYSTEM).raters == ()
