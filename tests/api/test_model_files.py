"""One version over HTTP: record, labels, card, lineage, files, deletion."""

import io
import zipfile
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.artifacts import MANIFEST
from rlhf_core.clock import new_id
from rlhf_core.registry.service import promote_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent
from tests.core.registry.world import make_frozen, make_version
from tests.databases import only_sqlite

pytestmark = only_sqlite

Bearer = Callable[..., dict[str, str]]
PATH = "/api/v1/models/reward/1"


@pytest.fixture
def version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        frozen = make_frozen(db)
        return make_version(db, dataset_version_id=frozen.id)


def test_a_version_is_read_and_labelled(
    version: ModelVersionView, client: TestClient, bearer: Bearer
) -> None:
    promoter = bearer(Permission.READ_MODELS, Permission.PROMOTE_MODELS)
    found = client.get(PATH, headers=promoter).json()
    assert (found["id"], found["seed"], found["tags"]) == (str(version.id), 7, [])
    body = {"notes": "of May", "tags": ["Stable", "stable", " nightly "]}
    labelled = client.patch(PATH, headers=promoter, json=body).json()
    assert (labelled["notes"], labelled["tags"]) == ("of May", ["stable", "nightly"])
    listed = client.get("/api/v1/models", headers=promoter, params={"tag": "Nightly"}).json()
    assert [one["number"] for one in listed["versions"]] == [1]
    none = client.get("/api/v1/models", headers=promoter, params={"tag": "other"}).json()
    assert none == {"versions": []}
    refused = client.patch(PATH, headers=promoter, json={"tags": ["a,b"]})
    assert (refused.status_code, refused.json()["error"]["field"]) == (422, "tags")
    reader = bearer(Permission.READ_MODELS)
    assert client.patch(PATH, headers=reader, json={"notes": "x"}).status_code == 403


def test_lineage_rows_and_the_way_back(
    version: ModelVersionView, client: TestClient, bearer: Bearer
) -> None:
    reader = bearer(Permission.READ_MODELS, Permission.READ_ANALYTICS, Permission.READ_INTERACTIONS)
    lineage = client.get(f"{PATH}/lineage", headers=reader).json()
    assert lineage["dataset"]["name"] == "ratings v1"
    assert [one["num_judgements"] for one in lineage["raters"]] == [3]
    page = client.get(f"{PATH}/rows", headers=reader, params={"limit": 2}).json()
    assert (len(page["rows"]), page["num_all"]) == (2, 3)
    first = page["rows"][0]
    back = client.get(f"/api/v1/interactions/{first['interaction_id']}/models", headers=reader)
    (learned,) = back.json()["versions"]
    assert (learned["version"], learned["row_numbers"]) == ("reward v1", [first["row_number"]])
    unknown = client.get(f"/api/v1/interactions/{new_id()}/models", headers=reader)
    assert unknown.status_code == 404
    models_only = bearer(Permission.READ_MODELS)
    assert client.get(f"{PATH}/rows", headers=models_only).status_code == 403


def test_card_is_markdown(version: ModelVersionView, client: TestClient, bearer: Bearer) -> None:
    answer = client.get(f"{PATH}/card", headers=bearer(Permission.READ_MODELS))
    assert answer.headers["content-type"].startswith("text/markdown")
    assert answer.text.startswith("# reward v1\n")


def test_files_come_as_a_zip_and_damaged_ones_do_not(
    store: Store, version: ModelVersionView, client: TestClient, bearer: Bearer
) -> None:
    headers = bearer(Permission.READ_MODELS, Permission.EXPORT_DATA)
    answer = client.get(f"{PATH}/files", headers=headers)
    assert "reward-v1.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        names = {"MODEL_CARD.md", MANIFEST, "head.json"}
        assert set(archive.namelist()) == {f"reward-v1/{name}" for name in names}
        assert archive.read("reward-v1/head.json") == b"weights"
    with store.reading() as db:
        events = sa.select(AuditEvent).where(AuditEvent.action == "model.download")
        assert len(db.scalars(events).all()) == 1
    assert client.get(f"{PATH}/files", headers=bearer(Permission.READ_MODELS)).status_code == 403
    assert client.post(f"{PATH}/check", headers=headers).json() == {"num_files": 1}
    (version.folder / "head.json").write_text("weightS")
    for refused in (
        client.get(f"{PATH}/files", headers=headers),
        client.post(f"{PATH}/check", headers=headers),
    ):
        assert refused.status_code == 422
        assert "head.json is not the file" in refused.json()["error"]["message"]


def test_deleting_is_refused_while_it_serves(
    store: Store, version: ModelVersionView, client: TestClient, bearer: Bearer
) -> None:
    headers = bearer(Permission.READ_MODELS, Permission.PROMOTE_MODELS)
    with store.writing() as db:
        promote_version(db, version.id, actor=SYSTEM, reason="first")
        second = make_version(db)
    refused = client.delete(PATH, headers=headers, params={"reason": "old"})
    assert refused.status_code == 409
    assert "it is the production version" in refused.json()["error"]["message"]
    path = f"/api/v1/models/reward/{second.number}"
    assert client.delete(path, headers=headers).status_code == 422
    deleted = client.delete(path, headers=headers, params={"reason": "old"}).json()
    assert deleted["deleted_at"]
    assert not second.folder.exists()
    storage = client.get("/api/v1/storage", headers=headers).json()
    assert (storage["models"][0]["num_versions"], storage["models"][0]["num_deleted"]) == (1, 1)
