"""Lets a browser fetch and compile a page's big script while the small ones before it still run."""

from collections.abc import Collection
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHARTS = "PlotlyChart.*.js"
"""Five megabytes, which Streamlit asks for when the first chart arrives: after all else."""


class EarlyScripts:
    """Names the script of charts in the header of the pages (paths) that draw them.

    `static` is the folder that is served as `/static`. Where it has no such script (a release of
    Streamlit that names it otherwise), nothing is said, and it comes late.
    """

    def __init__(self, app: ASGIApp, static: Path, *, pages: Collection[str]) -> None:
        self._app = app
        self._pages = frozenset(pages)
        found = next(static.glob(f"js/{CHARTS}"), None)
        self._link = found and f"</static/js/{found.name}>; rel=modulepreload".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._pages or self._link is None:
            await self._app(scope, receive, send)
            return

        async def send_with_link(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 200:
                message = {**message, "headers": [*message["headers"], (b"link", self._link)]}
            await send(message)

        await self._app(scope, receive, send_with_link)
