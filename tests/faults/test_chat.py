"""Answers of a policy as OpenAI's own client gets them from a whole server, and trouble there."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import psutil
import pytest
import sqlalchemy as sa

from rlhf_core.accounts import tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.config import get_settings
from rlhf_core.store.tables import Interaction
from tests.core.policies.tiny_policies import make_policy
from tests.core.serving.policies import promote_policy
from tests.live_server import LiveServer, find_free_port, run_server

PATIENCE_S = 60.0
ASKED = [{"role": "user", "content": "a b c"}]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    port = str(find_free_port())
    with run_server(tmp_path, RLHF_START_CHILDREN="true", RLHF_INFERENCE_PORT=port) as running:
        yield running


@pytest.fixture
def client(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[openai.OpenAI]:
    """A client of a server on which a policy is promoted."""
    monkeypatch.setenv("RLHF_DATA_DIR", str(server.data_dir))
    get_settings.cache_clear()
    folder = make_policy(tmp_path / "policy", seed=3)
    with server.store.writing() as db:
        promote_policy(db, folder)
        secret = tokens.create_api_token(
            db,
            actor=SYSTEM,
            account_name="admin",
            name="chat",
            scopes=[Permission.SCORE, Permission.WRITE_INTERACTIONS],
        )
    with openai.OpenAI(base_url=f"{server.url}/api/v1", api_key=secret, max_retries=0) as found:
        yield found


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.1)


def test_client_streams_breaks_off_and_outlives_a_killed_process(
    server: LiveServer, client: openai.OpenAI
) -> None:
    def answers() -> bool:
        try:
            client.chat.completions.create(model="assistant", messages=ASKED, max_tokens=1)
        except openai.InternalServerError as error:
            refusals.append((error.status_code, error.response.headers["retry-after"]))
            return False
        return True

    refusals: list[tuple[int, str]] = []

    wait_for(answers)
    fixed = {"model": "assistant", "messages": ASKED, "max_tokens": 30, "seed": 4}
    whole = client.chat.completions.create(**fixed)  # type: ignore[call-overload]
    said = whole.choices[0].message.content
    stream = client.chat.completions.create(**fixed, stream=True)  # type: ignore[call-overload]
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "".join(pieces) == said
    with pytest.raises(openai.NotFoundError, match="no version 7"):
        client.chat.completions.create(model="assistant v7", messages=ASKED)

    def stored() -> list[tuple[str, object]]:
        with server.store.reading() as db:
            rows = db.execute(
                sa.select(Interaction.completion, Interaction.extra).order_by(Interaction.id)
            )
            return [(completion, extra) for completion, extra in rows]

    before = len(stored())
    stream = client.chat.completions.create(**fixed, stream=True)  # type: ignore[call-overload]
    next(chunk for chunk in stream if chunk.choices[0].delta.content)
    stream.close()
    wait_for(lambda: len(stored()) == before + 1)
    completion, _ = stored()[-1]
    assert said.startswith(completion)

    processes = psutil.Process(server.process.pid).children(recursive=True)
    for process in processes:
        if "inference" in process.cmdline():
            process.kill()
            process.wait()
    assert not answers()
    wait_for(answers)
    assert set(refusals) == {(503, "2")}
