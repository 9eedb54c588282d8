"""The gate, signing in and out, and writes with a session cookie."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio.to_thread
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from rlhf_core.accounts import service
from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.accounts.tokens import session_cookie_name
from rlhf_core.api import sign_in as sign_in_module
from rlhf_core.api.auth import session_actors
from rlhf_core.api.sign_in import FAILURES_ALLOWED, Throttle, safe_path
from rlhf_core.store.engine import Store
from rlhf_core.vocabulary import Role
from tests.api.conftest import ORIGIN
from tests.databases import only_sqlite

PASSWORD = "correct horse battery"

pytestmark = only_sqlite


@pytest.mark.parametrize("path", ["/", "/rate", "/_stcore/", "/media/x.png", "/app/static/x.js"])
@pytest.mark.parametrize("verb", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_behind_the_gate_answers_strangers(
    client: TestClient, path: str, verb: str
) -> None:
    forged = {"x-app-user": "admin", "x-forwarded-user": "admin", "remote-user": "admin"}
    for headers in ({}, forged, {"cookie": f"{session_cookie_name()}=guess"}):
        response = client.request(verb, path, headers=headers)
        assert response.status_code in (303, 401)
        assert "the dashboard" not in response.text
        assert response.headers["content-security-policy"]


def test_page_leads_to_sign_in_and_back(
    client: TestClient, add_account: Callable[..., str], make_link: Callable[[str], str]
) -> None:
    response = client.get("/rate?item=3")
    assert response.headers["location"] == "/login?next=%2Frate%3Fitem%3D3"
    link = make_link(add_account(Role.RATER))
    entered = client.get("/login", params={"token": link, "next": "/rate?item=3"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/rate?item=3")
    assert client.get("/rate?item=3").text == "the dashboard"


def test_cookie_is_out_of_reach_of_scripts_and_other_sites(
    client: TestClient, add_account: Callable[..., str], make_link: Callable[[str], str]
) -> None:
    link = make_link(add_account(Role.RATER))
    cookie = client.get("/login", params={"token": link}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


def test_websocket_needs_the_session(client: TestClient, sign_in: Callable[[Role], None]) -> None:
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/_stcore/stream"):
        pass
    assert refused.value.code == 4401
    sign_in(Role.RATER)
    with client.websocket_connect("/_stcore/stream", headers=ORIGIN) as socket:
        assert socket.receive_text() == "hello"


FOREIGN = [
    {},
    {"origin": "http://testserver:9999"},
    {"origin": "http://localhost"},
    {"origin": "null"},
    {**ORIGIN, "sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_websocket_opens_to_no_other_origin_of_this_host(
    client: TestClient, sign_in: Callable[[Role], None], headers: dict[str, str]
) -> None:
    sign_in(Role.ADMIN)
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/_stcore/stream", headers=headers),
    ):
        pass
    assert refused.value.code == 4403


@pytest.mark.parametrize("headers", FOREIGN)
def test_other_origins_of_this_host_change_nothing_behind_the_gate(
    client: TestClient, sign_in: Callable[[Role], None], headers: dict[str, str]
) -> None:
    sign_in(Role.ADMIN)
    for verb in ("POST", "PUT", "DELETE"):
        refused = client.request(verb, "/_stcore/upload_file/a/b", headers=headers)
        assert refused.status_code == 403
        assert "another site" in refused.json()["error"]["message"]
        assert client.request(verb, "/_stcore/upload_file/a/b", headers=ORIGIN).status_code == 200
    assert client.get("/", headers=headers).text == "the dashboard"


def test_no_websocket_is_open_below_the_open_paths(client: TestClient) -> None:
    for path in ("/api/v1/stream", "/login"):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
            pass


def test_link_used_twice_is_refused(
    client: TestClient, add_account: Callable[..., str], make_link: Callable[[str], str]
) -> None:
    link = make_link(add_account(Role.RATER))
    assert client.get("/login", params={"token": link}).status_code == 303
    client.cookies.clear()
    again = client.get("/login", params={"token": link})
    assert again.status_code == 403
    assert "used already" in again.text
    assert "set-cookie" not in again.headers


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-purpose": "prefetch;prerender"}],
)
def test_link_from_another_site_or_a_prefetch_asks_first(
    client: TestClient,
    add_account: Callable[..., str],
    make_link: Callable[[str], str],
    headers: dict[str, str],
) -> None:
    link = make_link(add_account(Role.RATER))
    asked = client.get("/login", params={"token": link}, headers=headers)
    assert asked.status_code == 200
    assert "Sign in with this link" in asked.text
    assert "set-cookie" not in asked.headers
    entered = client.post("/login", data={"token": link}, headers=ORIGIN)
    assert entered.status_code == 303


def test_password_opens_and_a_wrong_one_does_not(
    client: TestClient, add_account: Callable[..., str]
) -> None:
    name = add_account(Role.RATER, password=PASSWORD)
    wrong = client.post("/login", data={"name": name, "password": "x"}, headers=ORIGIN)
    assert wrong.status_code == 401
    assert "wrong" in wrong.text
    right = client.post("/login", data={"name": name, "password": PASSWORD}, headers=ORIGIN)
    assert right.status_code == 303
    assert client.get("/").text == "the dashboard"


def test_guessing_is_slowed_down_for_that_name_only(
    client: TestClient, add_account: Callable[..., str]
) -> None:
    other = add_account(Role.RATER, "other", PASSWORD)
    for _ in range(FAILURES_ALLOWED):
        client.post("/login", data={"name": "kim", "password": "x"}, headers=ORIGIN)
    shut = client.post("/login", data={"name": "kim", "password": "x"}, headers=ORIGIN)
    assert shut.status_code == 429
    right = client.post("/login", data={"name": other, "password": PASSWORD}, headers=ORIGIN)
    assert right.status_code == 303


def test_guesses_at_the_same_moment_are_counted_too(
    client: TestClient, add_account: Callable[..., str]
) -> None:
    name = add_account(Role.RATER, password=PASSWORD)

    def guess(number: int) -> int:
        form = {"name": name, "password": f"wrong {number}"}
        return client.post("/login", data=form, headers=ORIGIN).status_code

    with ThreadPoolExecutor(12) as pool:
        answers = Counter(pool.map(guess, range(12)))
    assert answers == {401: FAILURES_ALLOWED, 429: 12 - FAILURES_ALLOWED}


def test_right_passwords_count_as_no_failure(
    client: TestClient, add_account: Callable[..., str]
) -> None:
    name = add_account(Role.RATER, password=PASSWORD)
    for _ in range(FAILURES_ALLOWED + 1):
        right = client.post("/login", data={"name": name, "password": PASSWORD}, headers=ORIGIN)
        assert right.status_code == 303


def test_counted_names_are_bounded_and_the_one_tried_longest_ago_goes_first(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_module, "MAX_NAMES_WATCHED", 3)
    throttle = Throttle()
    for _ in range(FAILURES_ALLOWED):
        assert throttle.admit("kim") is not None
    for name in ("a", "b", "kim", "c", "d"):
        throttle.admit(name)
    assert throttle.admit("kim") is None
    assert len(throttle._failures) == 3


def test_password_checks_that_wait_leave_the_threads_to_others(
    client: TestClient, writer_headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on = threading.Semaphore(0), threading.Event()

    def check_slowly(*_: object) -> None:
        inside.release()
        go_on.wait(60)

    async def leave_three_threads() -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = 3

    monkeypatch.setattr(sign_in_module, "authenticate", check_slowly)
    assert client.portal is not None
    client.portal.call(leave_three_threads)
    with ThreadPoolExecutor(6) as pool:
        tries = [
            pool.submit(client.post, "/login", data={"name": f"n{n}"}, headers=ORIGIN)
            for n in range(5)
        ]
        try:
            assert inside.acquire(timeout=30)
            assert inside.acquire(timeout=30)
            asked = pool.submit(client.get, "/api/feedback", headers=writer_headers)
            assert asked.result(30).status_code == 200
            assert not inside.acquire(blocking=False)
        finally:
            go_on.set()
        assert {response.result(30).status_code for response in tries} == {401}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver", "sec-fetch-site": "cross-site"},
    ],
)
def test_forms_of_other_sites_sign_nobody_in_or_out(
    client: TestClient,
    add_account: Callable[..., str],
    sign_in: Callable[[Role], None],
    headers: dict[str, str],
) -> None:
    name = add_account(Role.ANALYST, password=PASSWORD)
    response = client.post("/login", data={"name": name, "password": PASSWORD}, headers=headers)
    assert response.status_code == 403
    assert "set-cookie" not in response.headers
    sign_in(Role.RATER)
    assert client.post("/logout", headers=headers).status_code == 403
    assert client.get("/logout", headers=headers).status_code == 200
    assert client.get("/").text == "the dashboard"


def test_signing_out_ends_the_session_everywhere(
    client: TestClient, sign_in: Callable[[Role], None]
) -> None:
    sign_in(Role.RATER)
    secret = client.cookies[session_cookie_name()]
    assert client.get("/").text == "the dashboard"
    left = client.post("/logout", headers=ORIGIN)
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    client.cookies.set(session_cookie_name(), secret)
    assert client.get("/").status_code == 303


def test_disabled_account_is_out_when_the_memory_ends(
    client: TestClient, store: Store, sign_in: Callable[[Role], None]
) -> None:
    sign_in(Role.RATER)
    with store.writing() as db:
        service.disable_account(db, actor=SYSTEM, account_name="test rater")
    session_actors.forget_all()  # what 1.5 s do
    assert client.get("/").status_code == 303


def test_api_takes_the_session_but_writes_only_from_our_own_pages(
    client: TestClient, sign_in: Callable[[Role], None], writer_headers: dict[str, str]
) -> None:
    body: dict[str, Any] = {"prompt": "p", "completion": "c"}
    interaction = client.post("/api/v1/interactions", json=body, headers=writer_headers).json()
    rating = {"interaction_id": interaction["id"], "rating": 4}
    sign_in(Role.RATER)
    assert client.get("/api/feedback").status_code == 200
    assert client.get("/api/docs").status_code == 200
    for headers in ({}, {"origin": "http://evil.example"}, {"sec-fetch-site": "same-site"}):
        refused = client.post("/api/v1/feedback", json=rating, headers=headers)
        assert refused.status_code == 403
        assert "another site" in refused.json()["error"]["message"]
    assert client.post("/api/v1/feedback", json=rating, headers=ORIGIN).status_code == 201


def test_wrong_token_is_not_helped_by_a_session(
    client: TestClient, sign_in: Callable[[Role], None]
) -> None:
    sign_in(Role.ADMIN)
    response = client.get("/api/feedback", headers={"authorization": "Bearer wrong"})
    assert response.status_code == 401


@pytest.mark.parametrize(
    ("wanted", "path"),
    [
        ("/rate?item=3", "/rate?item=3"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/login?next=/login", "/"),
        ("/a\nb", "/"),
        ("", "/"),
        (None, "/"),
    ],
)
def test_after_signing_in_only_our_own_paths_open(
    database_url: str, wanted: str | None, path: str
) -> None:
    assert safe_path(wanted) == path


def test_sign_in_page_shows_what_was_typed_as_text(client: TestClient) -> None:
    typed = '"><script>alert(1)</script>'
    page = client.post("/login", data={"name": typed, "password": "x"}, headers=ORIGIN)
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text


def test_body_beyond_the_limit_is_refused_with_the_limit_named(client: TestClient) -> None:
    huge = b"x" * (2**20 + 1)
    for content in (huge, iter([huge[:1000]] * 2000)):  # with its length declared, and without
        response = client.post(
            "/login",
            content=content,
            headers={**ORIGIN, "content-type": "application/x-www-form-urlencoded"},
        )
        assert response.status_code == 413
        assert "1,048,576" in response.json()["error"]["message"]
