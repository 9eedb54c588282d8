"""Events: stored once, tied to sessions and users, and never half a batch."""

from collections.abc import Callable
from typing import Any

import httpx
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.privacy.consent import opt_out
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Event, RollupDirtyDay
from tests.builders import make_interaction
from tests.databases import only_sqlite

AT = "2026-03-01T23:59:59.999999"


def send(client: TestClient, headers: dict[str, str], *events: dict[str, Any]) -> httpx.Response:
    return client.post("/api/v1/events", json={"events": list(events)}, headers=headers)


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {"name": "copy", "external_id": f"e{number}", "session_key": "s"} | fields


def read(store: Store) -> list[Event]:
    with store.reading() as db:
        return list(db.scalars(sa.select(Event).order_by(Event.external_id)))


def test_a_batch_sent_again_stores_only_what_is_new(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    first = send(client, writer_headers, event(1, occurred_at=AT), event(2, occurred_at=AT))
    assert first.status_code == 201, first.text
    assert first.json()["num_stored"] == 2
    again = send(client, writer_headers, event(1, name="other"), event(2), event(3), event(3))
    assert again.json() == {"num_stored": 1, "num_known": 3, "num_left_out": 0}
    assert send(client, writer_headers, event(3)).status_code == 200
    assert [row.name for row in read(store)] == ["copy"] * 3
    other = send(client, writer_headers, event(1, source="app"))
    assert other.json()["num_stored"] == 1  # an id is of its source
    with store.reading() as db:
        days = db.scalars(sa.select(RollupDirtyDay.day)).all()
    assert "2026-03-01" in [str(day) for day in days]


def test_key_and_user_come_from_the_interaction_where_they_are_not_given(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        item = str(make_interaction(db, chat_id="chat", user="ann").id)
    own = event(2, interaction_id=item, user="ben", properties={"place": 3})
    send(client, writer_headers, {**event(1), "session_key": None, "interaction_id": item}, own)
    first, second = read(store)
    assert (first.session_key, second.session_key) == ("chat", "s")
    assert first.user_pseudonym is not None
    assert first.user_pseudonym.startswith("u_")
    assert second.user_pseudonym not in (None, "ben", first.user_pseudonym)
    assert second.properties == {"place": 3}


def test_one_bad_event_stores_none_of_the_batch(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    nowhere = "00000000-0000-0000-0000-000000000001"
    for bad, status in (
        (event(2, interaction_id=nowhere), 404),
        (event(2, session_key=None), 422),
        (event(2, name="two\nlines"), 422),
        (event(2, name="x" * 101), 422),
        (event(2, colour="red"), 422),
        (event(2, properties={"a": "\0"}), 422),
        ({"name": "copy", "session_key": "s"}, 422),
    ):
        answer = send(client, writer_headers, event(1), bad)
        assert answer.status_code == status, answer.text
    assert "events[1]" in send(
        client, writer_headers, event(1), event(2, interaction_id=nowhere)
    ).json()["error"]["message"]  # fmt: skip
    assert read(store) == []


@only_sqlite
def test_a_batch_holds_up_to_a_thousand(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    assert send(client, writer_headers).status_code == 422
    many = [event(number) for number in range(1_001)]
    assert send(client, writer_headers, *many).status_code == 422
    assert send(client, writer_headers, *many[1:]).json()["num_stored"] == 1_000


@only_sqlite
def test_what_a_user_does_who_opted_out_is_not_stored(
    client: TestClient, store: Store, writer_headers: dict[str, str]
) -> None:
    with store.writing() as db:
        opt_out(db, actor=SYSTEM, user="ann")
    answer = send(client, writer_headers, event(1, user="ann"), event(2, user="ben"), event(3))
    assert answer.json() == {"num_stored": 2, "num_known": 0, "num_left_out": 1}


@only_sqlite
def test_events_need_the_scope_to_write(
    client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    assert send(client, bearer(Permission.RATE), event(1)).status_code == 403
