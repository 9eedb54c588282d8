"""The gate: outermost, for HTTP and websockets, all verbs. What is not listed needs a session.

A websocket, and a request that may change something, also has to come from a page of this site:
browsers send the cookie along from every other port of this host.
"""

from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rlhf_core.api.auth import find_signed_in, is_same_site
from rlhf_core.api.errors import error_response
from rlhf_core.errors import Unavailable

OPEN_PATHS = frozenset({"/login", "/logout", "/_stcore/health"})
OPEN_PREFIXES = ("/static/", "/api/")
"""Streamlit's own scripts and fonts, the same for everybody: a page that tells of a sign-out still
loads some. And the API, which asks for a token or a session itself, route by route.
"""


class Gate:
    """Lets through what comes with a session, and the open paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        is_http = scope["type"] == "http"
        path = scope["path"]
        if is_http and (path in OPEN_PATHS or path.startswith(OPEN_PREFIXES)):
            await self._app(scope, receive, send)
            return
        try:
            connection = HTTPConnection(scope)
            is_signed_in = await find_signed_in(connection) is not None
            is_reading = is_http and scope["method"] in ("GET", "HEAD")
            if is_signed_in and (is_reading or is_same_site(connection.headers)):
                await self._app(scope, receive, send)
                return
            refusal, code = (_refuse_foreign(), 4403) if is_signed_in else (_refuse(scope), 4401)
        except Unavailable as error:
            refusal, code = error_response(503, "Unavailable", str(error)), 1013
        if is_http:
            await refusal(scope, receive, send)
            return
        await receive()  # "websocket.connect"
        await send({"type": "websocket.close", "code": code})


def _refuse_foreign() -> Response:
    return error_response(
        403, "Forbidden", "This request came from another site; use the dashboard's own pages."
    )


def _refuse(scope: Scope) -> Response:
    is_page = scope.get("method") in ("GET", "HEAD") and not scope["path"].startswith(
        ("/_stcore", "/media")
    )
    if not is_page:
        return error_response(401, "Unauthenticated", "Sign in at /login.")
    wanted = scope["path"]
    if scope["query_string"]:
        wanted += "?" + scope["query_string"].decode("latin-1")
    after = "" if wanted == "/" else f"?next={quote(wanted, safe='')}"
    return RedirectResponse(f"/login{after}", 303)
