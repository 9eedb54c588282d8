import uuid
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Comparison, Feedback, Rater
from tests.databases import only_sqlite

PROMPT = "add milk to my list"


@pytest.fixture
def pair(client: TestClient, writer_headers: dict[str, str]) -> dict[str, Any]:
    """The sides of a comparison of two stored completions; the user of both is kim."""
    ids = []
    for completion in ("Added milk.", "No."):
        body = {"prompt": PROMPT, "completion": completion, "user": "kim", "chat_id": completion}
        response = client.post("/api/v1/interactions", json=body, headers=writer_headers)
        ids.append(response.json()["id"])
    return {"left_id": ids[0], "right_id": ids[1]}


def test_comparison_is_stored_then_edited_with_the_sides_swapped(
    client: TestClient, store: Store, writer_headers: dict[str, str], pair: dict[str, Any]
) -> None:
    body = {**pair, "choice": "left", "strength": 2, "reason": "it did it", "rater": "kim"}
    first = client.post("/api/v1/comparisons", json=body, headers=writer_headers)
    assert (first.status_code, first.json()["was_created"]) == (201, True)
    swapped = {"left_id": pair["right_id"], "right_id": pair["left_id"]}
    body |= {**swapped, "choice": "right"}
    second = client.post("/api/v1/comparisons", json=body, headers=writer_headers)
    assert second.status_code == 200
    assert second.json() == {**first.json(), **swapped, "revision": 1, "was_created": False}
    with store.reading() as db:
        row, rater = db.execute(sa.select(Comparison, Rater).join(Rater)).one()
    assert (row.choice, row.strength, row.source) == ("right", 2, "api")
    assert str(row.right_interaction_id) == pair["left_id"]
    assert "kim" not in rater.pseudonym


@only_sqlite
def test_repeated_request_with_a_key_stores_one(
    client: TestClient, store: Store, writer_headers: dict[str, str], pair: dict[str, Any]
) -> None:
    headers = {**writer_headers, "Idempotency-Key": "k1"}
    body = {**pair, "choice": "tie"}
    answers = [client.post("/api/v1/comparisons", json=body, headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].status_code == 201
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Comparison)) == 1


@only_sqlite
def test_wrong_comparisons_are_refused_with_a_sentence(
    client: TestClient, writer_headers: dict[str, str], pair: dict[str, Any]
) -> None:
    ghost = str(uuid.uuid4())
    for change, status, word in (
        ({"choice": "both"}, 422, "choice"),
        ({"strength": 4}, 422, "strength"),
        ({"right_id": ghost}, 404, ghost),
        ({"right_id": pair["left_id"]}, 422, "same interaction"),
        ({"reason": "x" * 20_001}, 422, "reason"),
        ({"reason": "a\0b"}, 422, "NUL"),
        ({"winner": "left"}, 422, "winner"),
    ):
        body = {**pair, "choice": "left", **change}
        response = client.post("/api/v1/comparisons", json=body, headers=writer_headers)
        assert response.status_code == status, response.text
        assert word in response.json()["error"]["message"]


@only_sqlite
def test_rater_of_its_own_needs_no_more_than_to_rate(
    client: TestClient,
    writer_headers: dict[str, str],
    bearer: Callable[..., dict[str, str]],
    pair: dict[str, Any],
) -> None:
    headers = bearer(Permission.RATE)
    body = {**pair, "choice": "left"}
    assert client.post("/api/v1/comparisons", json=body, headers=headers).status_code == 201
    body["rater"] = "kim"
    assert client.post("/api/v1/comparisons", json=body, headers=headers).status_code == 403


def test_opted_out_user_is_refused_until_opted_in(
    client: TestClient, store: Store, writer_headers: dict[str, str], pair: dict[str, Any]
) -> None:
    thumb = {"chat_id": "No.", "feedback_type": "down"}

    def say() -> int:
        response = client.post("/api/assistant/feedback", json=thumb, headers=writer_headers)
        if response.status_code == 403:
            message = response.json()["error"]["message"]
            assert message.startswith("This user opted out of giving feedback")
            assert "kim" not in message
        return response.status_code

    def opt(**said: Any) -> Any:
        body = {"user": "kim", **said}
        response = client.post("/api/v1/opt-outs", json=body, headers=writer_headers)
        assert response.status_code == 200, response.text
        return response.json()

    assert opt() == {"is_opted_out": True, "was_changed": True}
    assert opt() == {"is_opted_out": True, "was_changed": False}
    assert say() == 403
    with store.reading() as db:
        assert db.scalar(sa.select(sa.func.count()).select_from(Feedback)) == 0
    assert opt(is_opted_out=False) == {"is_opted_out": False, "was_changed": True}
    assert say() == 201
