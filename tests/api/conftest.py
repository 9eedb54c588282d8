"""The API and the gate without Streamlit, on both databases."""

from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from rlhf_core.accounts import passwords, service, tokens
from rlhf_core.accounts.permissions import SYSTEM, Permission
from rlhf_core.api.app import close_api, create_api
from rlhf_core.api.auth import session_actors, token_actors
from rlhf_core.api.gate import Gate
from rlhf_core.api.headers import MEBIBYTE, BodyLimit, SecurityHeaders, build_policy
from rlhf_core.api.sign_in import create_sign_in_routes
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role

ORIGIN = {"origin": "http://testserver"}


@pytest.fixture(autouse=True)
def _forget_actors() -> None:
    token_actors.forget_all()
    session_actors.forget_all()


@pytest.fixture(autouse=True)
def _quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a real check, slow on purpose, the tests of accounts tell."""
    monkeypatch.setattr(passwords, "LOG2_N", 4)


async def _page(_request: object) -> PlainTextResponse:
    return PlainTextResponse("the dashboard")


async def _stream(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


@pytest.fixture
def client(store: Store) -> Iterator[TestClient]:
    """A browser or program before the gate; the dashboard behind it is one plain page."""
    api = create_api()
    app = Starlette(
        routes=[
            *create_sign_in_routes(),
            Mount("/api", app=api),
            WebSocketRoute("/_stcore/stream", _stream),
            Route("/{path:path}", _page, methods=["GET", "POST", "PUT", "DELETE"]),
        ],
        middleware=[
            Middleware(SecurityHeaders, policy=build_policy("<script>let here = 1</script>")),
            Middleware(Gate),
            Middleware(BodyLimit, limits={"/api/": 8 * MEBIBYTE, "/": MEBIBYTE}),
        ],
    )
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as browser:
        yield browser
    close_api(api)


@pytest.fixture
def add_account(store: Store) -> Callable[..., str]:
    """Make an account; return its name."""

    def add(role: Role, name: str | None = None, password: str | None = None) -> str:
        with store.writing() as db:
            view = service.create_account(
                db, actor=SYSTEM, name=name or f"test {role.value}", role=role, password=password
            )
        return view.name

    return add


@pytest.fixture
def bearer(store: Store, add_account: Callable[..., str]) -> Callable[..., dict[str, str]]:
    """`bearer(Permission.RATE, ...)`: the header of a new token with these scopes."""

    def make(*scopes: Permission) -> dict[str, str]:
        with store.writing() as db:
            if service.find_account(db, "test admin") is None:
                service.create_account(db, actor=SYSTEM, name="test admin", role=Role.ADMIN)
            secret = tokens.create_api_token(
                db, actor=SYSTEM, account_name="test admin", name="t", scopes=scopes
            )
        return {"authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
def writer_headers(bearer: Callable[..., dict[str, str]]) -> dict[str, str]:
    """The header of a program that stores and reads everything."""
    return bearer(*Permission)


@pytest.fixture
def make_link(store: Store) -> Callable[[str], str]:
    """The secret of a sign-in link of the account."""

    def make(name: str) -> str:
        with store.writing() as db:
            return tokens.create_sign_in_link(db, actor=SYSTEM, account_name=name)

    return make


@pytest.fixture
def sign_in(
    client: TestClient, add_account: Callable[..., str], make_link: Callable[[str], str]
) -> Callable[[Role], None]:
    """Give the client the session cookie of a new account of the role."""

    def enter(role: Role) -> None:
        response = client.get("/login", params={"token": make_link(add_account(role))})
        assert response.status_code == 303

    return enter
