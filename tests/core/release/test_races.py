"""Decisions at the same moment: one winner, and no state that nobody decided."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.registry.deletion import delete_version
from rlhf_core.registry.service import get_alias, promote_version
from rlhf_core.release import service
from rlhf_core.release.views import DeploymentView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment, ModelAliasChange
from rlhf_core.vocabulary import Alias, DeploymentState
from tests.core.registry.world import make_version
from tests.core.release.live_world import make_pair, start

Deed = Callable[[Session], object]


def end(deployment: DeploymentView, state: DeploymentState) -> Deed:
    return lambda db: service.end_deployment(
        db, deployment.id, actor=SYSTEM, state=state, reason=state.value,
        expected_revision=deployment.revision,
    )  # fmt: skip


def grow(deployment: DeploymentView) -> Deed:
    return lambda db: service.set_traffic(
        db, deployment.id, actor=SYSTEM, percent=75, reason="more",
        expected_revision=deployment.revision,
    )  # fmt: skip


def move(version_id: uuid.UUID) -> Deed:
    def deed(db: Session) -> None:
        service.close_for_move(db, "reward", actor=SYSTEM, version_id=version_id, reason="urgent")
        promote_version(db, version_id, actor=SYSTEM, reason="urgent")

    return deed


class Ring:
    """Runs deeds at the same moment in threads of their own."""

    def __init__(self, store: Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool

    def fight(self, *deeds: Deed) -> list[bool]:
        """Which of them were done; the others were refused with a sentence."""
        barrier = Barrier(len(deeds))

        def do(deed: Deed) -> bool:
            barrier.wait()
            try:
                with self._store.writing() as db:
                    deed(db)
            except (Conflict, InvalidInput):
                return False
            return True

        return list(self._pool.map(do, deeds))


def read_state(store: Store, deployment_id: uuid.UUID) -> tuple[str, uuid.UUID | None, bool]:
    """(its state, what serves, whether the alias `canary` names something)."""
    with store.reading() as db:
        state = service.get_deployment(db, deployment_id, actor=SYSTEM).state
        production = get_alias(db, "reward", actor=SYSTEM).version_id
        canary = get_alias(db, "reward", actor=SYSTEM, alias=Alias.CANARY).version_id
    return state.value, production, canary is not None


ROUNDS = pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=pytest.mark.slow)])


@ROUNDS
def test_of_promote_roll_back_stop_and_grow_one_wins(store: Store, rounds: int) -> None:
    with store.writing() as db:
        old, new = make_pair(db)
    with ThreadPoolExecutor(4) as pool:
        ring = Ring(store, pool)
        for _ in range(rounds):
            with store.writing() as db:
                made = start(db, new)
            states = list(DeploymentState)[1:]
            done = ring.fight(*(end(made, state) for state in states), grow(made))
            assert sum(done) == 1
            found = read_state(store, made.id)
            if done[-1]:
                assert found == ("running", old.id, True)
                with store.writing() as db:
                    end(service.get_deployment(db, made.id, actor=SYSTEM), states[-1])(db)
                continue
            state = states[done.index(True)]
            assert found == (state, new.id if state == "promoted" else old.id, False)
            if state == "promoted":
                old, new = new, old
    with store.reading() as db:
        moves = db.scalars(
            sa.select(ModelAliasChange.revision).where(ModelAliasChange.alias == Alias.CANARY)
        ).all()
    assert sorted(moves) == list(range(1, 2 * rounds + 1)), "named once, cleared once a round"


@ROUNDS
def test_move_of_production_and_a_start_leave_no_canary_against_an_old_one(
    store: Store, rounds: int
) -> None:
    with store.writing() as db:
        old, new = make_pair(db)
        third = make_version(db)
    with ThreadPoolExecutor(2) as pool:
        ring = Ring(store, pool)
        for _ in range(rounds):
            started = ring.fight(lambda db: start(db, new), move(third.id))
            assert started == [True, True]
            with store.writing() as db:
                (made,) = service.list_deployments(db, actor=SYSTEM, limit=1)
                assert get_alias(db, "reward", actor=SYSTEM).version_id == third.id
                if made.is_running:
                    assert made.baseline_version_id == third.id
                    end(made, DeploymentState.STOPPED)(db)
                else:
                    assert (made.state, made.baseline_version_id) == ("stopped", old.id)
                promote_version(db, old.id, actor=SYSTEM, reason="again")


@ROUNDS
def test_of_two_starts_one_runs(store: Store, rounds: int) -> None:
    with store.writing() as db:
        _, one = make_pair(db)
        other = make_version(db)
    with ThreadPoolExecutor(2) as pool:
        ring = Ring(store, pool)
        for _ in range(rounds):
            done = ring.fight(lambda db: start(db, one), lambda db: start(db, other))
            assert sum(done) == 1
            with store.writing() as db:
                running = Deployment.state == DeploymentState.RUNNING
                ids = db.scalars(sa.select(Deployment.id).where(running)).all()
                assert len(ids) == 1
                end(service.get_deployment(db, ids[0], actor=SYSTEM), DeploymentState.STOPPED)(db)


@ROUNDS
def test_version_is_tried_out_or_deleted_never_both(store: Store, rounds: int) -> None:
    with store.writing() as db:
        make_pair(db)
    with ThreadPoolExecutor(2) as pool:
        ring = Ring(store, pool)
        for _ in range(rounds):
            with store.writing() as db:
                version = make_version(db)
            done = ring.fight(
                lambda db, version=version: start(db, version),  # type: ignore[misc]
                lambda db, id_=version.id: delete_version(  # type: ignore[misc]
                    db, id_, actor=SYSTEM, reason="not needed"
                ),
            )
            assert sum(done) == 1
            if done[0]:
                with store.writing() as db:
                    (made,) = service.list_deployments(db, actor=SYSTEM, limit=1)
                    assert made.version_id == version.id
                    end(made, DeploymentState.STOPPED)(db)
