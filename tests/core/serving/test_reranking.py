"""Orders by a deployment's sides, as the served log keeps them."""

import socket
import threading
import time
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id
from rlhf_core.errors import InvalidInput
from rlhf_core.registry.service import REWARD_MODEL, promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.release.interleaving import draft_teams
from rlhf_core.serving.loader import LoadedModel
from rlhf_core.serving.logbook import Logbook
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.served import choose_candidate
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Deployment, ServedLogEntry
from rlhf_core.vocabulary import Arm, DeploymentKind
from tests.core.registry.world import make_version
from tests.core.serving.deployments import run_deployment
from tests.core.serving.server import StubModel, serve_traffic
from tests.core.serving.test_client import by_length, client_of
from tests.databases import only_sqlite

pytestmark = only_sqlite
TEXTS = ["aa", "aaaa", "a", "aaa"]

Judge = Callable[[str, str], float]


def shortest(_prompt: str, completion: str) -> float:
    return 1 / len(completion)


def broken(_prompt: str, _completion: str) -> float:
    raise ZeroDivisionError


def begin(store: Store, judges: dict[str, Judge], **fields: object) -> Traffic[LoadedModel]:
    """`reward v1` serves, all traffic is for `reward v2`."""

    def load(version: ModelVersionView) -> LoadedModel:
        return LoadedModel(version.id, version.name, StubModel(judges[version.name]))  # type: ignore[arg-type]

    with store.writing() as db:
        first, second = make_version(db), make_version(db)
        promote_version(db, first.id, actor=SYSTEM, reason="a test")
        run_deployment(db, second, first, percent=100.0, **fields)
    traffic = Traffic(store, load, model_name=REWARD_MODEL, capacity=2)
    traffic.production.refresh()
    traffic.refresh_deployment()
    return traffic


def logged(store: Store) -> ServedLogEntry:
    with store.reading() as db:
        row = db.scalars(sa.select(ServedLogEntry)).one()
        db.expunge(row)
        return row


def test_the_canary_orders_and_the_log_says_who_for_whom(store: Store) -> None:
    traffic = begin(store, {"reward v1": by_length, "reward v2": shortest})
    served_id = new_id()
    with serve_traffic(store, traffic, PolicyShelf(store)) as port, client_of(port) as client:
        found = client.rerank("p", TEXTS, user="u_1", served_id=served_id)
        health = client.health()
    assert (found.ranking, found.version) == ((2, 0, 3, 1), "reward v2")
    assert health.version == "reward v1"
    assert health.deployments[REWARD_MODEL].canary == "reward v2"
    row = logged(store)
    assert (row.id, row.model_version_id) == (served_id, found.version_id)
    assert (row.arm, row.propensity, row.user_pseudonym) == ("treatment", 1.0, "u_1")
    assert row.deployment_id == health.deployments[REWARD_MODEL].deployment_id
    assert (row.is_error, row.is_fallback, row.details) == (False, False, None)


def test_a_broken_canary_leaves_the_order_and_its_error_is_counted(store: Store) -> None:
    traffic = begin(store, {"reward v1": by_length, "reward v2": broken})
    with serve_traffic(store, traffic, PolicyShelf(store)) as port, client_of(port) as client:
        found = client.rerank("p", TEXTS)
    assert (found.ranking, found.is_fallback) == ((0, 1, 2, 3), True)
    row = logged(store)
    assert (row.arm, row.is_error, row.is_fallback) == ("treatment", True, True)
    assert row.reason == "reward v2 failed: ZeroDivisionError"


def test_who_gave_up_waiting_and_the_process_leave_one_row_and_the_process_knows_best(
    store: Store,
) -> None:
    go_on = threading.Event()

    def wait(prompt: str, completion: str) -> float:
        go_on.wait(20)
        return by_length(prompt, completion)

    traffic = begin(store, {"reward v1": by_length, "reward v2": wait})
    logbook = Logbook(store)
    with serve_traffic(store, traffic, PolicyShelf(store), patience_s=0.2) as port:
        with client_of(port, timeout_s=0.2, logbook=logbook) as client:
            assert client.rerank("p", TEXTS, user="u_1", served_id=new_id()).is_fallback
        logbook.close()
        assert logged(store).arm is None, "the caller knows no more"
        go_on.set()
    row = logged(store)
    assert (row.arm, row.is_error, row.is_fallback) == ("treatment", True, True)
    assert row.reason == "The model took longer than 0.2 s."


def test_interleaved_orders_are_drafted_from_both_and_the_teams_are_kept(store: Store) -> None:
    traffic = begin(
        store,
        {"reward v1": by_length, "reward v2": shortest},
        kind=DeploymentKind.INTERLEAVING,
    )
    served_id = new_id()
    with serve_traffic(store, traffic, PolicyShelf(store)) as port, client_of(port) as client:
        found = client.rerank("p", TEXTS, top_k=3, served_id=served_id)
    order, teams = draft_teams((1, 3, 0, 2), (2, 0, 3, 1), seed=served_id.int % 2**63)
    assert (found.ranking, found.is_fallback) == (order[:3], False)
    assert found.scores == (0.02, 0.04, 0.01, 0.03), "what serves scores"
    assert found.version == "reward v1"
    assert logged(store).details == {"order": list(order[:3]), "teams": list(teams[:3])}
    with store.writing() as db:
        choose_candidate(db, served_id, order[2], actor=SYSTEM)
        with pytest.raises(InvalidInput, match="top 3: choose one of them"):
            choose_candidate(db, served_id, order[3], actor=SYSTEM)


def test_an_interleaved_version_that_fails_leaves_the_order_of_what_serves(store: Store) -> None:
    traffic = begin(
        store, {"reward v1": by_length, "reward v2": broken}, kind=DeploymentKind.INTERLEAVING
    )
    with serve_traffic(store, traffic, PolicyShelf(store)) as port, client_of(port) as client:
        found = client.rerank("p", TEXTS)
    assert (found.ranking, found.is_fallback) == ((1, 3, 0, 2), False)
    row = logged(store)
    assert (row.is_error, row.is_fallback, row.details) == (True, False, None)


def slow(prompt: str, completion: str) -> float:
    time.sleep(0.1)
    return by_length(prompt, completion)


@pytest.mark.parametrize(("judge", "patience_s"), [(slow, 0.2), (broken, None)])
def test_an_interleaved_order_that_comes_late_or_without_the_control_is_no_error(
    store: Store, judge: Judge, patience_s: float | None
) -> None:
    traffic = begin(
        store, {"reward v1": judge, "reward v2": shortest}, kind=DeploymentKind.INTERLEAVING
    )
    shelf = PolicyShelf(store)
    with (
        serve_traffic(store, traffic, shelf, patience_s=patience_s) as port,
        client_of(port) as client,
    ):
        client.rerank("p", TEXTS)
    row = logged(store)
    assert (row.arm, row.is_error, row.is_fallback) == ("treatment", False, True)


def test_a_request_in_which_the_process_went_away_is_an_error_of_its_side(store: Store) -> None:
    traffic = begin(store, {"reward v1": by_length, "reward v2": shortest})
    logbook = Logbook(store)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def go_away() -> None:
            for _ in range(2):  # the client tries twice
                connection, _ = listener.accept()
                connection.recv(10_000)
                connection.close()

        process = threading.Thread(target=go_away)
        process.start()
        with client_of(listener.getsockname()[1], logbook=logbook) as client:
            found = client.rerank("p", TEXTS, served_id=new_id())
        process.join()
    logbook.close()
    assert found.is_fallback
    row = logged(store)
    assert (row.arm, row.propensity, row.is_error) == (Arm.TREATMENT, 1.0, True)
    split = traffic.choose("anybody")
    assert split.model is not None
    assert row.model_version_id == split.model.version_id


def test_a_nameless_request_gets_the_side_that_its_id_draws(store: Store) -> None:
    traffic = begin(store, {"reward v1": by_length, "reward v2": shortest})
    with store.writing() as db:
        db.execute(sa.update(Deployment).values(traffic_percent=50.0))
    traffic.refresh_deployment()
    logbook = Logbook(store)
    ids = [new_id() for _ in range(12)]
    with serve_traffic(store, traffic, PolicyShelf(store)) as port, client_of(port) as client:
        for served_id in ids:
            client.rerank("p", TEXTS, served_id=served_id)
    found = [logbook.find_route(REWARD_MODEL, str(served_id)) for served_id in ids]
    logbook.close()
    with store.reading() as db:
        rows = db.execute(sa.select(ServedLogEntry.id, ServedLogEntry.arm)).all()
    arms = {row.id: row.arm for row in rows}
    assert [arms[served_id] for served_id in ids] == [one and one.arm for one in found]
    assert len(set(arms.values())) == 2
