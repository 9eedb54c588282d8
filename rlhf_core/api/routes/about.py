"""Health, and the description of the API itself."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from rlhf_core.accounts.permissions import Actor
from rlhf_core.api.auth import needs
from rlhf_core.api.documentation import render_documentation
from rlhf_core.api.schemas import HealthOut

router = APIRouter()


@router.get("/health", response_model=HealthOut, summary="Whether the server answers")
async def get_health() -> dict[str, str]:
    """Open to everybody; says nothing else."""
    return {"status": "ok"}


@router.get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request, _actor: Annotated[Actor, needs(None)]) -> dict[str, Any]:
    """The OpenAPI document."""
    schema: dict[str, Any] = request.app.openapi()
    return schema


@router.get("/docs", include_in_schema=False)
async def get_documentation(
    request: Request, _actor: Annotated[Actor, needs(None)]
) -> HTMLResponse:
    """The OpenAPI document as a page."""
    return HTMLResponse(render_documentation(request.app.openapi()))
