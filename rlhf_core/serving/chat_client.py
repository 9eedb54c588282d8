"""Asking the inference process for the answer of a policy, as it comes."""

import json
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, NotFound, RlhfError, TooLarge, Unavailable
from rlhf_core.serving.client import CONNECT_TIMEOUT_S, NONSENSE, SECRET_HEADER, derive_secret

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loopback only; to read the machine's certificates would take 10 ms a request."""
PIECE_TIMEOUT_S = 120.0
"""A version that is not in memory is loaded first, and others may be answered before."""


class NotAnswered(Unavailable):
    """No answer. `served` is what the process said of who was to give it, None where it did not."""

    def __init__(self, message: str, served: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.served = served


REFUSALS: dict[int, type[RlhfError]] = {422: InvalidInput, 404: NotFound, 413: TooLarge}


@asynccontextmanager
async def ask_policy(body: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The lines of `/chat` (see `serving.chat`), the first of which names the version.

    Raises what the process refuses, Unavailable where it does not run or breaks off.
    """
    with _translated():
        client = httpx.AsyncClient(**_options())
        async with client, client.stream("POST", "/chat", json=body) as response:
            if response.status_code != httpx.codes.OK:
                raise _read_refusal(response.status_code, await response.aread())
            yield _read_lines(response)


def stream_policy(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same lines for a thread. Close the iterator to break the answer off."""
    with (
        _translated(),
        httpx.Client(**_options()) as client,
        client.stream("POST", "/chat", json=body) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise _read_refusal(response.status_code, response.read())
        for line in response.iter_lines():
            found = _read_line(line)
            if "waiting" not in found:
                yield found


def _options() -> dict[str, Any]:
    settings = get_settings()
    return {
        "base_url": f"http://127.0.0.1:{settings.inference_port}",
        "headers": {SECRET_HEADER: derive_secret(settings.read_secret_key())},
        "timeout": httpx.Timeout(PIECE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        "trust_env": False,
        "verify": NO_TLS,
    }


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        raise Unavailable("The inference process does not run.") from error
    except httpx.ConnectTimeout as error:
        raise Unavailable("The inference process takes no connection; try again.") from error
    except httpx.TimeoutException as error:
        raise Unavailable(f"The policy took longer than {PIECE_TIMEOUT_S:g} s.") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"The inference process broke off: {error}.") from error


async def _read_lines(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        found = _read_line(line)
        if "waiting" not in found:
            yield found


def _read_line(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise Unavailable(NONSENSE) from error
    if not isinstance(found, dict):
        raise Unavailable(NONSENSE)
    if "error" in found:
        raise Unavailable(str(found["error"]))
    return found


def _read_refusal(status: int, content: bytes) -> RlhfError:
    served = None
    try:
        found = json.loads(content)
        message = str(found["error"])
        served = found.get("served")
    except (ValueError, KeyError, TypeError, AttributeError):
        message = NONSENSE
    if status in REFUSALS:
        return REFUSALS[status](message)
    return NotAnswered(message, served if isinstance(served, dict) else None)
