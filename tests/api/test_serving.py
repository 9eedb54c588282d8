"""Rerank and score before any inference process runs, and beside a small one that answers."""

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlhf_core.config import get_settings
from rlhf_core.store.engine import Store
from tests.databases import only_sqlite

VERSION_ID = str(uuid.uuid4())
CANDIDATES = ["short", {"text": "a longer answer", "id": "b"}, "middle one"]

pytestmark = only_sqlite


class LongestFirst(BaseHTTPRequestHandler):
    """An inference process whose model likes long answers."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = body.get("candidates") or body["completions"]
        scores = [len(text) / 100 for text in texts]
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        answer: dict[str, Any] = {
            "ranking": order[: body.get("top_k")],
            "scores": scores,
            "is_fallback": False,
            "reason": None,
            "version": "reward 3",
            "version_id": VERSION_ID,
        }
        raw = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def inference(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LongestFirst)
    server.daemon_threads = True
    monkeypatch.setenv("RLHF_INFERENCE_PORT", str(server.server_port))
    get_settings.cache_clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as taken:  # bound but not listening: nothing else can answer there
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(taken.getsockname()[1]))
        get_settings.cache_clear()
        yield


def post(client: TestClient, headers: dict[str, str], path: str, body: Any) -> Any:
    response = client.post(f"/api/v1/{path}", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()


def test_candidates_come_back_best_first(
    inference: None, client: TestClient, writer_headers: dict[str, str]
) -> None:
    body = {"query": "q", "candidates": CANDIDATES, "top_k": 2}
    answer = post(client, writer_headers, "rerank", body)
    assert uuid.UUID(answer.pop("id"))
    assert answer == {
        "ranking": [
            {"index": 1, "text": "a longer answer", "id": "b", "score": 0.15},
            {"index": 2, "text": "middle one", "id": None, "score": 0.1},
        ],
        "is_fallback": False,
        "reason": None,
        "model_version": "reward 3",
        "model_version_id": VERSION_ID,
    }


def test_completions_are_scored_in_their_order(
    inference: None, client: TestClient, writer_headers: dict[str, str]
) -> None:
    items = [{"prompt": "p", "completion": text} for text in ("ab", "abcd")]
    answer = post(client, writer_headers, "score", {"items": items})
    assert answer["scores"] == [0.02, 0.04]
    assert (answer["is_fallback"], answer["model_version"]) == (False, "reward 3")


def test_without_inference_process_the_order_stays_and_is_flagged(
    nobody: None, client: TestClient, writer_headers: dict[str, str]
) -> None:
    answer = post(client, writer_headers, "rerank", {"query": "q", "candidates": CANDIDATES})
    assert [item["index"] for item in answer["ranking"]] == [0, 1, 2]
    assert [item["score"] for item in answer["ranking"]] == [None] * 3
    assert answer["is_fallback"] is True
    assert "does not run" in answer["reason"]
    scored = post(client, writer_headers, "score", {"items": [{"prompt": "p", "completion": "c"}]})
    assert (scored["scores"], scored["is_fallback"]) == ([None], True)


@pytest.mark.parametrize(
    "body",
    [
        {"query": "q", "candidates": []},
        {"query": "", "candidates": ["a"]},
        {"query": "q", "candidates": ["a"], "top_k": 0},
        {"query": "q", "candidates": [1]},
        {"query": "q", "candidates": [{"id": "x"}]},
        {"query": "q", "candidates": ["a"] * 1001},
        {"query": "q", "candidates": ["a"], "user": ""},
    ],
)
def test_bad_requests_are_named(
    nobody: None, client: TestClient, writer_headers: dict[str, str], body: Any
) -> None:
    response = client.post("/api/v1/rerank", json=body, headers=writer_headers)
    assert response.status_code == 422
    assert response.json()["error"]["field"]
