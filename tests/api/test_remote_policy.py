"""A version that another server holds: this product's own API, asked over a real socket."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import uvicorn
from click.testing import CliRunner
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.cli.main import main
from rlhf_core.config import get_settings
from rlhf_core.errors import RlhfError
from rlhf_core.registry.service import REWARD_MODEL, get_version_by_number, promote_version
from rlhf_core.serving.loader import load_version
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.remote import RemoteSpec, register_remote
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import ModelVersion, ServedLogEntry
from rlhf_core.vocabulary import ModelKind
from tests.core.policies.tiny_policies import make_policy
from tests.core.serving.deployments import run_deployment
from tests.core.serving.policies import promote_policy
from tests.core.serving.server import serve_traffic
from tests.databases import only_sqlite

pytestmark = only_sqlite
KEY = "RLHF_REMOTE_KEY_TEST"
URL = "/api/v1/chat/completions"


@pytest.fixture
def shelf(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PolicyShelf]:
    """`assistant v1` of our own is promoted and answers."""
    with store.writing() as db:
        promote_policy(db, make_policy(tmp_path / "policy", seed=3))
    shelf = PolicyShelf(store)
    shelf.traffic.production.refresh()
    rewards = Traffic(store, load_version, model_name=REWARD_MODEL, capacity=1)
    with serve_traffic(store, rewards, shelf) as port:
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield shelf


@pytest.fixture
def remote(
    client: TestClient, shelf: PolicyShelf, bearer: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[RemoteSpec]:  # fmt: skip
    """The API on a real socket, which holds `assistant v1` for another installation."""
    monkeypatch.setenv(KEY, bearer(Permission.SCORE)["authorization"].removeprefix("Bearer "))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(client.app, log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield RemoteSpec(f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1", "assistant v1", KEY)
    server.should_exit = True
    thread.join(20)
    listener.close()


def test_it_is_registered_promoted_tried_out_and_answers_as_any_other(
    store: Store, shelf: PolicyShelf, remote: RemoteSpec, client: TestClient,
    writer_headers: dict[str, str],
) -> None:  # fmt: skip
    def ask(status: int = 200, **fields: Any) -> Any:
        body = {
            "model": "assistant", "messages": [{"role": "user", "content": "a b c"}],
            "max_tokens": 8, "temperature": 0, **fields,
        }  # fmt: skip
        response = client.post(URL, json=body, headers=writer_headers)
        assert response.status_code == status, response.text
        return response.text if fields.get("stream") else response.json()

    own = ask()
    arguments = ["models", "add-remote", "--base-url", remote.base_url, "--model", remote.model]
    done = CliRunner().invoke(main, [*arguments, "--api-key-env", KEY, "--json"])
    assert done.exit_code == 0, done.output
    with store.reading() as db:
        second = get_version_by_number(db, "assistant", 2, actor=SYSTEM)
        first = get_version_by_number(db, "assistant", 1, actor=SYSTEM)
    assert second.kind is ModelKind.POLICY_REMOTE
    assert second.params["api_key_env"] == KEY

    named = ask(model="assistant v2")
    assert (named["model"], named["choices"]) == ("assistant v2", own["choices"])
    assert named["usage"] == own["usage"]
    assert ask(model="assistant v2", best_of=3, temperature=1)["choices"][0]["finish_reason"]
    streamed = ask(model="assistant v2", stream=True)
    chunks = [json.loads(line[6:]) for line in streamed.split("\n\n") if line.startswith("data: {")]
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(pieces) == own["choices"][0]["message"]["content"]
    assert len([piece for piece in pieces if piece]) > 1

    with store.writing() as db:
        run_deployment(db, second, first, percent=100.0)
    shelf.traffic.refresh_deployment()
    assert ask()["model"] == "assistant v2"
    with store.writing() as db:
        promote_version(db, second.id, actor=SYSTEM, reason="a test")
    shelf.traffic.production.refresh()
    assert shelf.traffic.production.current is not None
    assert shelf.traffic.production.current.name == "assistant v2"


def test_a_server_that_is_gone_is_503_and_counts_against_its_version(
    store: Store, shelf: PolicyShelf, remote: RemoteSpec, client: TestClient,
    writer_headers: dict[str, str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with store.writing() as db:
        first = get_version_by_number(db, "assistant", 1, actor=SYSTEM)
        second = register_remote(db, remote, actor=SYSTEM)
        run_deployment(db, second, first, percent=100.0)
    shelf.traffic.refresh_deployment()
    assert shelf.traffic.problem is None
    monkeypatch.setenv(KEY, "another key")
    for stream in (False, True):
        body = {"model": "assistant", "messages": [{"role": "user", "content": "a"}]}
        response = client.post(URL, json=body | {"stream": stream}, headers=writer_headers)
        assert (response.status_code, response.headers["retry-after"]) == (503, "2")
        said = response.json()["error"]["message"]
        assert said == "assistant v2: its server answered 401; try again."
    with store.reading() as db:
        rows = db.execute(
            sa.select(ServedLogEntry.arm, ServedLogEntry.is_error, ModelVersion.number)
            .join(ModelVersion, ModelVersion.id == ServedLogEntry.model_version_id)
            .where(ServedLogEntry.deployment_id.is_not(None))
        ).all()
    assert [tuple(row) for row in rows] == [("treatment", True, 2)] * 2


def test_a_server_that_does_not_answer_is_not_registered(store: Store) -> None:
    arguments = ["models", "add-remote", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
    done = CliRunner().invoke(main, arguments)
    assert isinstance(done.exception, RlhfError)
    assert str(done.exception) == "m: its server cannot be reached; try again."
    assert CliRunner().invoke(main, [*arguments, "--untested"]).exit_code == 0
    as_judge = CliRunner().invoke(main, [*arguments, "--untested", "--name", REWARD_MODEL])
    assert "is the name of a reward model" in str(as_judge.exception)
    with store.reading() as db:
        assert db.scalars(sa.select(ModelVersion.kind)).all() == [ModelKind.POLICY_REMOTE]
