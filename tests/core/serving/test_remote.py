"""Another server that holds a policy, and all the ways in which it can fail."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.serving.answering import Question
from rlhf_core.serving.remote import RemoteSource, RemoteSpec, open_remote

KEY = "RLHF_REMOTE_KEY_TEST"


class Canned(BaseHTTPRequestHandler):
    """A server that answers every conversation with the same bytes."""

    status = 200
    answer = b""
    wait = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)
        self.wfile.flush()
        self.wait.wait(20)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def canned(answer: bytes, *, status: int = 200, hangs: bool = False) -> Iterator[RemoteSource]:
    wait = threading.Event()
    if not hangs:
        wait.set()
    handler = type("Now", (Canned,), {"answer": answer, "status": status, "wait": wait})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        spec = RemoteSpec(f"http://127.0.0.1:{server.server_port}/v1", "m", timeout_s=0.5)
        yield RemoteSource(spec, name="assistant v2")
    finally:
        wait.set()
        server.shutdown()
        thread.join()
        server.server_close()


def event(**delta: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


END = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (b"the secret sk-1", 401, "its server answered 401"),
        (b"", 500, "its server answered 500"),
        (event(content="Hel"), 200, "broke off in mid-answer"),
        (b'data: {"error": {"message": "sk-1"}}\n\n', 200, "failed in mid-answer"),
        (b"data: no json\n\n", 200, "makes no sense"),
        (b'data: [1]\n\ndata: {"choices": 7}\n\n', 200, "makes no sense"),
        (event(content="x" * 200_001) + END, 200, "more than 200,000 characters"),
    ],
)
def test_a_server_in_trouble_is_unavailable_and_its_words_are_not_repeated(
    answer: bytes, status: int, words: str
) -> None:
    with canned(answer, status=status) as source, pytest.raises(Unavailable) as failure:
        source.try_out()
    assert words in str(failure.value)
    assert str(failure.value).startswith("assistant v2: ")
    assert "sk-1" not in str(failure.value)


def test_a_server_that_hangs_or_is_gone_is_given_up() -> None:
    with canned(event(content="Hel"), hangs=True) as source:
        with pytest.raises(Unavailable, match="does not answer in time"):
            source.try_out()
        address = source.spec.base_url
    with pytest.raises(Unavailable, match="cannot be reached"):
        RemoteSource(RemoteSpec(address, "m"), name="assistant v2").try_out()


def test_thoughts_that_come_apart_are_marked_in_the_text() -> None:
    said = (
        b": a comment\n\n" + event(reasoning_content="Two ") + event(reasoning_content="ways.")
        + event(content="Yes") + event(content=".\0") + END + b"data: [DONE]\n\n"
    )  # fmt: skip
    pieces: list[str] = []

    async def listen() -> Any:
        (answer,) = source.prepare(Question([("user", "Which?")], seed=3), [3])
        ended = asyncio.Event()

        def put(piece: str | Exception | None) -> None:
            pieces.append(piece) if isinstance(piece, str) else ended.set()

        await answer.begin(put)
        await ended.wait()
        return answer

    with canned(said) as source:
        answer = asyncio.run(listen())
    assert pieces == ["<think>Two ", "ways.", "</think>", "Yes", "."]
    assert answer.text == "".join(pieces)
    assert (answer.finish_reason, answer.num_tokens) == ("stop", 4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"base_url": "ftp://x/v1"}, "base_url is 'ftp://x/v1'"),
        ({"base_url": "http://me:secret@x/v1"}, "without a user or key"),
        ({"model": " "}, "model is empty"),
        ({"api_key_env": "HOME"}, "begins with RLHF_REMOTE_KEY_"),
        ({"api_key_env": "RLHF_SECRET_KEY"}, "begins with RLHF_REMOTE_KEY_"),
        ({"timeout_s": 0}, "timeout_s is 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        RemoteSpec(**{"base_url": "https://x/v1", "model": "m", **fields})


def test_a_folder_that_names_no_server_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", '{"base_url": 5, "model": "m"}', '{"model": "m"}'):
        (tmp_path / "remote.json").write_text(text)
        with pytest.raises(InvalidInput, match="names no server"):
            open_remote(tmp_path, name="assistant v2")


def test_a_key_that_is_not_set_is_named() -> None:
    source = RemoteSource(RemoteSpec("http://127.0.0.1:9/v1", "m", KEY), name="assistant v2")
    with pytest.raises(Unavailable, match=f"assistant v2 needs a key: set {KEY}"):
        source.try_out()
