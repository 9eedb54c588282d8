"""kill -9 of the real server loses no rating that it has acknowledged."""

import threading
import uuid
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from rlhf_core.accounts import tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback
from rlhf_core.vocabulary import Role
from tests.builders import make_interaction
from tests.live_server import run_server

NUM_CLIENTS = 4
NUM_ACKNOWLEDGED = 60


def stored_ratings(data_dir: Path) -> dict[uuid.UUID, int | None]:
    """What a fresh process finds after the crash."""
    store = Store(f"sqlite:///{data_dir / 'rlhf.db'}")
    try:
        with store.reading() as db:
            assert db.scalar(sa.text("PRAGMA integrity_check")) == "ok"
            rows = db.execute(sa.select(Feedback.interaction_id, Feedback.rating))
            return {interaction: rating for interaction, rating in rows}
    finally:
        store.close()


@pytest.mark.slow
def test_killed_server_keeps_every_rating_that_the_api_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[uuid.UUID, int] = {}
    enough = threading.Event()
    with run_server(tmp_path) as server:
        with server.store.writing() as db:
            items = [make_interaction(db).id for _ in range(600)]
        actor, _ = server.make_account(Role.RATER)
        with server.store.writing() as db:
            secret = tokens.create_api_token(
                db, actor=SYSTEM, account_name=actor.name, name="t", scopes=[Permission.RATE]
            )

        def post(mine: list[uuid.UUID]) -> None:
            headers = {"Authorization": f"Bearer {secret}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
                for number, item in enumerate(mine):
                    body = {"interaction_id": str(item), "rating": number % 5 + 1}
                    try:
                        answer = client.post("/api/v1/feedback", json=body)
                    except httpx.TransportError:
                        return  # killed
                    assert answer.status_code == 201, answer.text
                    acknowledged[item] = number % 5 + 1
                    if len(acknowledged) >= NUM_ACKNOWLEDGED:
                        enough.set()

        clients = [
            threading.Thread(target=post, args=(items[n::NUM_CLIENTS],)) for n in range(NUM_CLIENTS)
        ]
        for client in clients:
            client.start()
        assert enough.wait(60)
        server.kill()  # amid requests
        for client in clients:
            client.join(60)
    stored = stored_ratings(tmp_path)
    assert len(acknowledged) >= NUM_ACKNOWLEDGED
    assert {item: stored.get(item) for item in acknowledged} == acknowledged
