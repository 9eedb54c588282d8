"""Conversations divided by a deployment, over the API and a real inference application."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.api.routes import chat
from rlhf_core.clock import utcnow
from rlhf_core.config import get_settings
from rlhf_core.errors import Unavailable
from rlhf_core.privacy.pseudonyms import make_pseudonym
from rlhf_core.registry.service import REWARD_MODEL, get_version_by_number
from rlhf_core.serving.loader import load_version
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Interaction, ModelVersion, ServedLogEntry
from rlhf_core.vocabulary import DeploymentKind
from tests.core.policies.tiny_policies import make_policy
from tests.core.serving.deployments import run_deployment
from tests.core.serving.policies import promote_policy, register_policy
from tests.core.serving.server import serve_traffic
from tests.databases import only_sqlite

pytestmark = only_sqlite
URL = "/api/v1/chat/completions"
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("policies")
    return make_policy(base / "first", seed=3), make_policy(base / "second", seed=9)


@pytest.fixture
def shelf(
    store: Store, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[PolicyShelf]:
    """`assistant v1` is promoted, `assistant v2` is there; the shelf looks when a test says so."""
    with store.writing() as db:
        promote_policy(db, folders[0])
        register_policy(db, folders[1])
    shelf = PolicyShelf(store)
    shelf.traffic.production.refresh()
    rewards = Traffic(store, load_version, model_name=REWARD_MODEL, capacity=1)
    with serve_traffic(store, rewards, shelf) as port:
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield shelf


@pytest.fixture
def ask(client: TestClient, writer_headers: dict[str, str]) -> Ask:
    def post(status: int = 200, **fields: Any) -> Any:
        messages = [{"role": "user", "content": "a b c"}]
        body = {"model": "assistant", "messages": messages, "max_tokens": 4, "seed": 1, **fields}
        response = client.post(URL, json=body, headers=writer_headers)
        assert response.status_code == status, response.text
        return response.json()

    return post


def start(store: Store, shelf: PolicyShelf, **fields: Any) -> uuid.UUID:
    with store.writing() as db:
        first, second = (
            get_version_by_number(db, "assistant", number, actor=SYSTEM) for number in (1, 2)
        )
        deployment_id = run_deployment(db, second, first, **fields)
    shelf.traffic.refresh_deployment()
    return deployment_id


def logged(store: Store) -> list[ServedLogEntry]:
    with store.reading() as db:
        rows = list(db.scalars(sa.select(ServedLogEntry).order_by(ServedLogEntry.served_at)))
        db.expunge_all()
        return rows


def test_users_are_divided_and_keep_to_their_version_by_id_or_by_conversation(
    store: Store, shelf: PolicyShelf, ask: Ask
) -> None:
    running = start(store, shelf, percent=50.0)
    users = [{"user": f"user {number}"} for number in range(14)]
    talks = [{"chat_id": f"talk {number}"} for number in range(14)]
    for who in (users, talks):
        first = [ask(**one)["model"] for one in who]
        assert set(first) == {"assistant v1", "assistant v2"}
        assert [ask(**one)["model"] for one in who] == first
    rows = logged(store)
    assert {row.deployment_id for row in rows} == {running}
    assert {(row.arm, row.propensity) for row in rows} == {("control", 0.5), ("treatment", 0.5)}
    assert len({row.model_version_id for row in rows}) == 2
    assert rows[0].user_pseudonym == make_pseudonym("user 0", get_settings().read_secret_key())
    assert rows[-1].user_pseudonym is not None
    assert not any(row.is_error for row in rows)


def test_a_version_that_is_named_stands_outside(store: Store, shelf: PolicyShelf, ask: Ask) -> None:
    start(store, shelf, percent=100.0)
    assert ask()["model"] == "assistant v2"
    assert ask(model="assistant v1")["model"] == "assistant v1"
    assert [(row.arm, row.deployment_id is None) for row in logged(store)] == [
        ("treatment", False),
        (None, True),
    ]


def test_the_prompt_of_a_test_stands_before_the_messages_and_is_kept(
    store: Store, shelf: PolicyShelf, ask: Ask
) -> None:
    plain = ask(temperature=0)["choices"]
    start(store, shelf, percent=100.0, kind=DeploymentKind.AB_TEST, treatment_prompt="x y z x")
    assert ask(temperature=0)["usage"]["prompt_tokens"] == 7
    own = [{"role": "system", "content": "k"}, {"role": "user", "content": "a b c"}]
    assert ask(temperature=0, messages=own)["model"] == "assistant v1"
    with store.reading() as db:
        contexts = db.scalars(sa.select(Interaction.context).order_by(Interaction.id)).all()
    assert contexts == [
        None,
        [{"role": "system", "content": "x y z x"}],
        [{"role": "system", "content": "k"}],
    ]
    assert [row.arm for row in logged(store)] == ["production", "treatment", "production"]
    assert plain


def test_a_prompt_that_leaves_no_room_is_the_tests_error_and_no_callers(
    store: Store, shelf: PolicyShelf, ask: Ask
) -> None:
    start(store, shelf, percent=100.0, kind=DeploymentKind.AB_TEST, treatment_prompt="x " * 70)
    refusal = ask(status=503)
    assert "With the system prompt of the test" in refusal["error"]["message"]
    assert refusal["error"]["code"] == "Unavailable"
    long = [{"role": "user", "content": "a " * 99}]
    ask(status=400, messages=long)
    [row] = logged(store)
    assert (row.arm, row.is_error, row.interaction_id) == ("treatment", True, None)
    assert row.model_version_id is not None


def test_what_only_the_treatment_refuses_is_its_error_and_what_both_refuse_the_callers(
    store: Store, shelf: PolicyShelf, ask: Ask, tmp_path: Path
) -> None:
    with store.writing() as db:
        folder = make_policy(tmp_path / "small", seed=9, max_position_embeddings=8)
        small = register_policy(db, folder)
        first = get_version_by_number(db, "assistant", 1, actor=SYSTEM)
        run_deployment(db, small, first, percent=100.0)
    shelf.traffic.refresh_deployment()
    refusal = ask(status=503, messages=[{"role": "user", "content": "a " * 9}])
    assert "assistant v3 refuses it" in refusal["error"]["message"]
    ask(status=400, messages=[{"role": "user", "content": "a " * 99}])
    [row] = logged(store)
    assert (row.arm, row.is_error, row.model_version_id) == ("treatment", True, small.id)


def test_trouble_of_the_database_is_no_error_of_the_version(
    store: Store, shelf: PolicyShelf, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Unavailable("The database does not answer (test); try again.")

    start(store, shelf, percent=100.0)
    monkeypatch.setattr(chat, "begin_answer", fail)
    ask(status=503)
    assert [row.is_error for row in logged(store)] == [False]


def test_an_answer_that_breaks_off_is_an_error_of_its_version(
    store: Store, shelf: PolicyShelf, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(store, shelf, percent=100.0)
    treatment = shelf.choose("assistant").model
    assert treatment is not None

    def fail(_turns: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(treatment.source._batches, "_answer", fail)  # type: ignore[attr-defined]
    refusal = ask(status=503, user="user 7")
    assert "assistant v2 failed to answer (ZeroDivisionError)" in refusal["error"]["message"]
    [row] = logged(store)
    assert (row.arm, row.is_error, row.is_fallback) == ("treatment", True, False)
    assert (row.model_version_id, row.interaction_id) == (treatment.version_id, None)


def test_without_a_process_the_error_is_logged_without_a_version(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_INFERENCE_PORT", "9")
    get_settings.cache_clear()
    ask(status=503, user="user 7")
    [row] = logged(store)
    assert (row.arm, row.model_version_id, row.is_error) == (None, None, True)
    assert row.reason == "The inference process does not run."


def test_an_answer_that_the_caller_stores_itself_is_credited_to_its_version(
    store: Store, shelf: PolicyShelf, ask: Ask, client: TestClient, writer_headers: dict[str, str]
) -> None:
    answer = ask(store=False)
    draft = {
        "prompt": "a b c", "completion": "own words", "served_id": answer["id"],
        "steps": [{"content": "first"}],
    }  # fmt: skip
    stored = client.post("/api/v1/interactions", json=draft, headers=writer_headers)
    assert stored.status_code == 201
    [row] = logged(store)
    assert str(row.interaction_id) == stored.json()["id"]
    with store.reading() as db:
        [interaction] = db.scalars(sa.select(Interaction)).all()
    assert interaction.model_version_id == row.model_version_id
    again = client.post("/api/v1/interactions", json=draft, headers=writer_headers)
    assert (again.status_code, again.json()["id"]) == (200, stored.json()["id"])
    other = client.post(
        "/api/v1/interactions",
        json={**draft, "served_id": ask(store=False)["id"]},
        headers=writer_headers,
    )
    assert other.status_code == 201, "somebody else got the same words in another answer"


def test_a_deleted_version_does_not_answer_though_it_is_in_memory(
    store: Store, shelf: PolicyShelf, ask: Ask
) -> None:
    assert ask(model="assistant v2")["model"] == "assistant v2"
    with store.writing() as db:
        db.execute(
            sa.update(ModelVersion).where(ModelVersion.number == 2).values(deleted_at=utcnow())
        )
    refusal = ask(status=404, model="assistant v2")
    assert refusal["error"]["message"] == "assistant v2 is deleted: name another version."
