"""Signing in and out: `/login` (a one-time link, or name and password) and `/logout`."""

import html
import time
from collections import deque
from collections.abc import Callable

import anyio
import anyio.to_thread
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from rlhf_core.accounts.service import authenticate, is_account_name
from rlhf_core.accounts.tokens import (
    SESSION_VALID_S,
    create_session,
    find_session_actor,
    redeem_sign_in_link,
    revoke_session,
    session_cookie_name,
)
from rlhf_core.api.auth import is_same_site, session_actors
from rlhf_core.api.html import LOGO, render_page
from rlhf_core.errors import RlhfError
from rlhf_core.store.engine import get_store

FAILURES_ALLOWED, FAILURES_WITHIN_S = 5, 60.0
MAX_NAMES_WATCHED = 10_000
MAX_CHECKS = 2
"""Slow password checks at once; those that wait must not take the threads that all others need."""

LOGO_HIDDEN = LOGO.replace("<svg ", '<svg aria-hidden="true" ')
FOREIGN = "This request came from another site. Sign in here."
WRONG = "The name or the password is wrong."
TOO_OFTEN = "Too many wrong passwords for this name. Wait a minute, then try again."


class Throttle:
    """Counts failures by key; in `FAILURES_WITHIN_S` seconds only so many are allowed.

    A try counts as a failure from its start on, so that many at once are no way around it.
    """

    def __init__(self) -> None:
        self._failures: dict[str, deque[float]] = {}  # the key that tried last comes last

    def admit(self, key: str) -> float | None:
        """The mark of a try, to take it back with; None where the key has failed too often."""
        now = time.monotonic()
        failures = self._failures.pop(key, None) or deque(maxlen=FAILURES_ALLOWED)
        self._failures[key] = failures
        if len(failures) == FAILURES_ALLOWED and failures[0] > now - FAILURES_WITHIN_S:
            return None
        failures.append(now)
        if len(self._failures) > MAX_NAMES_WATCHED:
            del self._failures[next(iter(self._failures))]
        return now

    def take_back(self, key: str, mark: float) -> None:
        """That try was no failure."""
        failures = self._failures.get(key, deque())
        if mark in failures:
            failures.remove(mark)
        if not failures:
            self._failures.pop(key, None)


def create_sign_in_routes() -> list[Route]:
    """The routes `/login` and `/logout`."""
    throttle = Throttle()
    places = anyio.CapacityLimiter(MAX_CHECKS)

    async def show_sign_in(request: Request) -> Response:
        """The form; with `?token=...` the link is redeemed.

        Not where another site led here or the browser only prefetches: then a button asks, so that
        nobody is signed in as somebody else unawares, and no preview uses the link up.
        """
        is_secure = request.url.scheme == "https"
        after = safe_path(request.query_params.get("next"))
        link = request.query_params.get("token")
        if link is None:
            return _page(after)
        site = request.headers.get("sec-fetch-site", "none")
        is_own_wish = site in ("none", "same-origin") and "sec-purpose" not in request.headers
        if request.method == "HEAD" or not is_own_wish:
            return _page(after, link=link)
        return await _answer(_redeem, link, after=after, is_secure=is_secure)

    async def sign_in(request: Request) -> Response:
        form = await request.form(max_fields=10, max_files=0)
        is_secure = request.url.scheme == "https"
        after = safe_path(_field(form, "next"))
        if not is_same_site(request.headers):
            return _page(after, message=FOREIGN, status=403)
        if link := _field(form, "token"):
            return await _answer(_redeem, link, after=after, is_secure=is_secure)
        name = _field(form, "name").strip()
        if not is_account_name(name):  # nobody's: neither stored, looked up nor shown
            return _page(after, message=WRONG, status=401)
        mark = throttle.admit(name)
        if mark is None:
            return _page(after, message=TOO_OFTEN, status=429, name=name)
        response = await _answer(
            _check_password,
            name,
            _field(form, "password"),
            after=after,
            is_secure=is_secure,
            places=places,
        )
        if response.status_code != 401:
            throttle.take_back(name, mark)
        return response

    return [
        Route("/login", show_sign_in, methods=["GET"]),
        Route("/login", sign_in, methods=["POST"]),
        Route("/logout", show_sign_out, methods=["GET"]),
        Route("/logout", sign_out, methods=["POST"]),
    ]


async def show_sign_out(request: Request) -> Response:
    """Sign out if a page of ours led here; another site's link gets a button that asks."""
    if is_same_site(request.headers):
        return await sign_out(request)
    return _sign_out_page()


async def sign_out(request: Request) -> Response:
    """End the session in the database and in the browser."""
    if not is_same_site(request.headers):
        return _sign_out_page(status=403)
    secret = request.cookies.get(session_cookie_name())
    try:
        if secret:
            await run_in_threadpool(end_session, secret)
    except RlhfError as error:
        return _page("/", message=str(error), status=503)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(session_cookie_name(), httponly=True, samesite="lax")
    return response


def end_session(secret: str) -> None:
    """Revoke the session, for this process at once."""
    with get_store().writing() as db:
        actor = find_session_actor(db, secret)
        if actor is not None:
            revoke_session(db, secret, actor=actor)
    session_actors.forget(secret)


def safe_path(wanted: str | None) -> str:
    """A path of this site; anything else becomes `/`."""
    if not wanted or not wanted.startswith("/") or wanted.startswith(("//", "/\\", "/login")):
        return "/"
    return wanted if wanted.isprintable() and "\\" not in wanted else "/"


def _redeem(secret: str) -> str:
    with get_store().writing() as db:
        return redeem_sign_in_link(db, secret)


def _check_password(name: str, password: str) -> str | None:
    with get_store().reading() as db:
        actor = authenticate(db, name, password)
    if actor is None:
        return None
    with get_store().writing() as db:
        return create_session(db, actor=actor)


async def _answer(
    check: Callable[..., str | None],
    *credentials: str,
    after: str,
    is_secure: bool,
    places: anyio.CapacityLimiter | None = None,
) -> Response:
    name = credentials[0] if len(credentials) == 2 else ""
    try:
        secret = await anyio.to_thread.run_sync(check, *credentials, limiter=places)
    except RlhfError as error:
        return _page(after, message=str(error), status=403, name=name)
    if secret is None:
        return _page(after, message=WRONG, status=401, name=name)
    response = RedirectResponse(after, 303)
    response.set_cookie(
        session_cookie_name(),
        secret,
        max_age=SESSION_VALID_S,
        httponly=True,
        samesite="lax",
        secure=is_secure,
    )
    return response


def _field(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""


def _page(
    after: str, *, message: str = "", status: int = 200, name: str = "", link: str | None = None
) -> HTMLResponse:
    alert = f'<p role="alert">{html.escape(message)}</p>' if message else ""
    hidden = f'<input type="hidden" name="next" value="{html.escape(after)}">'
    if link is not None:
        fields = (
            f'<input type="hidden" name="token" value="{html.escape(link)}">'
            "<button autofocus>Sign in with this link</button>"
        )
    else:
        fields = (
            '<label for="name">Name</label>'
            f'<input id="name" name="name" value="{html.escape(name)}" required autofocus '
            'autocomplete="username" autocapitalize="none" spellcheck="false">'
            '<label for="password">Password</label>'
            '<input id="password" name="password" type="password" required '
            'autocomplete="current-password"><button>Sign in</button>'
        )
    body = (
        '<main class="centre"><div class="card">'
        f'<div class="brand">{LOGO_HIDDEN}<h1>RLHF Loop</h1></div>'
        '<div class="soft">Sign in to rate, train and promote.</div>'
        f'{alert}<form method="post" action="/login">{hidden}{fields}</form>'
        '<p class="hint soft">No password? Open the sign-in link that the terminal shows at the '
        "start, or make one there: <code>python -m rlhf_core user link NAME</code></p>"
        "</div></main>"
    )
    return HTMLResponse(
        render_page("Sign in - RLHF Loop", body), status, {"Cache-Control": "no-store"}
    )


def _sign_out_page(status: int = 200) -> HTMLResponse:
    body = (
        '<main class="centre"><div class="card">'
        f'<div class="brand">{LOGO_HIDDEN}<h1>RLHF Loop</h1></div>'
        '<div class="soft">Do you want to sign out?</div>'
        '<form method="post" action="/logout"><button autofocus>Sign out</button></form>'
        "</div></main>"
    )
    return HTMLResponse(
        render_page("Sign out - RLHF Loop", body), status, {"Cache-Control": "no-store"}
    )
