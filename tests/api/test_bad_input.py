"""Bad input: one clear error each, the same on both databases, nothing half-stored."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.api.sign_in import FAILURES_ALLOWED
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, IdempotencyKey, Interaction, Rater, ReasoningStep
from tests.api.conftest import ORIGIN

GOOD: dict[str, Any] = {
    "prompt": "p",
    "completion": "c",
    "steps": [{"content": "s"}],
    "feedback": [{"rating": 3, "rater": "kim"}],
}
DEEP = "[" * 40 + "]" * 40


def raw(**changes: Any) -> str:
    return json.dumps({**GOOD, **changes})


def rated(value: str) -> str:
    return raw().replace('"rating": 3', f'"rating": {value}')


CASES = [
    ("no json", "{prompt: 1", 422, "JSON"),
    ("empty body", "", 422, "body"),
    ("a list", "[1]", 422, "object"),
    ("a text", '"x"', 422, "object"),
    ("half a number", '{"prompt": 1e', 422, "JSON"),
    ("deep json", "[" * 100_000, 422, "JSON"),
    ("rating 0", rated("0"), 422, "rating"),
    ("rating 6", rated("6"), 422, "rating"),
    ("rating NaN", rated("NaN"), 422, "rating"),
    ("rating Infinity", rated("-Infinity"), 422, "rating"),
    ("rating five", rated('"five"'), 422, "rating"),
    ("rating 3.5", rated("3.5"), 422, "rating"),
    ("rating true", rated("true"), 422, "rating"),
    ("rating huge", rated("9" * 4000), 422, "rating"),
    ("number beyond all", rated("9" * 9000), 422, "JSON"),
    ("NUL in prompt", raw(prompt="a\0b"), 422, "NUL"),
    ("surrogate in prompt", raw(prompt="a\ud800b"), 422, "prompt"),
    ("surrogate in a key", raw(action_data={"\udfff": 1}), 422, "action_data"),
    ("surrogate in a name", raw(**{"\udfff": 1}), 422, "UTF-8"),
    ("NUL in nested data", raw(action_data={"a": ["x\0"]}), 422, "NUL"),
    ("NaN in nested data", raw(action_data={"a": [float("nan")]}), 422, "action_data"),
    ("too deep data", raw().replace('"p"', '"p", "action_data": {"a": ' + DEEP + "}"), 422, "deep"),
    ("2 MB prompt", raw(prompt="x" * 2_000_000), 413, "1,000,000"),
    ("10 MB prompt", raw(prompt="x" * 10_000_000), 413, "8,388,608"),
    ("empty prompt", raw(prompt=""), 422, "prompt"),
    ("blank prompt", raw(prompt=" \n "), 422, "prompt"),
    ("no prompt", '{"completion": "c"}', 422, "prompt"),
    ("unknown field", raw(promt="x"), 422, "promt"),
    ("step that is not there", raw(feedback=[{"step": 1, "label": 1}]), 422, "step 1"),
    ("feedback that says nothing", raw(feedback=[{"rater": "kim"}]), 422, "says nothing"),
    ("moment beyond the calendar", raw(occurred_at="0001-01-01T00:00:00+14:00"), 422, "occurred"),
    ("moment of no kind", raw(occurred_at="yesterday"), 422, "occurred_at"),
    ("turn beyond 32 bits", raw(turn=2**31), 422, "turn"),
]


def count_rows(store: Store) -> int:
    with store.reading() as db:
        return sum(
            db.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (Interaction, ReasoningStep, Feedback, Rater, IdempotencyKey)
        )


def test_good_body_is_stored(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    response = client.post("/api/v1/interactions", json=GOOD, headers=writer_headers)
    assert response.status_code == 201
    assert count_rows(store) == 4


@pytest.mark.parametrize("name", [case[0] for case in CASES])
def test_bad_body_gets_one_clear_error_and_stores_nothing(
    client: TestClient, store: Store, writer_headers: dict[str, str], name: str
) -> None:
    _, body, status, word = next(case for case in CASES if case[0] == name)
    response = client.post(
        "/api/v1/interactions",
        content=body.encode(),
        headers={**writer_headers, "content-type": "application/json", "idempotency-key": "k"},
    )
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(error) == {"type", "message", "field"}
    assert word in error["message"], error
    assert len(error["message"]) < 300
    assert count_rows(store) == 0


def test_body_that_declares_no_length_is_refused_with_the_limit_named(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    body = raw(prompt="x" * 10_000_000).encode()
    response = client.post(
        "/api/v1/interactions",
        content=(body[start : start + 2**16] for start in range(0, len(body), 2**16)),
        headers={**writer_headers, "content-type": "application/json", "idempotency-key": "k"},
    )
    assert "content-length" not in response.request.headers
    assert response.status_code == 413, response.text
    assert response.json()["error"]["type"] == "TooLarge"
    assert "8,388,608" in response.json()["error"]["message"]
    assert count_rows(store) == 0


@pytest.mark.parametrize("name", ["kim\0", "a\nb", "x" * 101, "x" * 60_000])
def test_name_that_no_account_bears_is_a_wrong_name(client: TestClient, name: str) -> None:
    for _ in range(FAILURES_ALLOWED + 1):
        page = client.post("/login", data={"name": name, "password": "x"}, headers=ORIGIN)
        assert page.status_code == 401
        assert "The name or the password is wrong." in page.text
        assert name not in page.text


def test_body_of_another_type_is_refused(
    client: TestClient, writer_headers: dict[str, str]
) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        response = client.post(
            "/api/v1/interactions",
            content=raw().encode(),
            headers={**writer_headers, "content-type": kind},
        )
        assert response.status_code == 422
        assert "application/json" in response.json()["error"]["message"]


def test_bytes_that_are_no_text_are_refused(
    client: TestClient, writer_headers: dict[str, str]
) -> None:
    response = client.post(
        "/api/v1/interactions",
        content=b'{"prompt": "\xff\xfe", "completion": "c"}',
        headers={**writer_headers, "content-type": "application/json"},
    )
    assert response.status_code == 422
    assert "UTF-8" in response.json()["error"]["message"]


def test_step_of_another_interaction_is_refused(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    ours, theirs = (
        client.post("/api/v1/interactions", json={**GOOD, "prompt": p}, headers=writer_headers)
        for p in ("ours", "theirs")
    )
    before = count_rows(store)
    response = client.post(
        "/api/v1/feedback",
        json={
            "interaction_id": ours.json()["id"],
            "step_id": theirs.json()["step_ids"][0],
            "label": 1,
        },
        headers=writer_headers,
    )
    assert response.status_code == 422
    assert "another interaction" in response.json()["error"]["message"]
    assert count_rows(store) == before


@pytest.mark.parametrize(
    "path", ["/api/feedback?limit=0", "/api/feedback?limit=x", "/api/feedback?type=other"]
)
def test_bad_query_is_named(client: TestClient, writer_headers: dict[str, str], path: str) -> None:
    response = client.get(path, headers=writer_headers)
    assert response.status_code == 422
    assert response.json()["error"]["field"] in ("limit", "type")
