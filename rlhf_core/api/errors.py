"""The error tree as HTTP answers: translated once, here.

Every refusal has the body `{"error": {"type": ..., "message": ..., "field": ...}}`.
"""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from rlhf_core.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotEnoughData,
    NotFound,
    RlhfError,
    TooLarge,
    Unavailable,
)
from rlhf_core.feedback.drafts import explain_first

STATUS: dict[type[RlhfError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotEnoughData: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

UNREADABLE = "The body is no JSON object in UTF-8; send one with `Content-Type: application/json`."


class Unauthenticated(RlhfError):
    """No usable token and no session came with the request."""


def error_response(status: int, kind: str, message: str, field: str | None = None) -> JSONResponse:
    """The answer that says what is wrong."""
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    error = {"type": kind, "message": printable(message), "field": field and printable(field)}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def printable(text: str) -> str:
    """Without lone surrogates, which UTF-8 cannot carry."""
    return text.encode(errors="backslashreplace").decode()


def add_error_handlers(app: FastAPI) -> None:
    """Let the app answer our errors, broken bodies, and its own refusals in one form."""
    app.add_exception_handler(RlhfError, _answer_expected)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_refused)
    app.add_exception_handler(Exception, _answer_unexpected)


async def _answer_expected(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Unauthenticated):
        return error_response(HTTPStatus.UNAUTHORIZED, "Unauthenticated", str(error))
    status = next(
        (STATUS[kind] for kind in type(error).__mro__ if kind in STATUS),
        HTTPStatus.INTERNAL_SERVER_ERROR,
    )
    field = error.field if isinstance(error, InvalidInput) else None
    return error_response(status, type(error).__name__, str(error), field)


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
    return await _answer_expected(request, explain_request(error))


def explain_request(error: RequestValidationError) -> RlhfError:
    """The first thing that is wrong with a request, as a sentence."""
    first = error.errors()[0]
    where, *inside = first["loc"]
    kind = first["type"]
    if kind == "json_invalid":
        message = f"{UNREADABLE} ({first['ctx']['error']} at character {inside[0]}.)"
    elif where == "body" and not inside and kind != "value_error":
        message = "The body is missing; send a JSON object." if kind == "missing" else UNREADABLE
    else:
        return explain_first({**first, "loc": inside or [where]})
    return InvalidInput(message)


async def _answer_refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
    if error.status_code == HTTPStatus.BAD_REQUEST:  # the body could not even be decoded
        return error_response(HTTPStatus.UNPROCESSABLE_ENTITY, "InvalidInput", UNREADABLE)
    phrase = HTTPStatus(error.status_code).phrase
    response = error_response(error.status_code, phrase.replace(" ", ""), f"{error.detail}.")
    response.headers.update(error.headers or {})
    return response


async def _answer_unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return error_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, "InternalError", "Something broke here; it was logged."
    )
