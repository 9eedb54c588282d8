"""Versions to other registries: a small hub on this machine, and MLflow where it is installed."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.errors import Forbidden, InvalidInput, Unavailable
from rlhf_core.jobs.model_exchange import push_version
from rlhf_core.registry.push import hub_repository
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import AuditEvent
from rlhf_core.vocabulary import Role
from tests.builders import make_actor
from tests.core.registry.world import make_version
from tests.core.serving.test_client import free_port
from tests.databases import only_sqlite

pytestmark = only_sqlite

OID = "ab" * 20


class Hub(ThreadingHTTPServer):
    """What of the hub's API a push needs. Keeps the files of each commit, and the tags."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {"old.bin": b"x"}
        self.tags: dict[str, str] = {}
        self.oid = OID
        self.repositories: list[dict[str, Any]] = []
        self.status = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer_file(self.server.files[self.path.rsplit("/", 1)[1]], has_body=False)

    def do_DELETE(self) -> None:
        del self.server.tags[self.path.rsplit("/", 1)[1]]
        self._answer({})

    def do_GET(self) -> None:
        if "/resolve/" in self.path:
            self._answer_file(self.server.files[self.path.rsplit("/", 1)[1]])
        elif self.path.endswith("/refs"):
            tags = [
                {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
                for name, commit in self.server.tags.items()
            ]
            self._answer({"branches": [], "converts": [], "tags": tags})
        elif "/tree/" in self.path:
            self._answer([{"type": "file", "path": name, "oid": OID, "size": len(content)}
                          for name, content in self.server.files.items()])  # fmt: skip
        else:
            siblings = [{"rfilename": name} for name in self.server.files]
            self._answer({"id": "acme/reward", "sha": OID, "siblings": siblings})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/api/repos/create":
            self.server.repositories.append(json.loads(body))
            self._answer({"url": f"{self.server.url}/acme/reward"})
        elif "/preupload/" in self.path:
            wanted = json.loads(body)["files"]
            self._answer({"files": [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for one in wanted
            ]})  # fmt: skip
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    self.server.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "deletedFile":
                    del self.server.files[value["path"]]
            oid = self.server.oid
            self._answer({"commitUrl": f"{self.server.url}/acme/reward/commit/{oid}",
                          "commitOid": oid, "success": True})  # fmt: skip
        elif "/tag/" in self.path:
            self.server.tags.setdefault(json.loads(body)["tag"], self.path.rsplit("/", 1)[1])
            self._answer({})
        else:
            self._answer({})

    def _answer(self, content: object) -> None:
        body = json.dumps(content if self.server.status == 200 else {"error": "no"}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer_file(self, content: bytes, *, has_body: bool = True) -> None:
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.oid)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    point_to(monkeypatch, server.url)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let the hub's client ask there, with a token of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("RLHF_HUB_OWNER", "acme")
    get_settings.cache_clear()


@pytest.fixture
def version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        return make_version(db, details={"intervals": {}})


def test_files_and_card_become_one_tagged_commit(
    store: Store, hub: Hub, version: ModelVersionView
) -> None:
    pushed = push_version(store, version.id, actor=SYSTEM, target="hub")
    assert pushed.target == "hub:acme/reward"
    assert pushed.url.endswith("/acme/reward/tree/v1")
    assert hub.repositories[0]["visibility"] == "private"
    assert hub.files["head.json"] == b"weights"
    assert hub.files["README.md"].startswith(
        b"---\ntags:\n- rlhf\n- reward-sbert\n---\n\n# reward v1"
    )
    assert set(hub.files) == {"head.json", "manifest.json", "README.md"}, "the old file is gone"
    assert hub.tags == {"v1": OID}
    with store.reading() as db:
        event = db.scalars(sa.select(AuditEvent).where(AuditEvent.action == "model.push")).one()
    assert (event.details or {})["target"] == "hub:acme/reward"


def test_a_tag_follows_its_version_to_the_new_commit(
    store: Store, hub: Hub, version: ModelVersionView
) -> None:
    push_version(store, version.id, actor=SYSTEM, target="hub")
    hub.oid = "cd" * 20
    push_version(store, version.id, actor=SYSTEM, target="hub")
    assert hub.tags == {"v1": hub.oid}


def test_the_repository_of_another_model_is_left_alone(
    store: Store, hub: Hub, version: ModelVersionView
) -> None:
    hub.files["README.md"] = b"---\ntags:\n- rlhf\n---\n\n# other v3\n"
    with pytest.raises(InvalidInput, match=r"acme/reward is of another model \(other\)"):
        push_version(store, version.id, actor=SYSTEM, target="hub")
    assert set(hub.files) == {"old.bin", "README.md"}


def test_refusals_of_the_hub_are_sentences(
    store: Store, hub: Hub, version: ModelVersionView
) -> None:
    for status, kind, said in [
        (401, Unavailable, "refuses the token for acme/reward: set HF_TOKEN"),
        (400, InvalidInput, "refuses acme/reward"),
    ]:
        hub.status = status
        with pytest.raises(kind, match=said):
            push_version(store, version.id, actor=SYSTEM, target="hub")


def test_without_network_a_push_says_so(
    store: Store, version: ModelVersionView, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to(monkeypatch, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="hub cannot be reached"):
        push_version(store, version.id, actor=SYSTEM, target="hub")


def test_what_is_not_configured_or_not_allowed_is_refused(
    store: Store, version: ModelVersionView
) -> None:
    with pytest.raises(InvalidInput, match="RLHF_HUB_OWNER"):
        push_version(store, version.id, actor=SYSTEM, target="hub")
    with pytest.raises(InvalidInput, match="is no repository"):
        hub_repository(version, "../x")
    with pytest.raises(Unavailable, match="RLHF_MLFLOW_URI"):
        push_version(store, version.id, actor=SYSTEM, target="mlflow")
    with pytest.raises(InvalidInput, match="choose hub or mlflow"):
        push_version(store, version.id, actor=SYSTEM, target="ftp")
    with store.writing() as db:
        analyst = make_actor(db, Role.ANALYST)
    with pytest.raises(Forbidden):
        push_version(store, version.id, actor=analyst, target="hub", repository="acme/x")


def test_damaged_files_are_not_pushed(store: Store, hub: Hub, version: ModelVersionView) -> None:
    (version.folder / "head.json").write_text("weightS")
    with pytest.raises(InvalidInput, match=r"head\.json"):
        push_version(store, version.id, actor=SYSTEM, target="hub")
    assert set(hub.files) == {"old.bin"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, of its dependencies
def test_mlflow_registers_a_version_with_its_files(
    store: Store, version: ModelVersionView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("mlflow") is None:
        pytest.skip("MLflow is not installed: pip install mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("RLHF_MLFLOW_URI", uri)
    monkeypatch.chdir(tmp_path)  # where MLflow keeps the files of runs by default
    get_settings.cache_clear()
    with store.writing() as db:
        quoted = make_version(db, model_name="o'clock")
    assert push_version(store, quoted.id, actor=SYSTEM, target="mlflow").url == "models:/o'clock/1"
    first = push_version(store, version.id, actor=SYSTEM, target="mlflow")
    second = push_version(store, version.id, actor=SYSTEM, target="mlflow")
    assert (first.url, second.url) == ("models:/reward/1", "models:/reward/2")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_model_version("reward", "1")
    assert found.tags["manifest_sha256"] == version.manifest_sha256
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["auc"] == 0.7
    names = {each.path for each in client.list_artifacts(found.run_id, "model")}
    assert names == {"model/head.json", "model/manifest.json"}


def test_without_mlflow_a_push_says_what_to_install(
    store: Store, version: ModelVersionView, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("mlflow") is not None:
        pytest.skip("MLflow is installed")
    monkeypatch.setenv("RLHF_MLFLOW_URI", "http://127.0.0.1:1")
    get_settings.cache_clear()
    with pytest.raises(Unavailable, match="pip install mlflow"):
        push_version(store, version.id, actor=SYSTEM, target="mlflow")
