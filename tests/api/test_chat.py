"""Answers of a promoted policy over the API, through a real inference application."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.config import get_settings
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving import batches, chat
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, ServedLogEntry
from rlhf_core.vocabulary import RaterKind
from tests.core.policies.tiny_policies import make_policy
from tests.core.serving.policies import promote_policy, register_policy
from tests.core.serving.server import loaded_stub, serve
from tests.databases import only_sqlite

pytestmark = only_sqlite

URL = "/api/v1/chat/completions"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_policy(tmp_path_factory.mktemp("policy"), seed=3)


@pytest.fixture
def version(store: Store, folder: Path) -> ModelVersionView:
    with store.writing() as db:
        return promote_policy(db, folder)


@pytest.fixture
def inference(
    store: Store, version: ModelVersionView, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """A judge beside the policy that likes long answers."""
    judge = loaded_stub(lambda _prompt, completion: len(completion) / 1000)
    with serve(store, judge) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield


@pytest.fixture
def ask(client: TestClient, writer_headers: dict[str, str]) -> Ask:
    def post(content: str = "a b c", **fields: Any) -> Any:
        messages = [{"role": "user", "content": content}]
        body = {"model": "assistant", "messages": messages, "max_tokens": 8, "seed": 1, **fields}
        return client.post(URL, json=body, headers=writer_headers)

    return post


def events_of(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def stored_answers(store: Store) -> list[Interaction]:
    with store.reading() as db:
        rows = list(db.scalars(sa.select(Interaction).order_by(Interaction.id)))
        db.expunge_all()
        return rows


def test_answer_is_stored_with_its_version_and_feedback_is_credited_to_it(
    store: Store, inference: None, ask: Ask, version: ModelVersionView, client: TestClient,
    writer_headers: dict[str, str],
) -> None:  # fmt: skip
    context = [{"role": "system", "content": "be good"}, {"role": "user", "content": "a b c"}]
    answer = ask(messages=context, user="user 7", chat_id="talk").json()
    said = answer["choices"][0]["message"]["content"]
    assert answer["model"] == "assistant v1"
    assert answer["usage"]["total_tokens"] == sum(
        answer["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    (kept,) = stored_answers(store)
    assert (kept.completion, kept.prompt, kept.model_version_id) == (said, "a b c", version.id)
    assert kept.context == [{"role": "system", "content": "be good"}]
    assert kept.user_pseudonym not in (None, "user 7")
    with store.reading() as db:
        served = db.scalars(sa.select(ServedLogEntry)).one()
        assert (served.interaction_id, served.model_version_id) == (kept.id, version.id)
        assert (served.arm, served.propensity, served.endpoint) == ("production", 1.0, "chat")
        assert served.latency_ms > 0
    thumb = {"chat_id": "talk", "message_id": answer["id"], "feedback_type": "positive"}
    credited = client.post("/api/assistant/feedback", json=thumb, headers=writer_headers)
    assert credited.status_code == 201
    with store.reading() as db:
        row = db.execute(sa.select(Feedback.interaction_id, Feedback.thumb)).one()
    assert tuple(row) == (kept.id, 1)


def test_stream_brings_the_same_answer_in_pieces(store: Store, inference: None, ask: Ask) -> None:
    whole = ask().json()
    response = ask(stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last, usage = events_of(response.text)
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(pieces) == whole["choices"][0]["message"]["content"]
    assert len([piece for piece in pieces if piece]) > 1
    assert last["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert usage["usage"] == whole["usage"]
    ids = {chunk["id"] for chunk in chunks}
    assert len(ids) == 1
    assert [row.message_id for row in stored_answers(store)][1] == ids.pop()


def test_best_of_several_is_what_the_reward_model_likes_best(inference: None, ask: Ask) -> None:
    answers = [ask(seed=seed, temperature=2).json() for seed in (1, 2, 3, 4)]
    texts = [answer["choices"][0]["message"]["content"] for answer in answers]
    assert len({len(text) for text in texts}) > 1
    best = ask(seed=1, temperature=2, best_of=4).json()
    assert best["choices"][0]["message"]["content"] == max(texts, key=len)
    used = [answer["usage"]["completion_tokens"] for answer in answers]
    assert best["usage"]["completion_tokens"] == sum(used)


def test_signs_of_life_are_no_part_of_the_answer(
    inference: None, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask().json()["choices"]
    monkeypatch.setattr(chat, "SIGN_OF_LIFE_S", 1e-6)
    assert ask().json()["choices"] == whole
    assert ask(best_of=2).json()["choices"][0]["finish_reason"]


def test_version_is_named_and_another_one_answers(
    store: Store, inference: None, ask: Ask, tmp_path: Path
) -> None:
    with store.writing() as db:
        register_policy(db, make_policy(tmp_path / "other", seed=9))
    second = ask(model="assistant v2", temperature=0).json()
    assert second["model"] == "assistant v2"
    first = ask(temperature=0).json()
    assert first["model"] == "assistant v1"
    assert first["choices"] != second["choices"]


def test_what_is_not_to_be_stored_is_only_counted(store: Store, inference: None, ask: Ask) -> None:
    assert ask(store=False).status_code == 200
    assert stored_answers(store) == []
    with store.reading() as db:
        assert db.scalars(sa.select(ServedLogEntry.interaction_id)).all() == [None]


def test_token_that_may_only_score_stores_nothing(
    store: Store, inference: None, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2}
    headers = bearer(Permission.SCORE)
    assert client.post(URL, json=body, headers=headers).status_code == 200
    assert stored_answers(store) == []


def test_too_many_who_wait_are_told_and_nothing_is_left(
    store: Store, inference: None, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_WAITING", 0)
    response = ask(stream=True)
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert stored_answers(store) == []


@pytest.mark.parametrize(
    ("fields", "status", "kind", "words"),
    [
        ({"model": "assistant v9"}, 404, "not_found_error", "no version 9"),
        ({"model": "gpt"}, 404, "not_found_error", "no model 'gpt'"),
        ({"messages": []}, 400, "invalid_request_error", "messages"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "invalid_request_error",
         "must be the user's"),
        ({"messages": [{"role": "user", "content": "a " * 99}]}, 400, "invalid_request_error",
         "send fewer or shorter"),
        ({"temperature": 3}, 400, "invalid_request_error", "temperature"),
        ({"stop": ["a"] * 5}, 400, "invalid_request_error", "stop"),
        ({"user": "account 7"}, 400, "invalid_request_error", "accounts"),
    ],
)  # fmt: skip
def test_refusals_have_the_shape_that_clients_know(
    inference: None, ask: Ask, fields: dict[str, Any], status: int, kind: str, words: str
) -> None:
    for stream in (False, True):
        response = ask(stream=stream, **fields)
        assert response.status_code == status
        error = response.json()["error"]
        assert error["type"] == kind
        assert words in error["message"]


def test_without_a_process_the_client_is_told_to_come_back(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_INFERENCE_PORT", "9")
    get_settings.cache_clear()
    response = ask()
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert response.json()["error"]["message"] == "The inference process does not run."
    assert stored_answers(store) == []


def test_without_a_policy_that_is_said(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(store, None) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        response = ask()
    assert response.status_code == 503
    assert "promoted" in response.json()["error"]["message"]


def test_no_token_no_answer(client: TestClient) -> None:
    response = client.post(URL, json={"model": "assistant", "messages": []})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


def test_an_end_user_can_be_credited_by_the_interaction_too(
    store: Store, inference: None, ask: Ask, client: TestClient, writer_headers: dict[str, str]
) -> None:
    ask()
    (kept,) = stored_answers(store)
    body = {"interaction_id": str(kept.id), "rating": 5, "rater": str(uuid.uuid4()),
            "rater_kind": RaterKind.END_USER.value}  # fmt: skip
    assert client.post("/api/v1/feedback", json=body, headers=writer_headers).status_code == 201
