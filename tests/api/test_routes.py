"""Every route is denied unless it is listed here with its permission."""

from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.api.app import close_api, create_api, is_open, permission_of
from rlhf_core.store.engine import Store
from tests.databases import only_sqlite

OPEN = "open"
TABLE = {
    ("GET", "/health"): OPEN,
    ("GET", "/openapi.json"): None,
    ("GET", "/docs"): None,
    ("POST", "/v1/interactions"): Permission.WRITE_INTERACTIONS,
    ("POST", "/v1/feedback"): Permission.RATE,
    ("POST", "/v1/comparisons"): Permission.RATE,
    ("POST", "/v1/queues/{queue_id}/next"): Permission.RATE,
    ("POST", "/v1/events"): Permission.WRITE_INTERACTIONS,
    ("POST", "/v1/opt-outs"): Permission.WRITE_INTERACTIONS,
    ("POST", "/assistant/feedback"): Permission.WRITE_INTERACTIONS,
    ("GET", "/feedback"): Permission.READ_INTERACTIONS,
    ("GET", "/v1/feedback/summary"): Permission.READ_ANALYTICS,
    ("GET", "/v1/models"): Permission.READ_MODELS,
    ("GET", "/v1/models/{name}/{number}/evaluations"): Permission.READ_MODELS,
    ("GET", "/v1/models/{name}/{number}"): Permission.READ_MODELS,
    ("PATCH", "/v1/models/{name}/{number}"): Permission.PROMOTE_MODELS,
    ("DELETE", "/v1/models/{name}/{number}"): Permission.PROMOTE_MODELS,
    ("GET", "/v1/models/{name}/{number}/card"): Permission.READ_MODELS,
    ("GET", "/v1/models/{name}/{number}/lineage"): Permission.READ_MODELS,
    ("GET", "/v1/models/{name}/{number}/rows"): Permission.READ_MODELS,
    ("GET", "/v1/models/{name}/{number}/files"): Permission.EXPORT_DATA,
    ("POST", "/v1/models/{name}/{number}/check"): Permission.READ_MODELS,
    ("GET", "/v1/models/{name}/{number}/gates"): Permission.READ_MODELS,
    ("POST", "/v1/models/{name}/{number}/promote"): Permission.PROMOTE_MODELS,
    ("POST", "/v1/models/{name}/rollback"): Permission.PROMOTE_MODELS,
    ("GET", "/v1/models/{name}/live"): Permission.READ_MODELS,
    ("GET", "/v1/releases"): Permission.READ_MODELS,
    ("POST", "/v1/releases"): Permission.PROMOTE_MODELS,
    ("POST", "/v1/releases/plan"): Permission.READ_MODELS,
    ("GET", "/v1/releases/{release_id}"): Permission.READ_MODELS,
    ("POST", "/v1/releases/{release_id}/traffic"): Permission.PROMOTE_MODELS,
    ("POST", "/v1/releases/{release_id}/promote"): Permission.PROMOTE_MODELS,
    ("POST", "/v1/releases/{release_id}/rollback"): Permission.PROMOTE_MODELS,
    ("POST", "/v1/releases/{release_id}/stop"): Permission.PROMOTE_MODELS,
    ("GET", "/v1/interactions/{interaction_id}/models"): Permission.READ_MODELS,
    ("GET", "/v1/storage"): Permission.READ_MODELS,
    ("GET", "/v1/datasets"): Permission.MANAGE_DATASETS,
    ("GET", "/v1/datasets/{name}/{number}/export"): Permission.EXPORT_DATA,
    ("POST", "/v1/rerank"): Permission.SCORE,
    ("POST", "/v1/rerank/{served_id}/choice"): Permission.SCORE,
    ("GET", "/v1/version-comparisons"): Permission.READ_MODELS,
    ("POST", "/v1/version-comparisons"): Permission.RUN_JOBS,
    ("GET", "/v1/version-comparisons/{comparison_id}"): Permission.READ_MODELS,
    ("POST", "/v1/version-comparisons/{comparison_id}/queue"): Permission.MANAGE_QUEUES,
    ("POST", "/v1/chat/completions"): Permission.SCORE,
    ("POST", "/v1/score"): Permission.SCORE,
    ("POST", "/v1/training/rewards"): Permission.RUN_JOBS,
    ("POST", "/v1/training/policies"): Permission.RUN_JOBS,
    ("POST", "/v1/training/policies/check"): Permission.RUN_JOBS,
    ("POST", "/v1/training/examinations"): Permission.RUN_JOBS,
    ("GET", "/v1/training/advice"): Permission.MANAGE_DATASETS,
    ("GET", "/v1/jobs"): Permission.RUN_JOBS,
    ("GET", "/v1/jobs/{job_id}"): Permission.RUN_JOBS,
    ("GET", "/v1/jobs/{job_id}/curves"): Permission.RUN_JOBS,
    ("POST", "/v1/jobs/{job_id}/cancel"): Permission.RUN_JOBS,
    ("POST", "/v1/jobs/{job_id}/retry"): Permission.RUN_JOBS,
}
GUARDED = [key for key, permission in TABLE.items() if permission != OPEN]
NEED = [(key, value) for key, value in TABLE.items() if isinstance(value, Permission)]


@pytest.fixture
def api(settings_for_test: None) -> Iterator[FastAPI]:
    app = create_api()
    yield app
    close_api(app)


def test_table_lists_every_route_with_its_permission(api: FastAPI) -> None:
    found = {}
    for route in api.routes:
        assert isinstance(route, APIRoute), f"{route} is no plain route: it cannot be checked"
        for method in route.methods or ():
            found[method, route.path] = OPEN if is_open(route) else permission_of(route)
    assert found == TABLE


def test_a_route_without_permission_is_refused_at_the_start(api: FastAPI) -> None:
    async def forgotten() -> None: ...

    with pytest.raises(RuntimeError, match="/forgotten names no permission"):
        permission_of(APIRoute("/forgotten", forgotten))
    with pytest.raises(RuntimeError, match="names no permission"):
        permission_of(Route("/plain", forgotten))


@pytest.mark.parametrize(("method", "path"), GUARDED)
@only_sqlite
def test_without_credentials_every_route_is_denied(
    client: TestClient, method: str, path: str
) -> None:
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer"},
        {"cookie": "rlhf_session_8501=wrong"},
        {"x-app-user": "admin", "x-app-role": "admin", "x-forwarded-user": "admin"},
    ):
        response = client.request(method, f"/api{path}", headers=headers, json={})
        assert response.status_code == 401, (headers, response.text)
        assert response.headers["www-authenticate"] == "Bearer"
        error = response.json()["error"]
        assert "Unauthenticated" in (error["type"], error.get("code"))  # the latter as OpenAI says


@pytest.mark.parametrize(("route", "permission"), NEED)
@only_sqlite
def test_without_the_scope_every_route_is_denied(
    client: TestClient,
    bearer: Callable[..., dict[str, str]],
    route: tuple[str, str],
    permission: Permission,
) -> None:
    headers = bearer(*(set(Permission) - {permission}))
    body = {"prompt": "p", "completion": "c"} if route[1].endswith("interactions") else {}
    response = client.request(route[0], f"/api{route[1]}", headers=headers, json=body)
    assert response.status_code == 403, response.text
    assert permission.value.replace("_", " ") in response.json()["error"]["message"]


@pytest.mark.parametrize("verb", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
@only_sqlite
def test_verbs_that_no_route_has_are_refused(client: TestClient, store: Store, verb: str) -> None:
    for path in ("/api/v1/feedback", "/api/health", "/api/", "/api/none"):
        assert client.request(verb, path).status_code in (401, 404, 405)


@only_sqlite
def test_summary_inside_the_recent_route_needs_its_own_permission(
    client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    headers = bearer(Permission.READ_INTERACTIONS)
    assert client.get("/api/feedback", headers=headers).status_code == 200
    assert client.get("/api/feedback?type=summary", headers=headers).status_code == 403


@only_sqlite
def test_health_is_open_and_says_nothing_more(client: TestClient) -> None:
    assert client.get("/api/health").json() == {"status": "ok"}
