import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, Rater, ReasoningStep

INTERACTION: dict[str, Any] = {
    "prompt": "add milk to my list",
    "completion": "Added milk.",
    "external_id": "i1",
    "chat_id": "chat 1",
    "message_id": "m1",
    "user": "kim@example.org",
    "action_type": "todo",
    "action_data": {"list": "groceries", "items": ["milk"]},
    "steps": [{"content": "find the list"}, {"content": "add it", "external_id": "s2"}],
}


@pytest.fixture
def stored(client: TestClient, writer_headers: dict[str, str]) -> dict[str, Any]:
    response = client.post("/api/v1/interactions", json=INTERACTION, headers=writer_headers)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_interaction_is_stored_once(
    client: TestClient, store: Store, writer_headers: dict[str, str], stored: dict[str, Any]
) -> None:
    again = client.post("/api/v1/interactions", json=INTERACTION, headers=writer_headers)
    assert again.status_code == 200
    assert again.json() == {**stored, "was_created": False}
    with store.reading() as db:
        row = db.scalars(sa.select(Interaction)).one()
        assert len(list(db.scalars(sa.select(ReasoningStep)))) == 2
    assert str(row.id) == stored["id"]
    assert row.action_data == INTERACTION["action_data"]
    assert row.user_pseudonym is not None
    assert "kim" not in row.user_pseudonym


def test_feedback_is_stored_then_edited(
    client: TestClient, store: Store, writer_headers: dict[str, str], stored: dict[str, Any]
) -> None:
    body = {"interaction_id": stored["id"], "rating": 4, "thumb": 1}
    first = client.post("/api/v1/feedback", json=body, headers=writer_headers)
    assert (first.status_code, first.json()["was_created"]) == (201, True)
    second = client.post("/api/v1/feedback", json={**body, "rating": 2}, headers=writer_headers)
    assert second.status_code == 200
    assert second.json() == {**first.json(), "revision": 1, "was_created": False}
    with store.reading() as db:
        row = db.scalars(sa.select(Feedback)).one()
    assert (row.rating, row.thumb, row.source) == (2, 1, "api")


def test_step_is_named_by_position_or_id(
    client: TestClient, store: Store, writer_headers: dict[str, str], stored: dict[str, Any]
) -> None:
    for body in (
        {"step": 0, "label": 1},
        {"step_id": stored["step_ids"][1], "label": -1},
    ):
        body["interaction_id"] = stored["id"]
        response = client.post("/api/v1/feedback", json=body, headers=writer_headers)
        assert response.status_code == 201, response.text
    with store.reading() as db:
        rows = db.execute(
            sa.select(ReasoningStep.position, Feedback.label).join(
                Feedback, Feedback.step_id == ReasoningStep.id
            )
        ).all()
    assert sorted(tuple(row) for row in rows) == [(0, 1), (1, -1)]


@pytest.mark.parametrize(
    ("kind", "thumb"), [("positive", 1), ("up", 1), ("negative", -1), ("down", -1), ("neutral", 0)]
)
def test_chat_front_end_speaks_of_the_latest_message(
    client: TestClient,
    store: Store,
    writer_headers: dict[str, str],
    stored: dict[str, Any],
    kind: str,
    thumb: int,
) -> None:
    response = client.post(
        "/api/assistant/feedback",
        json={"chat_id": "chat 1", "feedback_type": kind, "feedback_score": 4},
        headers=writer_headers,
    )
    assert response.status_code == 201, response.text
    assert response.json()["interaction_id"] == stored["id"]
    with store.reading() as db:
        feedback, rater = db.execute(
            sa.select(Feedback, Rater).join(Rater, Rater.id == Feedback.rater_id)
        ).one()
        user = db.scalar(sa.select(Interaction.user_pseudonym))
    assert (feedback.thumb, feedback.rating, feedback.source) == (thumb, 4, "assistant")
    assert (rater.rater_kind, rater.pseudonym) == ("end_user", user)


def test_chat_front_end_names_a_step_by_either_id(
    client: TestClient, store: Store, writer_headers: dict[str, str], stored: dict[str, Any]
) -> None:
    for step_id in ("s2", stored["step_ids"][0]):
        body = {
            "chat_id": "chat 1",
            "message_id": "m1",
            "step_id": step_id,
            "feedback_type": "negative",
        }
        response = client.post("/api/assistant/feedback", json=body, headers=writer_headers)
        assert response.status_code == 201, response.text
    with store.reading() as db:
        assert list(db.scalars(sa.select(Feedback.label))) == [-1, -1]


def test_unknown_targets_are_named(
    client: TestClient, writer_headers: dict[str, str], stored: dict[str, Any]
) -> None:
    ghost = str(uuid.uuid4())
    for path, body, word in (
        ("v1/feedback", {"interaction_id": ghost, "thumb": 1}, ghost),
        ("v1/feedback", {"interaction_id": stored["id"], "step": 7, "label": 1}, "step 7"),
        ("assistant/feedback", {"chat_id": "no chat", "feedback_type": "up"}, "no chat"),
        (
            "assistant/feedback",
            {"chat_id": "chat 1", "message_id": "m9", "feedback_type": "up"},
            "m9",
        ),
        (
            "assistant/feedback",
            {"chat_id": "chat 1", "step_id": "s9", "feedback_type": "up"},
            "s9",
        ),
    ):
        response = client.post(f"/api/{path}", json=body, headers=writer_headers)
        assert response.status_code == 404, response.text
        assert word in response.json()["error"]["message"]


def test_recent_feedback_and_summary(
    client: TestClient, writer_headers: dict[str, str], stored: dict[str, Any]
) -> None:
    for number in range(16):
        body = {
            "interaction_id": stored["id"],
            "rater": f"user {number}",
            "thumb": -1 if number == 0 else 1,
        }
        assert client.post("/api/v1/feedback", json=body, headers=writer_headers).is_success
    recent = client.get("/api/feedback?limit=3", headers=writer_headers).json()["feedback"]
    assert len(recent) == 3
    assert recent[0]["interaction_id"] == stored["id"]
    assert recent[0]["chat_id"] == "chat 1"
    expected = {
        "summary": [
            {
                "action_type": "todo",
                "total_feedback": 16,
                "thumbs_up": 15,
                "thumbs_down": 1,
                "approval_rate": 93.8,
            }
        ]
    }
    for path in ("/api/feedback?type=summary", "/api/v1/feedback/summary"):
        assert client.get(path, headers=writer_headers).json() == expected


def test_summary_of_nothing_is_empty(client: TestClient, writer_headers: dict[str, str]) -> None:
    assert client.get("/api/v1/feedback/summary", headers=writer_headers).json() == {"summary": []}
    assert client.get("/api/feedback", headers=writer_headers).json() == {"feedback": []}
