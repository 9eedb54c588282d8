import html.parser

import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from starlette.testclient import TestClient

from rlhf_core.accounts import service, tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.api.app import close_api, create_api
from rlhf_core.api.auth import token_actors
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.databases import only_sqlite

CHAT = "/v1/chat/completions"
pytestmark = only_sqlite

few = settings(
    max_examples=2,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Links(html.parser.HTMLParser):
    """What a page loads or leads to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.ids |= {value or "" for name, value in attrs if name == "id"}
        assert tag != "script"


def test_documentation_lists_every_route_and_loads_nothing_from_afar(
    client: TestClient, writer_headers: dict[str, str]
) -> None:
    page = client.get("/api/docs", headers=writer_headers).text
    schema = client.get("/api/openapi.json", headers=writer_headers).json()
    for path in schema["paths"]:
        assert f"<code>/api{path}</code>" in page
    links = Links()
    links.feed(page)
    for link in links.found:
        assert link.startswith(("#", "data:")) or link == "openapi.json", link
        if link.startswith("#"):
            assert link[1:] in links.ids


def test_described_permissions_are_those_of_the_routes(
    client: TestClient, writer_headers: dict[str, str]
) -> None:
    schema = client.get("/api/openapi.json", headers=writer_headers).json()
    operation = schema["paths"]["/v1/feedback"]["post"]
    assert operation["x-permission"] == "rate"
    assert operation["security"] == [{"token": []}]
    assert "security" not in schema["paths"]["/health"]["get"]
    assert schema["servers"] == [{"url": "/api"}]


def test_random_requests_never_break_the_server_nor_its_description(store: Store) -> None:
    token_actors.forget_all()
    with store.writing() as db:
        service.create_account(db, actor=SYSTEM, name="fuzz", role=Role.ADMIN)
        secret = tokens.create_api_token(
            db, actor=SYSTEM, account_name="fuzz", name="t", scopes=list(Permission)
        )
    app: FastAPI = create_api()
    headers = {"Authorization": f"Bearer {secret}"}
    document = {**app.openapi(), "servers": [{"url": "/"}]}
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    tried = 0

    def check(case: schemathesis.Case) -> None:
        nonlocal tried
        # rules such as "says something" go beyond what a schema can describe
        excluded = [schemathesis.checks.positive_data_acceptance]
        if case.path == CHAT:  # no process answers here, and that is what 503 says
            excluded.append(schemathesis.checks.not_a_server_error)
        response = case.call_and_validate(headers=headers, excluded_checks=excluded)
        assert response.status_code != 500
        tried += 1

    for result in schema.get_all_operations():
        operation = result.ok()
        few(given(case=operation.as_strategy())(check))()
        if operation.method == "post":
            wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
            few(given(case=wrong)(check))()
    assert tried >= 100
    close_api(app)
