"""Security headers, and the limit of a request's size. Pure ASGI: they see every answer."""

import base64
import hashlib
import re
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlhf_core.api.errors import error_response

MEBIBYTE = 2**20
DRAIN_BYTES = 256 * MEBIBYTE


def build_policy(index_html: str) -> str:
    """The Content-Security-Policy under which the dashboard's own page still runs.

    Its inline scripts are allowed by their hash; `blob:` is for the dashboard's own components:
    what its recorder recorded, say, is fetched from one.
    """
    inline = re.findall(r"<script>(.*?)</script>", index_html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()) for script in inline)
    hashes = " ".join(f"'sha256-{digest.decode()}'" for digest in digests)
    return (
        f"default-src 'self'; script-src 'self' blob: {hashes}; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
        "media-src 'self' blob:; connect-src 'self' blob:; worker-src 'self' blob:; "
        "frame-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'self'; "
        "object-src 'none'"
    )


class SecurityHeaders:
    """Adds the policy and its companions to every HTTP answer."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            # not `no-referrer`: with it browsers send `Origin: null` with our own forms
            (b"referrer-policy", b"same-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"permissions-policy", b"camera=(), geolocation=(), payment=(), usb=()"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._headers]}
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _BodyTooLarge(Exception):
    pass


class BodyLimit:
    """Refuses a body above the limit of its path's prefix (the first that fits) with 413.

    What is sent beyond is read and dropped, so that the client gets to read the answer.
    """

    def __init__(self, app: ASGIApp, limits: Mapping[str, int]) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next(
            size for prefix, size in self._limits.items() if scope["path"].startswith(prefix)
        )
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        seen = 0
        is_answered = is_complete = is_too_large = False

        async def receive_counted() -> Message:
            nonlocal seen, is_complete, is_too_large
            message = await receive()
            seen += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if seen > limit:
                is_too_large = True
                raise _BodyTooLarge
            return message

        async def send_noted(message: Message) -> None:
            nonlocal is_answered
            if is_too_large and not is_answered:
                return  # the app took our exception for a broken body: ours is the right answer
            is_answered = True
            await send(message)

        try:
            if declared.isdigit() and int(declared) > limit:
                is_too_large = True
            else:
                await self._app(scope, receive_counted, send_noted)
        except Exception:
            if is_answered or not is_too_large:
                raise
        if is_too_large and not is_answered:
            while not is_complete and seen <= DRAIN_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                is_complete = not message.get("more_body", False)
            refusal = error_response(
                413,
                "TooLarge",
                f"The request's body is larger than {limit:,} bytes, the limit here; "
                "send less at once.",
            )
            await refusal(scope, receive, send)
