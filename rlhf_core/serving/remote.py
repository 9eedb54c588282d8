"""Policies that another server holds: any that speaks OpenAI's API (vLLM, a hosted one).

A version of this kind is a folder with `remote.json`: where the server is, what the model is
called there, and which environment variable holds the key. The key itself is never stored.
"""

import asyncio
import json
import logging
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.artifacts import write_artifact
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.policies.chat import USUAL_TOKENS, FinishReason
from rlhf_core.registry.service import POLICY_MODEL, register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.answering import Put, Question
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import ModelKind

LOGGER = logging.getLogger(__name__)
FILE = "remote.json"
KEY_PREFIX = "RLHF_REMOTE_KEY_"
"""No other variable is ever sent to a server that a version names."""
CONNECT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 600.0
MAX_SHOWN_CHARS = 300
MAX_ANSWER_CHARS = 200_000
_KEY_NAME = re.compile(KEY_PREFIX + r"[A-Z0-9_]{1,60}")


@dataclass(frozen=True)
class RemoteSpec:
    """Where a policy answers. `base_url` ends before `/chat/completions`.

    `timeout_s` is the longest wait for the first, and for each further, piece of an answer.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what cannot be asked. Raises InvalidInput naming the field."""
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise InvalidInput(
                f"base_url is {self.base_url!r}: give http(s)://<host>/v1, without a user or key.",
                field="base_url",
            )
        if not self.model.strip():
            raise InvalidInput("model is empty: say what the server calls it.", field="model")
        if self.api_key_env is not None and not _KEY_NAME.fullmatch(self.api_key_env):
            raise InvalidInput(
                f"api_key_env is {self.api_key_env!r}: name a variable that begins with "
                f"{KEY_PREFIX}, such as {KEY_PREFIX}VLLM.",
                field="api_key_env",
            )
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise InvalidInput(
                f"timeout_s is {self.timeout_s}: choose up to {MAX_TIMEOUT_S:g}.", field="timeout_s"
            )


def register_remote(
    db: Session, spec: RemoteSpec, *, actor: Actor, model_name: str = POLICY_MODEL
) -> ModelVersionView:
    """The next version of `model_name`: it is promoted, tried out and rolled back as any other."""
    require(actor, Permission.RUN_JOBS)
    said = asdict(spec)

    def fill(folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(said, indent=1))

    artifact = write_artifact(get_settings().artifact_dir / "remote" / new_id().hex, fill)
    report = TrainReport(artifact.path, metrics={}, params=said, seed=0, num_rows=0)
    return register_version(
        db,
        actor=actor,
        model_name=model_name,
        kind=ModelKind.POLICY_REMOTE,
        report=report,
        artifact=artifact,
    )


def open_remote(folder: Path, *, name: str) -> "RemoteSource":
    """The way to the server that a verified folder names; it has answered once.

    Raises InvalidInput for a folder that names none, Unavailable where it does not answer.
    """
    try:
        spec = RemoteSpec(**json.loads((folder / FILE).read_text()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{folder / FILE} names no server ({type(error).__name__}).") from error
    source = RemoteSource(spec, name=name)
    source.try_out()
    return source


class RemoteSource:
    """A policy that another server holds."""

    def __init__(self, spec: RemoteSpec, *, name: str) -> None:
        self.spec = spec
        self.name = name

    def prepare(self, question: Question, seeds: Sequence[int]) -> "list[RemoteAnswer]":
        """An answer for each of the seeds; nothing is sent yet."""
        body: dict[str, Any] = {
            "model": self.spec.model,
            "messages": [{"role": role, "content": text} for role, text in question.messages],
            "max_tokens": question.max_tokens or USUAL_TOKENS,
            "temperature": question.temperature,
            "top_p": question.top_p,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if question.stop:
            body["stop"] = list(question.stop)
        if question.seed is None:
            return [RemoteAnswer(self, body) for _ in seeds]
        return [RemoteAnswer(self, {**body, "seed": seed}) for seed in seeds]

    def try_out(self) -> None:
        """Have it say a word. Raises Unavailable where that fails."""
        (answer,) = self.prepare(Question([("user", "Hello")], max_tokens=2), [0])

        async def listen() -> None:
            ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

            def put(piece: str | Exception | None) -> None:
                if not isinstance(piece, str) and not ended.done():
                    ended.set_result(piece)

            await answer.begin(put)
            failure = await ended
            if failure is not None:
                raise failure

        asyncio.run(listen())

    def options(self) -> dict[str, Any]:
        """How its server is asked. Raises Unavailable where the key is not set here."""
        headers = {}
        name = self.spec.api_key_env
        if name is not None:
            key = os.environ.get(name)
            if not key:
                raise Unavailable(f"{self.name} needs a key: set {name} for the inference process.")
            headers["Authorization"] = f"Bearer {key}"
        return {
            "base_url": self.spec.base_url.rstrip("/") + "/",
            "headers": headers,
            "timeout": httpx.Timeout(self.spec.timeout_s, connect=CONNECT_TIMEOUT_S),
            "verify": _tls(),
            "follow_redirects": False,  # the key goes to the named server only
        }


class RemoteAnswer:
    """An answer on its way from another server."""

    def __init__(self, source: RemoteSource, body: dict[str, Any]) -> None:
        self._source = source
        self._body = body
        self._task: asyncio.Task[None] | None = None
        self._is_thinking = False
        self.text = ""
        self.finish_reason: FinishReason | None = None
        self.prompt_tokens = 0
        self.num_tokens = 0

    async def begin(self, put: Put) -> None:
        """Send it. Raises Unavailable where the server does not take it on."""
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(put, accepted))
        try:
            await accepted
        except asyncio.CancelledError:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Close the connection, which ends it there too."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, put: Put, accepted: "asyncio.Future[None]") -> None:
        try:
            await self._read(put, accepted)
        except asyncio.CancelledError:
            accepted.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - told to those who wait, whatever it is
            failure = self._explain(error)
            if accepted.done():
                put(failure)
            else:
                accepted.set_exception(failure)
        else:
            put(None)

    async def _read(self, put: Put, accepted: "asyncio.Future[None]") -> None:
        async with (
            httpx.AsyncClient(**self._source.options()) as client,
            client.stream("POST", "chat/completions", json=self._body) as response,
        ):
            if response.status_code != httpx.codes.OK:
                said = (await response.aread())[:MAX_SHOWN_CHARS]
                LOGGER.warning("%s answered %d: %r", self._source.name, response.status_code, said)
                raise Unavailable(f"its server answered {response.status_code}")
            if not accepted.done():
                accepted.set_result(None)
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue  # a comment, or the blank line between two
                said_now = line.removeprefix("data:").strip()
                if said_now == "[DONE]":
                    break
                for piece in self._take(json.loads(said_now)):
                    self.text += piece
                    put(piece)
                if len(self.text) > MAX_ANSWER_CHARS:
                    raise Unavailable(f"its answer has more than {MAX_ANSWER_CHARS:,} characters")
        if self.finish_reason is None:
            raise Unavailable("its server broke off in mid-answer")

    def _take(self, chunk: dict[str, Any]) -> list[str]:
        """The pieces of text of one event; thoughts that come apart are put in <think> marks."""
        if "error" in chunk:
            LOGGER.warning("%s: %r", self._source.name, str(chunk["error"])[:MAX_SHOWN_CHARS])
            raise Unavailable("its server failed in mid-answer")
        usage = chunk.get("usage") or {}
        self.prompt_tokens = int(usage.get("prompt_tokens") or self.prompt_tokens)
        self.num_tokens = int(usage.get("completion_tokens") or self.num_tokens)
        pieces: list[str] = []
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            thought = delta.get("reasoning_content") or delta.get("reasoning") or ""
            content = delta.get("content") or ""
            if thought:
                pieces.append(thought if self._is_thinking else f"<think>{thought}")
                self._is_thinking = True
            if self._is_thinking and (content or choice.get("finish_reason")):
                pieces.append("</think>")
                self._is_thinking = False
            pieces.append(content)
            if (thought or content) and not usage:
                self.num_tokens += 1  # until the server says how many they are
            if reason := choice.get("finish_reason"):
                self.finish_reason = "length" if reason == "length" else "stop"
        return [clean for piece in pieces if (clean := piece.replace("\0", ""))]

    def _explain(self, error: Exception) -> Unavailable:
        name = self._source.name
        if isinstance(error, RlhfError):
            what = str(error)
            return Unavailable(what if what.startswith(name) else f"{name}: {what}; try again.")
        if isinstance(error, httpx.TimeoutException):
            return Unavailable(f"{name}: its server does not answer in time; try again.")
        if isinstance(error, httpx.HTTPError):
            return Unavailable(f"{name}: its server cannot be reached; try again.")
        LOGGER.exception("%s answered nonsense", name, exc_info=error)
        return Unavailable(f"{name}: its server gave an answer that makes no sense; try again.")


@lru_cache
def _tls() -> ssl.SSLContext:
    """The machine's certificates, read once: that takes 10 ms."""
    return ssl.create_default_context()
