"""The Python client against a real server; against one that fails at first; and without any.

The README's integration is run exactly as it is printed, in Flask and in FastAPI.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from rlhf_core import client as module
from rlhf_core.accounts import tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.client import ApiError, Client
from rlhf_core.store.tables import Feedback, Interaction, Rater, ReasoningStep
from rlhf_core.vocabulary import RaterKind
from tests.live_server import LiveServer, run_server
from tests.readme_blocks import read_integration

ASSISTANT = "def draft_answers(question):\n    return [question + '?', question + '!']\n"
SCOPES = [Permission.SCORE, Permission.WRITE_INTERACTIONS, Permission.RATE]

Load = Callable[[str], dict[str, Any]]


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
    assert found.best == 0
    with pytest.raises(ApiError, match="does not run") as caught:
        client.chat("hello")
    assert caught.value.status == 503
    with pytest.raises(ApiError, match="candidates") as caught:
        client.rerank("q", [])
    assert caught.value.status == 422


def test_moments_and_ids_are_sent_as_text_and_other_things_refused(
    server: LiveServer, client: Client
) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    logged = client.log_interaction("When?", "Now.", occurred_at=at, served_id=None)
    client.send_feedback(str(logged.id), thumb=1, occurred_at=at, aspects={"tone": 4})
    with server.store.reading() as db:
        item = db.get(Interaction, logged.id)
        assert item is not None
        assert item.occurred_at == at
    with pytest.raises(TypeError, match="is no JSON value"):
        client.log_interaction("When?", "Now.", extra={"seen": {1}})


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


def test_no_server_is_said_after_the_last_try_and_a_rerank_goes_on_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    with Client("http://127.0.0.1:9", "t", retries=1) as client:
        with pytest.raises(ApiError, match="No answer from http") as caught:
            client.log_interaction("a", "b")
        ranked = client.rerank("q", ["a", "b"], user="u1")
        client.choose(ranked, 1)
    assert caught.value.status == 0
    assert (ranked.order, ranked.scores, ranked.id) == ((0, 1), (None, None), None)
    assert ranked.is_fallback
    assert "No answer" in (ranked.reason or "")


class Slow(BaseHTTPRequestHandler):
    """Streams an answer whose first piece takes its time; of all else it has too much to do."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        is_chat = self.path.endswith("/chat/completions")
        self.send_response(200 if is_chat else 429)
        self.end_headers()
        if is_chat:
            time.sleep(0.3)
            for piece in ("Good", " day."):
                choices = [{"delta": {"content": piece}}]
                said = {"id": "chatcmpl-1", "model": "assistant v1", "choices": choices}
                self.wfile.write(f"data: {json.dumps(said)}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass


def test_a_stream_waits_for_its_first_piece_and_a_busy_server_leaves_the_order() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as slow:
        threading.Thread(target=slow.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{slow.server_port}"
        with Client(url, "t", timeout_s=0.1, retries=0) as client:
            replies = list(client.stream_chat("hello"))
            ranked = client.rerank("q", ["a", "b"])
        slow.shutdown()
    assert [reply.text for reply in replies] == ["Good", "Good day."]
    assert (replies[0].message_id, replies[0].version) == ("chatcmpl-1", "assistant v1")
    assert (ranked.order, ranked.is_fallback) == ((0, 1), True)


@pytest.fixture
def load(server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Runs the README's Python block that holds a mark: what it defines."""
    with server.store.writing() as db:
        token = tokens.create_api_token(
            db, actor=SYSTEM, account_name="admin", name="site", scopes=SCOPES
        )
    (tmp_path / "my_assistant.py").write_text(ASSISTANT)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("RLHF_URL", server.url)
    monkeypatch.setenv("RLHF_TOKEN", token)
    made: list[dict[str, Any]] = []

    def run(mark: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "site"}
        exec(compile(read_integration("python", mark), "README.md", "exec"), names)  # noqa: S102
        made.append(names)
        return names

    yield run
    for names in made:
        names["rlhf"].close()


def check_stored(server: LiveServer, answer: dict[str, str], question: str) -> None:
    """The answer is an interaction, and its user's thumb counts as an end user's."""
    with server.store.reading() as db:
        item = db.get(Interaction, uuid.UUID(answer["id"]))
        said = db.execute(
            sa.select(Feedback.thumb, Rater.rater_kind, Rater.pseudonym)
            .join(Rater, Rater.id == Feedback.rater_id)
            .where(Feedback.interaction_id == uuid.UUID(answer["id"]))
        ).one()
    assert item is not None
    assert (item.prompt, item.completion) == (question, answer["answer"])
    assert tuple(said) == (-1, RaterKind.END_USER, item.user_pseudonym)


def test_flask(server: LiveServer, load: Load) -> None:
    site = load("Flask(")["app"].test_client()
    answer = site.post("/ask", json={"question": "Flask", "user": "u1"}).get_json()
    assert answer["answer"] == "Flask?"
    said = site.post("/thumb", json={"id": answer["id"], "thumb": -1})
    assert (said.status_code, said.data) == (204, b"")
    check_stored(server, answer, "Flask")


def test_fastapi(server: LiveServer, load: Load) -> None:
    with TestClient(load("FastAPI(")["app"]) as site:
        answer = site.post("/ask", json={"question": "Fast", "user": "u1"}).json()
        said = site.post("/thumb", json={"id": answer["id"], "thumb": -1})
    assert said.status_code == 204
    check_stored(server, answer, "Fast")
