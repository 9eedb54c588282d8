"""Who calls the API: a bearer token, or the session cookie of a browser of this site.

Every route names its permission with `needs`; `api.app` refuses to start with one that does not.
"""

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.accounts.tokens import find_api_actor, find_session_actor, session_cookie_name
from rlhf_core.api.errors import Unauthenticated
from rlhf_core.errors import Forbidden
from rlhf_core.store.engine import Store, get_store

KNOWN_FOR_S = 1.5
MAX_KNOWN = 10_000
READING = frozenset({"GET", "HEAD", "OPTIONS"})

Find = Callable[[Session, str], Actor | None]


class ActorFinder:
    """Looks secrets up in the database; remembers those found for `KNOWN_FOR_S` seconds.

    So a revoked token or a disabled account is shut out within that time.
    """

    def __init__(self, find: Find) -> None:
        self._find = find
        self._known: dict[str, tuple[float, Actor]] = {}
        self._lock = threading.Lock()

    async def find(self, secret: str) -> Actor | None:
        """Who the secret belongs to, or None."""
        now = time.monotonic()
        known = self._known.get(secret)
        if known is not None and known[0] > now:
            return known[1]
        actor = await run_in_threadpool(self._look_up, get_store(), secret)
        if actor is not None:
            with self._lock:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[secret] = (now + KNOWN_FOR_S, actor)
        return actor

    def forget(self, secret: str) -> None:
        """Look the secret up anew at the next call, as after a sign-out."""
        self._known.pop(secret, None)

    def forget_all(self) -> None:
        """Look every secret up anew."""
        self._known.clear()

    def _look_up(self, store: Store, secret: str) -> Actor | None:
        with store.glancing() as db:
            return self._find(db, secret)


token_actors = ActorFinder(find_api_actor)
session_actors = ActorFinder(find_session_actor)


async def find_signed_in(connection: HTTPConnection) -> Actor | None:
    """The person whose session cookie came with the request or the websocket."""
    secret = connection.cookies.get(session_cookie_name())
    return await session_actors.find(secret) if secret else None


def is_same_site(headers: Headers) -> bool:
    """Whether a page of this very site sent the request.

    Browsers say so in `Sec-Fetch-Site`, or (over plain HTTP, not to this machine) only in `Origin`.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == headers.get("host")


class Needs:
    """A dependency: the actor, who has the permission (None: whoever is signed in)."""

    def __init__(self, permission: Permission | None) -> None:
        self.permission = permission

    async def __call__(self, request: Request) -> Actor:
        actor = await _authenticate(request)
        if self.permission is not None:
            require(actor, self.permission)
        return actor


def needs(permission: Permission | None) -> Any:
    """What the `Annotated` actor of a route depends on; it needs this permission."""
    return Depends(Needs(permission))


async def _authenticate(request: Request) -> Actor:
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, secret = header.partition(" ")
        actor = await token_actors.find(secret.strip()) if scheme.lower() == "bearer" else None
        if actor is None:
            raise Unauthenticated(
                "The token is unknown, revoked or expired; "
                "make one with `python -m rlhf_core token create`."
            )
        return actor
    signed_in = await find_signed_in(request)
    if signed_in is None:
        raise Unauthenticated(
            "No token came with the request: send `Authorization: Bearer ...`, "
            "or sign in at /login in a browser."
        )
    if request.method not in READING and not is_same_site(request.headers):
        raise Forbidden(
            "This request came with a session cookie from another site; "
            "use a token (`Authorization: Bearer ...`) outside of the dashboard."
        )
    return signed_in
