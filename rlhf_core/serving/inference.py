"""The inference process: loopback HTTP around the promoted model.

It follows the aliases and the deployments by itself, so that nothing has to be restarted or told
after a promotion.
Only callers that know the installation's key are answered.
"""

import contextlib
import hmac
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rlhf_core.config import Settings
from rlhf_core.errors import InvalidInput, NotFound, RlhfError, TooLarge, Unavailable
from rlhf_core.registry.service import POLICY_MODEL, REWARD_MODEL
from rlhf_core.serving.chat import ChatBody, ChatService
from rlhf_core.serving.client import SECRET_HEADER, derive_secret
from rlhf_core.serving.loader import LoadedModel, load_version
from rlhf_core.serving.logbook import Logbook
from rlhf_core.serving.policies import PolicyShelf
from rlhf_core.serving.reranking import MAX_TEXTS, RerankBody, RerankService, describe
from rlhf_core.serving.speech import SpeechModel
from rlhf_core.serving.traffic import Traffic
from rlhf_core.store.engine import Store

LOGGER = logging.getLogger(__name__)
POLL_S = 1.0
MAX_BODY_BYTES = 64 * 1024 * 1024
GRACE_S = 5.0

Text = Annotated[str, Field(strict=True)]
Body = TypeVar("Body", bound=BaseModel)


class ScoreBody(BaseModel):
    """What `/score` takes: as many prompts as completions."""

    model_config = ConfigDict(extra="forbid")

    prompts: list[Text] = Field(max_length=MAX_TEXTS)
    completions: list[Text] = Field(max_length=MAX_TEXTS)


class InferenceService:
    """The endpoints. Each request keeps the model that it began with, also through a swap."""

    def __init__(
        self,
        rewards: Traffic[LoadedModel],
        shelf: PolicyShelf,
        logbook: Logbook,
        *,
        patience_s: float,
        speech_model: str = "",
    ) -> None:
        self._rewards = rewards
        self._shelf = shelf
        self._rerank = RerankService(rewards, logbook, patience_s=patience_s)
        self._chat = ChatService(shelf, lambda: rewards.production.current)
        self._speech = SpeechModel(speech_model)
        self._logbook = logbook

    async def health(self, _request: Request) -> Response:
        """Which versions serve, which deployments get traffic, and what is wrong."""
        production, policy = self._rewards.production, self._shelf.traffic.production
        return JSONResponse(
            {
                "is_ready": production.current is not None,
                **describe(production.current),
                "problem": production.problem,
                "policy": None if policy.current is None else policy.current.name,
                "policy_problem": policy.problem,
                "deployments": {
                    REWARD_MODEL: self._rewards.describe(),
                    POLICY_MODEL: self._shelf.traffic.describe(),
                },
            }
        )

    async def rerank(self, request: Request) -> Response:
        """The candidates' order; the original one, flagged, where there is no sound model."""
        return JSONResponse(await self._rerank.rerank(await _read_body(request, RerankBody)))

    async def score(self, request: Request) -> Response:
        """P(good) of each pair by what serves; 503 where there is no sound model."""
        started = time.perf_counter()
        body = await _read_body(request, ScoreBody)
        num = len(body.completions)
        if len(body.prompts) != num:
            raise InvalidInput(f"{len(body.prompts)} prompts, but {num} completions.")
        current = self._rewards.production.current
        try:
            model = self._rerank.need(current)
            scores = await self._rerank.compute(model, body.prompts, body.completions)
        except Unavailable as error:
            self._note_score(num, started, current, str(error))
            raise
        self._note_score(num, started, current, None)
        return JSONResponse({"scores": scores, **describe(current)})

    async def chat(self, request: Request) -> Response:
        """The answer of a policy as it comes; 503 where there is no sound one."""
        return await self._chat.chat(await _read_body(request, ChatBody))

    async def transcribe(self, request: Request) -> Response:
        """What is said in a WAV recording, the body; 503 where no speech model is configured."""
        content = await _read_bytes(request)
        return JSONResponse({"text": await run_in_threadpool(self._speech.transcribe, content)})

    def _note_score(
        self, num: int, started: float, current: LoadedModel | None, reason: str | None
    ) -> None:
        self._logbook.note(
            "score",
            num_candidates=num,
            latency_ms=(time.perf_counter() - started) * 1000,
            version_id=None if current is None else current.version_id,
            is_fallback=reason is not None,
            is_error=reason is not None and current is not None,
            reason=reason,
        )


class SecretGate:
    """Lets no request through that does not bear the secret."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or hand on."""
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(SECRET_HEADER.encode(), b"")
            if not hmac.compare_digest(given, self._secret):
                refusal = JSONResponse({"error": "The shared secret is missing or wrong."}, 401)
                await refusal(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)


def build_app(service: InferenceService, secret: str) -> ASGIApp:
    """The ASGI application: `/health`, `/rerank`, `/score`, `/chat`, `/transcribe`."""
    app = Starlette(
        routes=[
            Route("/health", service.health),
            Route("/rerank", service.rerank, methods=["POST"]),
            Route("/score", service.score, methods=["POST"]),
            Route("/chat", service.chat, methods=["POST"]),
            Route("/transcribe", service.transcribe, methods=["POST"]),
        ],
        exception_handlers={RlhfError: _explain},
    )
    return SecretGate(app, secret)


def run_inference(
    store: Store,
    settings: Settings,
    *,
    exit_with_parent: bool = False,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT, SIGTERM or, with `exit_with_parent`, the end of stdin.

    Raises Unavailable if the port is taken.
    """
    listener = _listen(settings.inference_port)
    capacity = settings.versions_in_memory
    rewards = Traffic(store, load_version, model_name=REWARD_MODEL, capacity=capacity)
    shelf = PolicyShelf(store, capacity=capacity)
    logbook = Logbook(store, knows_best=True)
    ended = threading.Event()

    def follow(look: Callable[[], None]) -> None:
        while not ended.is_set():
            look()
            ended.wait(POLL_S)

    service = InferenceService(
        rewards,
        shelf,
        logbook,
        patience_s=settings.inference_timeout_s,
        speech_model=settings.speech_model,
    )
    config = uvicorn.Config(
        build_app(service, derive_secret(settings.read_secret_key())),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=int(GRACE_S),
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)
    # One a look: while a canary is being loaded what serves is followed all the same.
    looks = [
        look
        for traffic in (rewards, shelf.traffic)
        for look in (traffic.production.refresh, traffic.refresh_deployment)
    ]
    followers = [
        threading.Thread(target=follow, args=(look,), name="follow alias", daemon=True)
        for look in looks
    ]
    for follower in followers:
        follower.start()
    if exit_with_parent:
        threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
    # uvicorn raises the signal again once it has shut down: without this, that ends the process
    # before the logbook is written.
    signal.signal(signal.SIGTERM, lambda *_: None)
    on_ready()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        ended.set()
        for traffic in (rewards, shelf.traffic):
            traffic.forget_attempt()
        logbook.close()
        for follower in followers:
            follower.join(timeout=GRACE_S)


def _listen(port: int) -> socket.socket:
    # With the protocol named, asyncio sets TCP_NODELAY; without, small answers wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"Port {port} is taken ({error.strerror}): end the process that has it, or set "
            "RLHF_INFERENCE_PORT."
        ) from error
    return listener


def _end_with_stdin(server: uvicorn.Server) -> None:
    """The parent holds the other end of stdin: however it dies, this reads to the end."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):  # not sys.stdin: its lock, held here, aborts the interpreter's end
            pass
    server.should_exit = True
    time.sleep(GRACE_S)
    os._exit(0)  # a request or a loading model hangs; nobody waits for it any more


async def _read_bytes(request: Request) -> bytes:
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise TooLarge(f"The request is longer than {MAX_BODY_BYTES} bytes.")
    return bytes(content)


async def _read_body(request: Request, kind: type[Body]) -> Body:
    try:
        return kind.model_validate_json(await _read_bytes(request))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise InvalidInput(f"{place}: {first['msg']}.") from error


async def _explain(_request: Request, error: Exception) -> Response:
    status = {InvalidInput: 422, NotFound: 404, TooLarge: 413}.get(type(error), 503)
    served = getattr(error, "served", None)
    return JSONResponse({"error": str(error)} | ({"served": served} if served else {}), status)
