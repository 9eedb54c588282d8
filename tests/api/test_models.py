"""Reading the registry over HTTP."""

from collections.abc import Callable

from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.registry.evaluations import record_evaluation
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from tests.core.registry.world import make_version

EXAMINATION = {
    "purpose": "scores",
    "num_rows": 40,
    "metrics": {"auc": 0.71, "ece": 0.04},
    "intervals": {"auc": [0.6, 0.8]},
    "slices": [{"segment": "language", "value": "en", "num_rows": 40}],
}


def add_version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        version = make_version(db)
        record_evaluation(
            db,
            actor=SYSTEM,
            version_id=version.id,
            dataset_version_id=None,
            job_id=None,
            split="test",
            num_rows=40,
            examination_json=EXAMINATION,
        )
    return version


def test_reader_sees_the_versions_and_what_examinations_said(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    version = add_version(store)
    reader = bearer(Permission.READ_MODELS)
    (listed,) = client.get("/api/v1/models", headers=reader).json()["versions"]
    assert (listed["id"], listed["number"]) == (str(version.id), 1)
    assert listed["kind"] == "reward_sbert"
    nothing = client.get("/api/v1/models", headers=reader, params={"model": "other"}).json()
    assert nothing == {"versions": []}

    answer = client.get("/api/v1/models/reward/1/evaluations", headers=reader)
    (found,) = answer.json()["evaluations"]
    assert (found["split"], found["num_rows"]) == ("test", 40)
    assert found["metrics"] == {"auc": 0.71, "ece": 0.04}
    assert found["examination"]["intervals"] == {"auc": [0.6, 0.8]}
    assert found["examination"]["slices"][0]["value"] == "en"


def test_unknown_versions_and_callers_without_the_scope_are_refused(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    add_version(store)
    path = "/api/v1/models/reward/1/evaluations"
    assert client.get(path).status_code == 401
    assert client.get(path, headers=bearer(Permission.RATE)).status_code == 403
    reader = bearer(Permission.READ_MODELS)
    assert client.get("/api/v1/models/reward/2/evaluations", headers=reader).status_code == 404
    assert client.get("/api/v1/models/reward/0/evaluations", headers=reader).status_code == 422
