"""The API as one ASGI app, mounted at `/api`. No route exists without a permission."""

from typing import Any

import anyio
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from rlhf_core.api.auth import Needs
from rlhf_core.api.errors import add_error_handlers
from rlhf_core.api.routes import (
    about,
    chat,
    comparisons,
    datasets,
    events,
    feedback,
    model_files,
    models,
    promotion,
    queues,
    releases,
    serving,
    training,
    version_comparisons,
)
from rlhf_core.api.writer import Writer
from rlhf_core.serving.client import InferenceClient
from rlhf_core.serving.logbook import Logbook
from rlhf_core.store.engine import get_store

OPEN_ROUTES = frozenset({"/health"})
MAX_INFERENCE_CALLS = 16
"""Calls at once to a slow inference process must not take the threads that all others need."""
TITLE = "RLHF Loop API"
DESCRIPTION = (
    "Send `Authorization: Bearer <token>`; `python -m rlhf_core token create` makes one with the "
    "scopes you name. Times are ISO 8601; without a zone they are UTC. A text holds at most "
    "1,000,000 bytes. A 2xx means that the data is on the disk."
)


def create_api() -> FastAPI:
    """The app, writing to the store of the settings. Call `close_api` at the end."""
    api = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        servers=[{"url": "/api"}],
    )
    api.state.writer = Writer(get_store())
    api.state.logbook = Logbook(get_store())
    api.state.inference = InferenceClient(logbook=api.state.logbook)
    api.state.inference_places = anyio.CapacityLimiter(MAX_INFERENCE_CALLS)
    add_error_handlers(api)
    routers = (
        feedback,
        comparisons,
        queues,
        events,
        serving,
        chat,
        datasets,
        models,
        promotion,
        releases,
        training,
        version_comparisons,
        about,
        model_files,  # last: its `/{number}` would take fixed words as numbers
    )
    for router in (each.router for each in routers):
        api.router.routes.extend(router.routes)  # flat, so that nothing hides from the check
    for route in api.routes:
        if not is_open(route):
            permission_of(route)
    api.openapi = lambda: _describe(api)  # type: ignore[method-assign]
    return api


def close_api(api: FastAPI) -> None:
    """Finish what waits to be written, and end the app's threads and connections."""
    api.state.writer.close()
    api.state.inference.close()
    api.state.logbook.close()


def is_open(route: BaseRoute) -> bool:
    """Whether the route answers everybody."""
    return getattr(route, "path", None) in OPEN_ROUTES


def permission_of(route: BaseRoute) -> Any:
    """The permission that the route needs; None where signing in is enough.

    Raises:
        RuntimeError: the route names none.
    """
    if isinstance(route, APIRoute):
        for dependency in route.dependant.dependencies:
            if isinstance(dependency.call, Needs):
                return dependency.call.permission
    path = getattr(route, "path", repr(route))
    raise RuntimeError(f"The route {path} names no permission: give its actor `needs(...)`.")


def _describe(api: FastAPI) -> dict[str, Any]:
    if api.openapi_schema is None:
        schema = get_openapi(
            title=api.title,
            version=api.version,
            description=api.description,
            routes=api.routes,
            servers=api.servers,
        )
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for route in api.routes:
            if isinstance(route, APIRoute) and route.include_in_schema and not is_open(route):
                permission = permission_of(route)
                for method in route.methods or ():
                    operation = schema["paths"][route.path][method.lower()]
                    operation["security"] = [{"token": []}]
                    operation["x-permission"] = permission and permission.value
        api.openapi_schema = schema
    return api.openapi_schema
