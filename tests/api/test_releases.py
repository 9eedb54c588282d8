"""Versions on part of the traffic, over HTTP."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.clock import utcnow
from rlhf_core.release.service import list_deployments
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import Arm, JobKind, JobState, Resource
from tests.core.gates.world import examine
from tests.core.registry.world import make_version
from tests.core.release.live_world import make_pair, serve, start
from tests.databases import only_sqlite

pytestmark = only_sqlite
Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def mover(bearer: Bearer) -> dict[str, str]:
    return bearer(Permission.READ_MODELS, Permission.PROMOTE_MODELS)


@pytest.fixture
def call(client: TestClient, mover: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """POST with a body, or GET; the answer's JSON with the status under `status`."""

    def ask(path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if body is None:
            answer = client.get(f"/api/v1/{path}", headers=mover)
        else:
            answer = client.post(f"/api/v1/{path}", headers=mover, json=body)
        return {"status": answer.status_code, **answer.json()}

    return ask


def test_version_goes_from_a_small_share_to_all_of_the_traffic(
    store: Store, call: Callable[..., dict[str, Any]]
) -> None:
    with store.writing() as db:
        _, version = make_pair(db)
    before = utcnow().isoformat()
    planned = call("releases/plan", {"traffic_percent": 5})
    assert planned["status"] == 200
    assert planned["num_treated"] < planned["num_users"]

    made = call("releases", {"number": 2, "reason": "it looks better", "power": 0.8})
    assert (made["status"], made["version"], made["baseline"]) == (201, "reward v2", "reward v1")
    assert (made["traffic_percent"], made["plan"]["power"]) == (5.0, 0.8)
    path = f"releases/{made['id']}"
    with store.writing() as db:
        (deployment,) = list_deployments(db, actor=SYSTEM)
        serve(db, deployment, Arm.CONTROL, [1, 1, -1])
        serve(db, deployment, Arm.TREATMENT, [1], is_error=True)
    table = call(path)
    assert (table["control"]["num_thumbs_up"], table["treatment"]["num_errors"]) == (2, 1)
    assert table["verdict"]["kind"] == "keep_waiting"
    assert [share["share"] for share in table["shares"]] == [0.05]

    wider = call(f"{path}/traffic", {"percent": 25, "reason": "no harm", "expected_revision": 0})
    assert (wider["status"], wider["revision"], len(wider["steps"])) == (200, 1, 2)
    most = {"percent": 75, "reason": "no harm", "expected_revision": 1}
    refused = call(f"{path}/traffic", most)
    assert (refused["status"], refused["error"]["type"]) == (409, "GatesFailed")
    assert call(f"{path}/traffic", most | {"override_reason": "I may"})["status"] == 403
    with store.writing() as db:
        examine(db, version)
    stale = call(f"{path}/promote", {"reason": "good", "expected_revision": 0})
    assert (stale["status"], stale["error"]["type"]) == (409, "Conflict")
    during = utcnow().isoformat()
    done = call(f"{path}/promote", {"reason": "good", "expected_revision": 1})
    assert (done["status"], done["state"], done["end_reason"]) == (200, "promoted", "good")

    def live(at: str) -> tuple[str | None, float | None]:
        found = call(f"models/reward/live?at={at.replace('+', '%2B')}")
        return found["production"], found["traffic_percent"]

    assert live(before) == ("reward v1", None)
    assert live(during) == ("reward v1", 25.0)
    now = call("models/reward/live")
    assert (now["production"], now["release"]) == ("reward v2", None)
    assert [one["state"] for one in call("releases?model=reward")["releases"]] == ["promoted"]


@pytest.mark.parametrize(("way", "state"), [("rollback", "rolled_back"), ("stop", "stopped")])
def test_version_is_taken_back(
    store: Store, call: Callable[..., dict[str, Any]], way: str, state: str
) -> None:
    with store.writing() as db:
        made = start(db, make_pair(db)[1])
    ended = call(f"releases/{made.id}/{way}", {"reason": "enough", "expected_revision": 0})
    assert (ended["status"], ended["state"]) == (200, state)
    again = call(f"releases/{made.id}/{way}", {"reason": "enough", "expected_revision": 1})
    assert again["status"] == 409
    assert f"was {state.replace('_', ' ')} already" in again["error"]["message"]


def test_bad_input_gets_a_sentence(store: Store, call: Callable[..., dict[str, Any]]) -> None:
    def refused(status: int, said: str, path: str = "releases", **body: Any) -> None:
        answer = call(path, {"reason": "try", **body})
        assert answer["status"] == status, answer
        assert said in answer["error"]["message"]

    failed = uuid.uuid4()
    with store.writing() as db:
        make_pair(db)
        broken = make_version(db)
        db.execute(
            sa.insert(Job),
            {
                "id": failed, "kind": JobKind.TRAIN_SBERT, "state": JobState.FAILED,
                "resource": Resource.CPU, "params": {}, "workflow_id": "gone",
            },
        )  # fmt: skip
    (broken.folder / "head.json").unlink()
    refused(404, "There is no version 9 of model 'reward'", number=9)
    refused(409, "head.json", number=broken.number)
    refused(409, "failed: it made no version", run_id=str(failed))
    refused(422, "101 % is no share of the traffic", number=2, traffic_percent=101)
    refused(422, "With 100 % nobody is left to compare with", number=2, traffic_percent=100)
    refused(422, "0 % is no share", number=2, traffic_percent=0)
    refused(422, "serves already", number=1)
    refused(422, "Name the version", number=1, run_id=str(failed))
    refused(422, "power", number=2, power=2)
    refused(404, "There is no deployment", f"releases/{failed}/stop", expected_revision=0)
    with store.writing() as db:
        start(db, make_version(db))
    refused(409, "is on 50 % of the traffic of 'reward' already", number=2)
    assert call("models/other/live")["status"] == 404


def test_reader_may_look_only(store: Store, client: TestClient, bearer: Bearer) -> None:
    with store.writing() as db:
        made = start(db, make_pair(db)[1])
    reader = bearer(Permission.READ_MODELS)
    assert client.get(f"/api/v1/releases/{made.id}", headers=reader).status_code == 200
    body = {"reason": "x", "expected_revision": 0}
    for path in ("", f"/{made.id}/stop", f"/{made.id}/promote", f"/{made.id}/rollback"):
        answer = client.post(f"/api/v1/releases{path}", headers=reader, json=body)
        assert answer.status_code == 403
