"""What callers say of an answer that was served, and to whom it is credited."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.privacy.pseudonyms import make_pseudonym
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, ServedLogEntry
from tests.core.serving.server import loaded_stub, serve
from tests.core.serving.test_client import by_length
from tests.databases import only_sqlite

pytestmark = only_sqlite
Post = Callable[..., Any]


@pytest.fixture
def inference(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with serve(store, loaded_stub(by_length)) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield


@pytest.fixture
def post(client: TestClient, writer_headers: dict[str, str]) -> Post:
    def send(path: str, body: Any, status: int = 200) -> Any:
        response = client.post(f"/api/v1/{path}", json=body, headers=writer_headers)
        assert response.status_code == status, response.text
        return response.json()

    return send


def rerank(post: Post, **fields: Any) -> str:
    body = {"query": "Why?", "candidates": ["a", "bbb", "cc"], **fields}
    return str(post("rerank", body)["id"])


def logged(store: Store, served_id: str) -> ServedLogEntry:
    with store.reading() as db:
        row = db.get_one(ServedLogEntry, uuid.UUID(served_id))
        db.expunge(row)
        return row


def test_the_candidate_that_was_used_is_noted_and_the_last_word_counts(
    store: Store, inference: None, post: Post
) -> None:
    served_id = rerank(post, user="user 7")
    said = post(f"rerank/{served_id}/choice", {"index": 1})
    assert said == {"id": served_id, "index": 1}
    post(f"rerank/{served_id}/choice", {"index": 2})
    row = logged(store, served_id)
    assert row.chosen_index == 2
    assert row.chosen_at is not None
    assert row.user_pseudonym == make_pseudonym("user 7", get_settings().read_secret_key())


@pytest.mark.parametrize(
    ("index", "words"), [(3, "3 candidates were sent"), (-1, "index"), ("1", "index")]
)
def test_a_candidate_that_was_not_sent_cannot_be_used(
    inference: None, post: Post, index: Any, words: str
) -> None:
    refusal = post(f"rerank/{rerank(post)}/choice", {"index": index}, status=422)
    assert words in refusal["error"]["message"]


@pytest.mark.parametrize("served_id", [uuid.uuid4(), uuid.UUID(int=new_id().int - (10_000 << 80))])
def test_what_was_never_served_is_refused_in_a_sentence(
    store: Store, post: Post, served_id: uuid.UUID
) -> None:
    chosen = post(f"rerank/{served_id}/choice", {"index": 0}, status=404)
    assert f"Nothing was served under the id {served_id}" in chosen["error"]["message"]
    draft = {"prompt": "Why?", "completion": "Because.", "served_id": str(served_id)}
    stored = post("interactions", draft, status=404)
    assert f"Nothing was served under the id {served_id}" in stored["error"]["message"]
    with store.reading() as db:
        assert db.scalars(sa.select(Interaction.id)).all() == []


def test_feedback_on_what_was_made_of_an_order_is_credited_to_it(
    store: Store, inference: None, post: Post
) -> None:
    served_id = rerank(post)
    draft = {
        "prompt": "Why?", "completion": "bbb", "external_id": "1", "served_id": served_id,
        "feedback": [{"thumb": 1, "rater": "user 7", "rater_kind": "end_user"}],
    }  # fmt: skip
    stored = post("interactions", draft, status=201)
    again = post("interactions", draft)
    assert again["id"] == stored["id"]
    with store.reading() as db:
        credited = db.execute(
            sa.select(ServedLogEntry.id, Feedback.thumb).join(
                Feedback, Feedback.interaction_id == ServedLogEntry.interaction_id
            )
        ).all()
    assert [(str(row.id), row.thumb) for row in credited] == [(served_id, 1)]


def test_an_order_leads_to_one_interaction_and_an_interaction_comes_of_one_order(
    store: Store, inference: None, post: Post
) -> None:
    first, second = rerank(post), rerank(post)
    draft = {"prompt": "Why?", "completion": "bbb", "external_id": "1", "served_id": first}
    post("interactions", draft, status=201)
    other = {**draft, "external_id": "2"}
    refusal = post("interactions", other, status=409)
    assert "stored as interaction" in refusal["error"]["message"]
    post("interactions", {**draft, "served_id": second})
    assert logged(store, second).interaction_id is None


def test_a_token_that_may_not_ask_may_not_choose(
    client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    headers = bearer(Permission.RATE)
    url = f"/api/v1/rerank/{new_id()}/choice"
    assert client.post(url, json={"index": 0}, headers=headers).status_code == 403
