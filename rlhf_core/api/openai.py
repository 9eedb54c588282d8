"""The words of OpenAI's API: what its clients send, and what they understand."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from rlhf_core.api.errors import (
    STATUS,
    UNREADABLE,
    Unauthenticated,
    explain_request,
    printable,
)
from rlhf_core.errors import InvalidInput, RlhfError
from rlhf_core.feedback.drafts import FilledText, Name, Text

RETRY_AFTER_S = 2
TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "service_unavailable_error",
}


class ContentPart(BaseModel):
    """A part of a message; only text can be answered."""

    model_config = ConfigDict(extra="ignore")

    type: Literal["text"]
    text: Text


class MessageIn(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[ContentPart]

    def as_text(self) -> str:
        """The content as one text."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream holds beside the answer."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool = False


class ChatIn(BaseModel):
    """A conversation to be answered; what OpenAI's API knows beyond this is ignored.

    `model` is `assistant` (the promoted policy) or a version, such as `assistant v3`. Our own:
    `best_of` answers are given and the promoted reward model takes the best; `chat_id` is an id of
    yours for the conversation.
    """

    model_config = ConfigDict(extra="ignore")

    model: FilledText
    messages: list[MessageIn] = Field(min_length=1, max_length=1_000)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    n: Literal[1] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: Name | None = None
    store: bool = Field(default=True, description="false: the answer is not kept, so not rated.")
    best_of: int = Field(default=1, ge=1, le=16)
    chat_id: Name | None = None

    def _temperature(self) -> float:
        return 1.0 if self.temperature is None else self.temperature

    def to_inference(self) -> dict[str, Any]:
        """What the inference process is asked."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        roles = {"developer": "system"}
        return {
            "model": self.model,
            "messages": [
                {"role": roles.get(one.role, one.role), "content": one.as_text()}
                for one in self.messages
            ],
            "max_tokens": self.max_completion_tokens or self.max_tokens,
            "temperature": 0.0 if self.top_p == 0 else self._temperature(),
            "top_p": self.top_p or 1.0,
            "stop": stop,
            "seed": self.seed,
            "best_of": self.best_of,
        }


class RefusalDetail(BaseModel):
    """What is wrong: `type` in OpenAI's words, `code` in ours, `param` the field to blame."""

    message: str
    type: str
    param: str | None
    code: str


class Refusal(BaseModel):
    """Every refusal."""

    error: RefusalDetail


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Refusal, "description": "What OpenAI's API refuses so too"},
    400: {"model": Refusal, "description": "The body is no request that can be answered"},
    401: {"model": Refusal, "description": "No usable token"},
    403: {"model": Refusal, "description": "Not allowed"},
    404: {"model": Refusal, "description": "There is no such model"},
    503: {"model": Refusal, "description": "No policy answers now; see Retry-After"},
}


class OpenAiRoute(APIRoute):
    """A route whose refusals have the shape that OpenAI's clients turn into their errors."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with our errors translated."""
        handle = super().get_route_handler()

        async def handle_or_refuse(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return refuse(explain_request(error))
            except HTTPException as error:
                if error.status_code != HTTPStatus.BAD_REQUEST:
                    raise
                return refuse(InvalidInput(UNREADABLE))  # it could not even be decoded
            except RlhfError as error:
                return refuse(error)

        return handle_or_refuse


def refuse(error: RlhfError) -> JSONResponse:
    """The refusal as OpenAI's API would say it."""
    status = next(
        (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    if isinstance(error, Unauthenticated):
        status = HTTPStatus.UNAUTHORIZED
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        status = HTTPStatus.BAD_REQUEST
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    return JSONResponse({"error": describe(error, status)}, status, headers=headers)


def describe(error: RlhfError, status: HTTPStatus) -> dict[str, Any]:
    """The body of a refusal."""
    return {
        "message": printable(str(error)),
        "type": TYPES.get(status, "invalid_request_error"),
        "param": error.field if isinstance(error, InvalidInput) else None,
        "code": type(error).__name__,
    }
