from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.api import idempotency
from rlhf_core.api.idempotency import KEPT_DAYS, forget_old_answers
from rlhf_core.clock import utcnow
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, FeedbackRevision, IdempotencyKey, Interaction

BODY: dict[str, Any] = {"prompt": "p", "completion": "c", "external_id": "one"}


def post(
    client: TestClient, headers: dict[str, str], key: str, body: dict[str, Any], path: str
) -> httpx.Response:
    return client.post(f"/api/v1/{path}", json=body, headers={**headers, "idempotency-key": key})


def count(store: Store, table: type[Any]) -> int:
    with store.reading() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_repetition_gets_the_first_answer(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    first = post(client, writer_headers, "k1", BODY, "interactions")
    again = post(client, writer_headers, "k1", BODY, "interactions")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


def test_repetition_does_not_edit_what_was_changed_since(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    interaction = post(client, writer_headers, "k0", BODY, "interactions").json()["id"]
    old = {"interaction_id": interaction, "rating": 2}
    post(client, writer_headers, "k1", old, "feedback")
    post(client, writer_headers, "k2", {**old, "rating": 5}, "feedback")
    assert post(client, writer_headers, "k1", old, "feedback").json()["revision"] == 0
    with store.reading() as db:
        assert db.scalar(sa.select(Feedback.rating)) == 5


def test_same_key_with_another_body_is_refused(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    post(client, writer_headers, "k1", BODY, "interactions")
    other = post(client, writer_headers, "k1", {**BODY, "prompt": "q"}, "interactions")
    assert other.status_code == 422
    assert "another body" in other.json()["error"]["message"]
    assert other.json()["error"]["field"] == "Idempotency-Key"
    assert count(store, Interaction) == 1


def test_failed_request_keeps_no_key(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    ghost = {"interaction_id": "00000000-0000-7000-8000-000000000000", "thumb": 1}
    assert post(client, writer_headers, "k1", ghost, "feedback").status_code == 404
    assert count(store, IdempotencyKey) == 0
    assert post(client, writer_headers, "k1", BODY, "interactions").status_code == 201


def test_keys_of_two_accounts_do_not_meet(
    client: TestClient,
    store: Store,
    writer_headers: dict[str, str],
    bearer: Callable[..., dict[str, str]],
    add_account: Callable[..., str],
) -> None:
    from rlhf_core.accounts import tokens
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.vocabulary import Role

    with store.writing() as db:
        secret = tokens.create_api_token(
            db,
            actor=SYSTEM,
            account_name=add_account(Role.TRAINER),
            name="t",
            scopes=[Permission.WRITE_INTERACTIONS],
        )
    post(client, writer_headers, "k1", BODY, "interactions")
    other = post(
        client,
        {"authorization": f"Bearer {secret}"},
        "k1",
        {**BODY, "external_id": "two"},
        "interactions",
    )
    assert other.status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 201, "a\x7fb", "é"])
def test_malformed_keys_are_refused(
    client: TestClient, writer_headers: dict[str, str], key: str
) -> None:
    headers = {**writer_headers, "idempotency-key": key.encode("latin-1")}
    response = client.post("/api/v1/interactions", json=BODY, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == "Idempotency-Key"


def test_none_of_200_double_submits_duplicates(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    def submit_twice(pool: ThreadPoolExecutor, path: str, round_number: int, body: Any) -> None:
        def submit(number: int) -> tuple[int, Any]:
            response = post(
                client, writer_headers, f"{path} {round_number} {number}", body(number), path
            )
            return response.status_code, response.json()

        numbers = [n // 2 for n in range(40)]
        answers = list(pool.map(submit, numbers))
        assert {status for status, _ in answers} == {201}
        assert answers[::2] == answers[1::2]

    with ThreadPoolExecutor(20) as pool:
        interaction = post(client, writer_headers, "k", BODY, "interactions").json()["id"]
        for round_number in range(10):
            submit_twice(
                pool,
                "feedback",
                round_number,
                lambda number, r=round_number: {
                    "interaction_id": interaction,
                    "rater": f"rater {r} {number}",
                    "rating": 1 + number % 5,
                },
            )
    assert count(store, Feedback) == 200
    assert count(store, FeedbackRevision) == 0
    assert count(store, IdempotencyKey) == 201


def test_old_answers_are_forgotten(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    post(client, writer_headers, "old", BODY, "interactions")
    with store.writing() as db:
        db.execute(
            sa.update(IdempotencyKey).values(created_at=utcnow() - timedelta(days=KEPT_DAYS + 1))
        )
    post(client, writer_headers, "new", BODY, "interactions")
    with store.writing() as db:
        assert forget_old_answers(db) == 1
    assert count(store, IdempotencyKey) == 1


def test_old_answers_are_forgotten_while_the_server_runs(
    client: TestClient,
    store: Store,
    writer_headers: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idempotency, "FORGET_EVERY", 2)
    monkeypatch.setattr(idempotency, "FORGET_AT_ONCE", 3)
    for number in range(5):
        post(client, writer_headers, f"old {number}", BODY, "interactions")
    with store.writing() as db:
        db.execute(
            sa.update(IdempotencyKey).values(created_at=utcnow() - timedelta(days=KEPT_DAYS + 1))
        )
    left = []
    for number in range(4):
        post(client, writer_headers, f"new {number}", BODY, "interactions")
        left.append(count(store, IdempotencyKey) - number - 1)
    assert left in ([5, 2, 2, 0], [2, 2, 0, 0])
    again = post(client, writer_headers, "new 0", BODY, "interactions")
    assert again.headers["idempotency-replayed"] == "true"
