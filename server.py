"""The launcher: one process serves dashboard, API and sign-in, and keeps the others running.

`python server.py` (or `make run`). Streamlit runs inside as an ASGI app under uvicorn, behind our
gate; `streamlit run` would leave all of that out.
"""

import contextlib
import gc
import logging
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType

import streamlit as st
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config as streamlit_config
from streamlit.runtime.pages_manager import PagesManager

from pages._ui.guard import mark_launched
from rlhf_core.accounts.tokens import sign_in_url
from rlhf_core.api.app import close_api, create_api
from rlhf_core.api.children import Children
from rlhf_core.api.gate import Gate
from rlhf_core.api.headers import MEBIBYTE, BodyLimit, SecurityHeaders, build_policy
from rlhf_core.api.sign_in import create_sign_in_routes
from rlhf_core.api.startup import listen, make_children, prepare
from rlhf_core.config import SOURCE_ROOT, get_settings
from rlhf_core.errors import RlhfError
from rlhf_core.store.engine import get_store

API_BODY_BYTES = 8 * MEBIBYTE
SIGN_IN_BODY_BYTES = 64 * 1024
SHUTDOWN_S = 2
COLLECT_AFTER = (5_000, 20, 20)
"""Python's own (700, 10, 10) looks at all objects with every hundredth key: up to 0.2 s for all."""

logger = logging.getLogger("rlhf_core.server")


def build_app(children: Children | None, link: str) -> ASGIApp:
    """Dashboard, API and sign-in behind the gate."""
    PagesManager.uses_pages_directory = False  # True would run a page without app.py before it
    mark_launched()
    api = create_api()

    @contextlib.asynccontextmanager
    async def run_beside(_app: st.App) -> AsyncIterator[dict[str, object]]:
        import numpy  # noqa: F401 - paid here, not by the first visitor
        import pandas as pd
        import plotly.graph_objects  # noqa: F401
        import pyarrow as pa

        pa.Table.from_pandas(pd.DataFrame({"warm": [1]}))
        gc.collect()
        gc.freeze()  # the libraries' objects are never garbage: do not look at them again
        gc.set_threshold(*COLLECT_AFTER)
        say_where(link)
        if children is not None:
            children.start()
        yield {}
        close_api(api)

    upload_bytes = (streamlit_config.get_option("server.maxUploadSize") + 1) * MEBIBYTE
    limits = {"/api/": API_BODY_BYTES, "/login": SIGN_IN_BODY_BYTES, "/": upload_bytes}
    index_html = (Path(st.__file__).parent / "static" / "index.html").read_text()
    dashboard = st.App(
        SOURCE_ROOT / "app.py",
        lifespan=run_beside,
        routes=create_sign_in_routes(),
        on_script_error=report_script_error,
    )
    app = BodyLimit(split_off("/api", api, dashboard), limits=limits)
    return SecurityHeaders(Gate(app), policy=build_policy(index_html))


def split_off(prefix: str, app: ASGIApp, rest: ASGIApp) -> ASGIApp:
    """HTTP below the prefix goes to `app`, all else to `rest`.

    So the API does not pass the dashboard's own layers (cookies, compression): 10 % faster.
    """

    async def route(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(f"{prefix}/"):
            await app({**scope, "root_path": prefix}, receive, send)
        else:
            await rest(scope, receive, send)

    return route


def report_script_error(error: Exception) -> bool:
    """Log what went wrong in a page, and show one sentence instead of a traceback."""
    logger.error("A page failed.", exc_info=error)
    st.error("Something broke on this page. It was logged; try again, or tell an admin.")
    return True


def say_where(link: str) -> None:
    """Print the address, and a link that signs the admin in once."""
    print(
        f"\nRLHF Loop runs. Sign in with this link, which works once:\n\n"
        f"    {sign_in_url(link)}\n\n"
        "Another one: python -m rlhf_core user link NAME. Ctrl-C ends everything.\n",
        flush=True,
    )


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def main() -> None:
    """Serve until Ctrl-C or SIGTERM; then end the children too."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    signal.signal(signal.SIGTERM, _leave)  # uvicorn raises the signal again after its shutdown
    settings = get_settings()
    try:
        listener = listen(settings.host, settings.port)
        link = prepare(get_store(), settings)
    except RlhfError as error:
        sys.exit(f"Error: {error}")
    children = make_children(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            build_app(children, link),
            ws="websockets-sansio",
            ws_max_size=32 * MEBIBYTE,
            access_log=False,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    )
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        print("\nStopping ...", flush=True)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C leaves no orphan
        if children is not None:
            children.stop()
        get_store().close()


if __name__ == "__main__":
    main()
