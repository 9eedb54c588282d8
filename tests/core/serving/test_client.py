import math
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import sqlalchemy as sa

from rlhf_core.errors import InvalidInput, Unavailable
from rlhf_core.serving.client import SECRET_HEADER, InferenceClient, derive_secret
from rlhf_core.serving.logbook import Logbook
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import ServedLogEntry
from tests.core.serving.server import loaded_stub, serve
from tests.core.serving.world import BAD, GOOD, PROMPT
from tests.databases import postgres_is_slow


def by_length(_prompt: str, completion: str) -> float:
    return len(completion) / 100


@contextmanager
def client_of(port: int, timeout_s: float = 10.0, **fields: object) -> Iterator[InferenceClient]:
    client = InferenceClient(port=port, timeout_s=timeout_s, **fields)  # type: ignore[arg-type]
    yield client
    client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@postgres_is_slow
def test_candidates_come_back_best_first_with_the_version(store: Store) -> None:
    model = loaded_stub(by_length)
    with serve(store, model) as (port, _), client_of(port) as client:
        found = client.rerank("p", ["aa", "aaaa", "a", "aaaa"])
        assert found.ranking == (1, 3, 0, 2)
        assert found.scores == (0.02, 0.04, 0.01, 0.04)
        assert (found.is_fallback, found.reason) == (False, None)
        assert (found.version, found.version_id) == ("stub v1", model.version_id)
        assert client.rerank("p", ["aa", "aaaa", "a"], top_k=2).ranking == (1, 0)
        assert client.rerank("p", []).ranking == ()
        scores = client.score(["p", "q"], ["aa", "b"])
        assert (scores.scores, scores.version) == ((0.02, 0.01), "stub v1")
        health = client.health()
        assert (health.is_running, health.is_ready, health.version) == (True, True, "stub v1")


@postgres_is_slow
def test_one_bad_candidate_comes_last_and_moves_no_other(store: Store) -> None:
    def odd(prompt: str, completion: str) -> float:
        return math.nan if completion == "bad" else by_length(prompt, completion)

    with serve(store, loaded_stub(odd)) as (port, _), client_of(port) as client:
        found = client.rerank("p", ["aa", "bad", "aaaa"])
        assert found.ranking == (2, 0, 1)
        assert found.scores == (0.02, None, 0.04)
        assert not found.is_fallback


@postgres_is_slow
def test_model_that_gives_no_number_at_all_is_a_fallback_that_names_it(store: Store) -> None:
    with serve(store, loaded_stub(lambda *_: math.nan)) as (port, _), client_of(port) as client:
        found = client.rerank("p", ["aa", "bad", "aaaa"])
        assert (found.ranking, found.scores) == ((0, 1, 2), (None, None, None))
        assert found.is_fallback
        assert "stub v1 gave no number" in (found.reason or "")
        with pytest.raises(Unavailable, match="stub v1 gave no number"):
            client.score(["p"], ["c"])
        assert client.rerank("p", []).ranking == ()


@postgres_is_slow
def test_without_a_model_the_order_stays_and_scoring_is_unavailable(store: Store) -> None:
    with serve(store, None) as (port, _), client_of(port) as client:
        found = client.rerank("p", [GOOD, BAD], top_k=1)
        assert (found.ranking, found.scores) == ((0,), (None, None))
        assert (found.is_fallback, found.reason) == (True, "No model is promoted yet.")
        with pytest.raises(Unavailable, match="promoted"):
            client.score(["p"], ["c"])
        assert (client.health().is_running, client.health().is_ready) == (True, False)


@postgres_is_slow
def test_without_a_process_the_order_stays(store: Store) -> None:
    logbook = Logbook(store)
    with client_of(free_port(), logbook=logbook) as client:
        found = client.rerank("p", ["b", "a"])
        assert (found.ranking, found.is_fallback) == ((0, 1), True)
        assert found.reason == "The inference process does not run."
        with pytest.raises(Unavailable, match="does not run"):
            client.score(["p"], ["c"])
        assert not client.health().is_running
    logbook.close()
    with store.reading() as db:
        (row,) = db.scalars(sa.select(ServedLogEntry)).all()
    assert (row.endpoint, row.is_fallback, row.num_candidates) == ("rerank", True, 2)


@postgres_is_slow
def test_slow_model_is_not_waited_for(store: Store) -> None:
    go_on = threading.Event()

    def wait(prompt: str, completion: str) -> float:
        go_on.wait(timeout=60)
        return by_length(prompt, completion)

    with serve(store, loaded_stub(wait)) as (port, _), client_of(port, timeout_s=0.3) as client:
        found = client.rerank("p", ["a", "bb"])
        assert (found.ranking, found.is_fallback) == ((0, 1), True)
        assert found.reason == "The model took longer than 0.3 s."
        with pytest.raises(Unavailable, match=r"0\.3 s"):
            client.score(["p"], ["c"])
        go_on.set()


@postgres_is_slow
def test_model_that_raises_leaves_the_order_and_the_process(store: Store) -> None:
    def fail(_prompt: str, completion: str) -> float:
        if completion == "boom":
            raise ZeroDivisionError
        return 0.5

    with serve(store, loaded_stub(fail)) as (port, _), client_of(port) as client:
        found = client.rerank("p", ["boom", "b"])
        assert (found.ranking, found.is_fallback) == ((0, 1), True)
        assert found.reason == "stub v1 failed: ZeroDivisionError"
        assert not client.rerank("p", ["a", "b"]).is_fallback


def claim(ranking: str) -> bytes:
    body = (
        f'{{"ranking":{ranking},"scores":[0.1,0.2],"is_fallback":false,"reason":null,'
        '"version":"x","version_id":null}'
    )
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    "answer",
    [
        *map(claim, ("[0,0]", "[0,5]", "[0]", "[-1,0]", "[1,0,1]")),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnot",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"ranking":0}',
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"no http at all\r\n\r\n",
        b"",
    ],
)
def test_another_program_on_the_port_leaves_the_order(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            for _ in range(2):  # a broken connection is tried once more
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        listener.settimeout(5)
        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        with client_of(listener.getsockname()[1], timeout_s=3) as client:
            found = client.rerank("p", ["b", "a"])
        assert (found.ranking, found.is_fallback) == ((0, 1), True)
        assert found.reason


@postgres_is_slow
def test_caller_without_the_secret_is_refused(store: Store) -> None:
    with serve(store, loaded_stub(by_length)) as (port, _):
        base = f"http://127.0.0.1:{port}"
        for path in ("/health", "/rerank", "/score", "/nothing"):
            for headers in ({}, {SECRET_HEADER: "wrong"}, {SECRET_HEADER: derive_secret(b"other")}):
                answer = httpx.post(base + path, json={}, headers=headers, trust_env=False)
                assert answer.status_code == 401
                assert "stub" not in answer.text


@postgres_is_slow
def test_body_that_is_no_request_is_refused_in_one_sentence(store: Store) -> None:
    headers = {SECRET_HEADER: derive_secret(b"test-key")}
    with serve(store, loaded_stub(by_length)) as (port, _):
        for path, body, named in [
            ("rerank", b"no json", "body"),
            ("rerank", b'{"prompt": 1, "candidates": []}', "prompt"),
            ("rerank", b'{"prompt": "p", "candidates": ["a", null]}', "candidates.1"),
            ("rerank", b'{"prompt": "p", "candidates": [], "top_k": 0}', "top_k"),
            ("rerank", b'{"prompt": "p", "candidates": [], "more": 1}', "more"),
            ("score", b'{"prompts": ["p"], "completions": []}', "1 prompts"),
        ]:
            url = f"http://127.0.0.1:{port}/{path}"
            answer = httpx.post(url, content=body, headers=headers, trust_env=False)
            assert answer.status_code == 422
            assert answer.json()["error"].startswith(named)


def test_what_is_no_text_is_refused_before_it_is_sent() -> None:
    with client_of(free_port()) as client:
        with pytest.raises(InvalidInput, match="NoneType"):
            client.rerank("p", [None])  # type: ignore[list-item]
        with pytest.raises(InvalidInput, match="top_k"):
            client.rerank("p", ["a"], top_k=0)
        with pytest.raises(InvalidInput, match="2 prompts"):
            client.score(["p", "q"], ["c"])


@postgres_is_slow
def test_surrogates_and_nul_pass(store: Store) -> None:
    with serve(store, loaded_stub(by_length)) as (port, _), client_of(port) as client:
        assert client.rerank("\ud800\0", ["a\udfff", "\0bc"]).ranking == (1, 0)


@postgres_is_slow
def test_swap_while_requests_run_drops_none(store: Store) -> None:
    started = threading.Barrier(4 + 1)
    go_on = threading.Event()

    def wait(_prompt: str, _completion: str) -> float:
        started.wait(timeout=30)
        go_on.wait(timeout=30)
        return 0.25

    old, new = loaded_stub(wait, "old v1"), loaded_stub(lambda *_: 0.75, "new v2")
    with (
        serve(store, old) as (port, slot),
        client_of(port, 60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        under_way = [pool.submit(client.rerank, "p", ["a"]) for _ in range(4)]
        started.wait(timeout=30)
        slot.current = new
        after = pool.submit(client.rerank, "p", ["a"])
        go_on.set()
        assert [r.result().version for r in under_way] == ["old v1"] * 4
        assert [r.result().scores for r in under_way] == [(0.25,)] * 4
        assert (after.result().version, after.result().scores) == ("new v2", (0.75,))
        assert not any(r.result().is_fallback for r in [*under_way, after])


@postgres_is_slow
def test_every_answer_is_taken_down(store: Store) -> None:
    with serve(store, loaded_stub(by_length)) as (port, slot), client_of(port) as client:
        client.rerank(PROMPT, [GOOD, BAD])
        client.score([PROMPT], [GOOD])
        slot.current = None
        client.rerank(PROMPT, [GOOD])
    with store.reading() as db:
        rows = db.scalars(sa.select(ServedLogEntry).order_by(ServedLogEntry.served_at)).all()
    assert [(row.endpoint, row.num_candidates, row.is_fallback) for row in rows] == [
        ("rerank", 2, False),
        ("score", 1, False),
        ("rerank", 1, True),
    ]
    assert all(row.latency_ms > 0 for row in rows)
