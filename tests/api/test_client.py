"""The Python client against a real server; against one that fails at first; and without any."""

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa

from rlhf_core import client as module
from rlhf_core.accounts import tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.client import ApiError, Client
from rlhf_core.store.tables import Feedback, Interaction, ReasoningStep
from tests.live_server import LiveServer, run_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with run_server(tmp_path_factory.mktemp("client")) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    with server.store.writing() as db:
        secret = tokens.create_api_token(
            db, actor=SYSTEM, account_name="admin", name="client", scopes=list(Permission)
        )
    with Client(server.url, secret, retries=0) as found:
        yield found


def test_interaction_with_steps_and_what_people_say_of_it(
    server: LiveServer, client: Client
) -> None:
    logged = client.log_interaction(
        "When does it open?", "At nine.", steps=["look it up", "answer"], user="u1",
        chat_id="c", message_id="m", action_type="search",
    )  # fmt: skip
    assert logged.was_created
    again = client.log_interaction(
        "When does it open?", "At nine.", chat_id="c", message_id="m", source="api"
    )
    assert (again.id, again.was_created) == (logged.id, False)
    client.send_feedback(logged.id, rating=4, rater="sme 3", comment="fine")
    client.send_feedback(logged.id, label=-1, step=0, rater="sme 3")
    with server.store.reading() as db:
        item = db.get(Interaction, logged.id)
        assert item is not None
        assert item.action_type == "search"
        steps = db.scalars(sa.select(ReasoningStep.id).order_by(ReasoningStep.position)).all()
        assert tuple(steps) == logged.step_ids
        said = db.execute(sa.select(Feedback.rating, Feedback.label, Feedback.step_id)).all()
    assert {tuple(row) for row in said} == {(4, None, None), (None, -1, logged.step_ids[0])}


def test_what_is_refused_says_what_and_which_field(client: Client) -> None:
    with pytest.raises(ApiError, match="rating") as caught:
        client.send_feedback(uuid.uuid4(), rating=9)
    assert (caught.value.status, caught.value.field) == (422, "rating")
    with pytest.raises(ApiError, match="no interaction") as caught:
        client.send_feedback(uuid.uuid4(), rating=4)
    assert (caught.value.status, caught.value.kind) == (404, "NotFound")


def test_without_a_model_candidates_keep_their_order(client: Client) -> None:
    found = client.rerank("q", ["a", "b", "c"], top_k=2)
    assert (found.order, found.scores, found.is_fallback) == ((0, 1), (None,) * 3, True)
    assert found.reason
    with pytest.raises(ApiError, match="does not run") as caught:
        client.chat("hello")
    assert caught.value.status == 503


class Failing(BaseHTTPRequestHandler):
    """Answers 503 to the first two requests, then stores; keeps what came."""

    seen: list[tuple[str, str | None]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append((self.path, self.headers["idempotency-key"]))
        is_early = len(self.seen) < 3
        status = 503 if is_early else 201
        answer = {"error": {"type": "Unavailable", "message": "not yet"}}
        body = json.dumps(answer if is_early else {"id": str(uuid.UUID(int=7))}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_request_is_sent_again_under_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as failing:
        threading.Thread(target=failing.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{failing.server_port}", "t") as client:
            assert client.send_feedback(uuid.uuid4(), thumb=1) == uuid.UUID(int=7)
        failing.shutdown()
    assert [path for path, _ in Failing.seen] == ["/api/v1/feedback"] * 3
    assert len({key for _, key in Failing.seen}) == 1
    assert Failing.seen[0][1]


def test_no_server_is_said_after_the_last_try(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    with Client("http://127.0.0.1:9", "t", retries=1) as client:
        with pytest.raises(ApiError, match="No answer from http") as caught:
            client.log_interaction("a", "b")
        assert caught.value.status == 0
