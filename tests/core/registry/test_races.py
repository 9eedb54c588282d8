"""Promotions against roll backs and deletions: one winner each round, on both databases."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.registry import service
from rlhf_core.registry.deletion import delete_version
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Model, ModelAlias, ModelAliasChange, ModelVersion
from rlhf_core.vocabulary import Alias
from tests.core.registry.world import make_version

few_rounds_fast = pytest.mark.parametrize("rounds", [15, pytest.param(200, marks=pytest.mark.slow)])


def race(*acts: Callable[[], object]) -> list[bool]:
    """Run all at once; which of them won. A lost race is Conflict or InvalidInput, nothing else."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> bool:
        barrier.wait()
        try:
            act()
        except (Conflict, InvalidInput):
            return False
        return True

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def promote(store: Store, version_id: uuid.UUID, revision: int | None = None) -> None:
    with store.writing() as db:
        service.promote_version(
            db, version_id, actor=SYSTEM, reason="race", expected_revision=revision
        )


def roll_back(store: Store, revision: int) -> None:
    with store.writing() as db:
        service.roll_back(db, "reward", actor=SYSTEM, reason="race", expected_revision=revision)


def delete(store: Store, version_id: uuid.UUID) -> None:
    with store.writing() as db:
        delete_version(db, version_id, actor=SYSTEM, reason="race")


def add_versions(store: Store, count: int) -> list[uuid.UUID]:
    with store.writing() as db:
        return [make_version(db).id for _ in range(count)]


@few_rounds_fast
def test_of_a_promotion_and_a_roll_back_at_once_one_wins(store: Store, rounds: int) -> None:
    first, second, third = add_versions(store, 3)
    for version_id in (first, second):
        promote(store, version_id)
    for _ in range(rounds):
        with store.reading() as db:
            revision = service.get_alias(db, "reward", actor=SYSTEM).revision
        won = race(lambda r=revision: promote(store, third, r),  # type: ignore[misc]
                   lambda r=revision: roll_back(store, r))  # type: ignore[misc]  # fmt: skip
        assert sum(won) == 1
        with store.reading() as db:
            alias = service.get_alias(db, "reward", actor=SYSTEM)
            assert alias.revision == revision + 1
            assert alias.version_id == (third if won[0] else first)
        for version_id in (first, second):  # as it was, so that both may win again
            with store.reading() as db:
                is_there = service.get_alias(db, "reward", actor=SYSTEM).version_id == version_id
            if not is_there:
                promote(store, version_id)


@few_rounds_fast
def test_of_a_promotion_and_a_deletion_at_once_one_wins(store: Store, rounds: int) -> None:
    (safe,) = add_versions(store, 1)
    promote(store, safe)
    for _ in range(rounds):
        (wanted,) = add_versions(store, 1)
        won = race(
            lambda v=wanted: promote(store, v),  # type: ignore[misc]
            lambda v=wanted: delete(store, v),  # type: ignore[misc]
        )
        assert sum(won) == 1, "both won, or neither"
        with store.reading() as db:
            version = service.get_version(db, wanted, actor=SYSTEM)
            live = service.find_production(db)
        assert live is not None
        assert live.deleted_at is None, "what serves is deleted"
        assert (live.id == wanted) == won[0]
        assert (version.deleted_at is not None) == won[1]
        if won[0]:
            promote(store, safe)


@few_rounds_fast
def test_a_reader_never_sees_a_torn_version(store: Store, rounds: int) -> None:
    """Of five promotions a round; all 1,000 in `make test-all`."""
    versions = add_versions(store, 2)
    promote(store, versions[0])
    stop = threading.Event()
    state = (
        sa.select(
            ModelAlias.revision,
            ModelAlias.version_id,
            ModelAliasChange.to_version_id,
            ModelVersion.manifest_sha256,
            ModelVersion.artifact_path,
        )
        .join(Model, Model.id == ModelAlias.model_id)
        .join(
            ModelAliasChange,
            sa.and_(
                ModelAliasChange.model_id == ModelAlias.model_id,
                ModelAliasChange.revision == ModelAlias.revision,
                ModelAliasChange.alias == ModelAlias.alias,
            ),
        )
        .join(ModelVersion, ModelVersion.id == ModelAlias.version_id)
        .where(Model.name == "reward", ModelAlias.alias == Alias.PRODUCTION)
    )
    with store.reading() as db:
        known = {
            each.id: (each.manifest_sha256, each.artifact_path)
            for each in service.list_versions(db, actor=SYSTEM)
        }

    def watch() -> int:
        seen, before = 0, 0
        while not stop.is_set():
            with store.reading() as db:
                row = db.execute(state).one()
            assert row.version_id == row.to_version_id, "the pointer and its history differ"
            assert (row.manifest_sha256, row.artifact_path) == known[row.version_id]
            assert row.revision >= before, "it went back in time"
            seen, before = seen + 1, row.revision
        return seen

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            for number in range(5 * rounds):
                promote(store, versions[(number + 1) % 2])
        finally:
            stop.set()
        assert watcher.result() > 0
