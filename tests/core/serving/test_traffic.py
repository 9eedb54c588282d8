import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.registry.service import REWARD_MODEL, promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.memory import VersionMemory
from rlhf_core.serving.traffic import BLIND_AFTER_S, UNWATCHED, Traffic
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment
from rlhf_core.vocabulary import Arm, DeploymentKind
from tests.core.registry.world import make_version
from tests.core.serving.deployments import end_deployment, run_deployment
from tests.databases import only_sqlite

pytestmark = only_sqlite


@dataclass(frozen=True)
class Named:
    """A version in memory that does nothing."""

    version_id: uuid.UUID
    name: str


class Loader:
    """Loads versions, but for those that are broken; knows what it loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, version: ModelVersionView) -> Named:
        if version.name in self.broken:
            raise InvalidInput("a file is damaged.")
        self.loaded.append(version.name)
        return Named(version.id, version.name)


@dataclass
class World:
    """Two versions, the first promoted, and the traffic between them."""

    store: Store
    first: ModelVersionView
    second: ModelVersionView
    load: Loader
    traffic: Traffic[Named]

    def run(self, percent: float = 50.0, **fields: object) -> uuid.UUID:
        with self.store.writing() as db:
            return run_deployment(db, self.second, self.first, percent=percent, **fields)

    def shares(self, num: int = 400) -> dict[str, int]:
        """How many of so many users each version gets."""
        names = [self.traffic.choose(f"user {number}").model for number in range(num)]
        return {
            name: [m and m.name for m in names].count(name) for name in ("reward v1", "reward v2")
        }


@pytest.fixture
def world(store: Store) -> World:
    with store.writing() as db:
        first, second = make_version(db), make_version(db)
        promote_version(db, first.id, actor=SYSTEM, reason="a test")
    load = Loader()
    traffic = Traffic(store, load, model_name=REWARD_MODEL, capacity=2)
    traffic.production.refresh()
    return World(store, first, second, load, traffic)


def test_without_a_deployment_all_goes_to_what_serves(world: World) -> None:
    world.traffic.refresh_deployment()
    choice = world.traffic.choose("anybody")
    assert choice.model is not None
    assert (choice.model.name, choice.control) == ("reward v1", None)
    assert choice.route is not None
    assert (choice.route.arm, choice.route.propensity) == (Arm.PRODUCTION, 1.0)


def test_users_are_divided_once_both_versions_are_in_memory_and_keep_to_their_side(
    world: World,
) -> None:
    running = world.run(25)
    assert world.shares() == {"reward v1": 400, "reward v2": 0}, "nothing is loaded yet"
    world.traffic.refresh_deployment()
    shares = world.shares()
    assert 60 < shares["reward v2"] < 140
    assert world.shares() == shares
    choices = [world.traffic.choose(f"user {number}") for number in range(50)]
    for choice in choices:
        assert choice.model is not None
        assert choice.route is not None
        is_second = choice.model.name == "reward v2"
        assert choice.route.arm is (Arm.TREATMENT if is_second else Arm.CONTROL)
        assert choice.route.propensity == (0.25 if is_second else 0.75)
        assert choice.route.deployment_id == running
    assert world.load.loaded == ["reward v1", "reward v2"], "each is loaded once"
    assert world.traffic.describe()["canary"] == "reward v2"


def test_a_raised_share_is_followed_and_the_end_sends_all_back(world: World) -> None:
    running = world.run(25)
    world.traffic.refresh_deployment()
    with world.store.writing() as db:
        db.execute(sa.update(Deployment).values(traffic_percent=100.0, revision=1))
    world.traffic.refresh_deployment()
    assert world.shares() == {"reward v1": 0, "reward v2": 400}
    with world.store.writing() as db:
        end_deployment(db, running)
    world.traffic.refresh_deployment()
    assert world.shares() == {"reward v1": 400, "reward v2": 0}


def test_at_its_promotion_nobody_goes_back_to_the_version_before(world: World) -> None:
    running = world.run(100)
    world.traffic.refresh_deployment()
    with world.store.writing() as db:
        promote_version(db, world.second.id, actor=SYSTEM, reason="a test")
        end_deployment(db, running)
    world.traffic.refresh_deployment()
    assert world.shares() == {"reward v1": 0, "reward v2": 400}
    assert world.load.loaded == ["reward v1", "reward v2"], "it was in memory already"


def test_a_canary_that_cannot_be_loaded_gets_no_traffic_and_is_tried_again(world: World) -> None:
    world.load.broken.add("reward v2")
    world.run(50)
    world.traffic.refresh_deployment()
    assert world.shares() == {"reward v1": 400, "reward v2": 0}
    assert world.traffic.problem == (
        "The canary gets no traffic: reward v2 cannot be served: a file is damaged. "
        "All goes to what serves."
    )
    world.load.broken.clear()
    world.traffic.refresh_deployment()
    assert world.load.loaded == ["reward v1"], "it is left alone for a while"
    world.traffic._retry_at = 0
    world.traffic.refresh_deployment()
    assert world.shares()["reward v2"] > 100
    assert world.traffic.problem is None


def test_who_sends_a_system_message_takes_no_part_in_a_test_of_them(world: World) -> None:
    world.run(100, kind=DeploymentKind.AB_TEST, treatment_prompt="Be brief.")
    world.traffic.refresh_deployment()
    choice = world.traffic.choose("anybody")
    assert choice.route is not None
    assert choice.route.system_prompt == "Be brief."
    own = world.traffic.choose("anybody", has_system=True)
    assert own.route is not None
    assert (own.route.arm, own.route.system_prompt) == (Arm.PRODUCTION, None)


def test_of_an_interleaved_request_both_versions_are_given(world: World) -> None:
    world.run(100, kind=DeploymentKind.INTERLEAVING)
    world.traffic.refresh_deployment()
    choice = world.traffic.choose(None)
    assert choice.model is not None
    assert choice.control is not None
    assert (choice.model.name, choice.control.name) == ("reward v2", "reward v1")


def test_long_without_the_database_no_canary_gets_traffic(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def fail() -> Iterator[None]:
        raise Unavailable("The database does not answer (test); try again.")
        yield

    world.run(100)
    world.traffic.refresh_deployment()
    monkeypatch.setattr(world.store, "reading", fail)
    world.traffic.refresh_deployment()
    assert world.shares()["reward v2"] == 400
    world.traffic._seen_at = time.monotonic() - BLIND_AFTER_S - 1
    assert world.shares()["reward v1"] == 400, "the look hangs, but nobody waits for it"
    assert "database" in world.traffic.describe()["problem"]
    world.traffic.refresh_deployment()
    assert world.shares()["reward v1"] == 400
    assert "database" in str(world.traffic.problem)


def test_loading_for_long_is_no_hanging_database(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(100)
    load = world.traffic._load

    def load_slowly(version_id: uuid.UUID) -> Named:
        world.traffic._seen_at -= BLIND_AFTER_S + 1
        return load(version_id)

    monkeypatch.setattr(world.traffic, "_load", load_slowly)
    world.traffic.refresh_deployment()
    assert world.shares()["reward v2"] == 400


def test_a_version_that_ended_the_process_while_it_was_loaded_is_not_loaded_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = get_settings().data_dir / "taking-up-reward"
    left: list[str] = []
    load = world.traffic._load

    def load_marked(version_id: uuid.UUID) -> Named:
        left.append(marker.read_text())
        return load(version_id)

    first = world.run(50)
    monkeypatch.setattr(world.traffic, "_load", load_marked)
    world.traffic.refresh_deployment()
    assert not marker.exists()
    marker.write_text(left[0])  # as a process leaves it that ends in between
    world.load.loaded.clear()
    again = Traffic(world.store, world.load, model_name=REWARD_MODEL, capacity=2)
    again.production.refresh()
    world.traffic = again
    again.refresh_deployment()
    assert world.shares() == {"reward v1": 400, "reward v2": 0}
    assert "reward v2" not in world.load.loaded
    assert "broke off" in str(again.problem)
    with world.store.writing() as db:
        end_deployment(db, first)
    world.run(50)
    again.refresh_deployment()
    assert world.shares()["reward v2"] > 100, "another deployment is another try"
    assert not marker.exists()


def test_what_no_worker_watches_gets_no_traffic_until_one_looks(world: World) -> None:
    world.run(100)
    world.traffic.refresh_deployment()
    long_ago = utcnow() - timedelta(minutes=2)
    for checked_at, expected in ((None, 0), (long_ago, 0), (utcnow(), 400)):
        with world.store.writing() as db:
            values = {"started_at": long_ago, "checked_at": checked_at}
            db.execute(sa.update(Deployment).values(values))
        world.traffic.refresh_deployment()
        assert world.shares()["reward v2"] == expected
        assert world.traffic.problem == (None if expected else UNWATCHED)
    assert world.load.loaded == ["reward v1", "reward v2"], "they stay in memory"


def test_what_a_split_needed_beyond_the_capacity_goes_with_it(world: World) -> None:
    running = world.run(50)
    small = Traffic(world.store, world.load, model_name=REWARD_MODEL, capacity=1)
    small.production.refresh()
    small.refresh_deployment()
    assert len(small.memory.list_ids()) == 2
    with world.store.writing() as db:
        end_deployment(db, running)
    small.refresh_deployment()
    assert small.memory.list_ids() == [world.first.id]


def test_a_version_asked_for_by_many_is_loaded_once_and_holds_up_no_other(world: World) -> None:
    started, go_on, numbers = threading.Event(), threading.Event(), count()

    def load(version: ModelVersionView) -> int:
        if version.id == world.first.id:
            started.set()
            assert go_on.wait(20)
        return next(numbers)

    memory = VersionMemory(load, capacity=4)
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(memory.take, world.first) for _ in range(3)]
        assert started.wait(20)
        assert memory.take(world.second) == 0
        go_on.set()
        assert {each.result() for each in slow} == {1}


def test_the_versions_used_least_go_and_what_is_pinned_stays(world: World) -> None:
    with world.store.writing() as db:
        third, fourth = make_version(db), make_version(db)
    memory = VersionMemory(Loader(), capacity=2, pinned=lambda: [world.first.id])
    for version in (world.first, world.second, third, fourth):
        memory.take(version)
    assert memory.list_ids() == [world.first.id, fourth.id]
    assert memory.find(world.second.id) is None
