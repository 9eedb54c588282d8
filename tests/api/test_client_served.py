"""The Python client while a model serves: what was ranked, taken, and said of it."""

from collections.abc import Callable, Iterator

import httpx
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.client import ApiError, Client
from rlhf_core.config import get_settings
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Feedback, Interaction, ServedLogEntry
from tests.core.serving.server import loaded_stub, serve
from tests.core.serving.test_client import by_length
from tests.databases import only_sqlite

pytestmark = only_sqlite


@pytest.fixture
def inference(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A model to which the longest candidate is best."""
    with serve(store, loaded_stub(by_length)) as (port, _):
        monkeypatch.setenv("RLHF_INFERENCE_PORT", str(port))
        get_settings.cache_clear()
        yield


@pytest.fixture
def rlhf(
    inference: None, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> Iterator[Client]:
    """A client whose requests go to the API in this process."""
    headers = bearer(Permission.SCORE, Permission.WRITE_INTERACTIONS, Permission.RATE)
    with Client("http://testserver", "unused", retries=0) as found:
        found._http = httpx.Client(
            base_url="http://testserver/api",
            headers=headers,
            transport=httpx.MockTransport(lambda request: pass_on(client, request)),
        )
        yield found


def pass_on(client: TestClient, request: httpx.Request) -> httpx.Response:
    answer = client.request(
        request.method, str(request.url), content=request.content, headers=dict(request.headers)
    )
    return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def test_what_users_say_is_credited_to_the_version_that_ranked(store: Store, rlhf: Client) -> None:
    drafts = ["No.", "Open Settings.", "Why?"]
    said = []
    for user, thumb in (("u1", 1), ("u2", -1)):
        ranked = rlhf.rerank("How?", drafts, user=user)
        assert (ranked.order, ranked.best, ranked.is_fallback) == ((1, 2, 0), 1, False)
        rlhf.choose(ranked, ranked.best)
        logged = rlhf.log_interaction("How?", drafts[ranked.best], user=user, served_id=ranked.id)
        rlhf.send_feedback(logged.id, thumb=thumb, rater_kind="end_user")  # type: ignore[arg-type]
        said.append((ranked.id, logged.id, thumb, ranked.best))
    with store.reading() as db:
        rows = db.execute(
            sa.select(
                ServedLogEntry.id, ServedLogEntry.interaction_id, Feedback.thumb,
                ServedLogEntry.chosen_index,
            )
            .join(Interaction, Interaction.id == ServedLogEntry.interaction_id)
            .join(Feedback, Feedback.interaction_id == Interaction.id)
            .where(Interaction.user_pseudonym == ServedLogEntry.user_pseudonym)
            .order_by(ServedLogEntry.id)
        ).all()  # fmt: skip
    assert [tuple(row) for row in rows] == said


def test_choice_beyond_the_candidates_is_refused(rlhf: Client) -> None:
    with pytest.raises(ApiError, match="2 candidates") as caught:
        rlhf.choose(rlhf.rerank("How?", ["a", "b"]), 2)
    assert caught.value.status == 422
