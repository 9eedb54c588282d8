"""Answers of the promoted policy, in the words of OpenAI's API."""

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Request
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse, Response, StreamingResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.openai import REFUSALS, ChatIn, OpenAiRoute, describe
from rlhf_core.clock import new_id
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.feedback.drafts import InteractionDraft, Message
from rlhf_core.privacy.pseudonyms import ACCOUNT_USER, make_pseudonym
from rlhf_core.serving.answers import (
    CHAT_ID_PREFIX,
    Served,
    begin_answer,
    finish_answer,
    read_route,
)
from rlhf_core.serving.chat_client import NotAnswered, ask_policy
from rlhf_core.vocabulary import CHAT_SOURCE

router = APIRouter(responses=REFUSALS, route_class=OpenAiRoute)
CHAT_KEY = "conversation "
"""Before the id of a conversation whose user is not named: it stands for the user."""


@dataclass
class Answer:
    """One answer as it comes. `key` keeps a caller to one side of a deployment."""

    asked: ChatIn
    key: str | None = None
    served_id: uuid.UUID = field(default_factory=new_id)
    created: int = field(default_factory=lambda: int(time.time()))
    started: float = field(default_factory=time.perf_counter)
    version: str = ""
    version_id: uuid.UUID | None = None
    first: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    interaction_id: uuid.UUID | None = None
    end: dict[str, Any] | None = None
    failure: str | None = None
    is_unstored: bool = False

    @property
    def id(self) -> str:
        """The answer's id, as OpenAI's API writes it."""
        return f"{CHAT_ID_PREFIX}{self.served_id.hex}"

    def take(self, line: dict[str, Any]) -> str | None:
        """Note a line of the inference process; the piece of text that it brings."""
        if "version" in line:
            self.meet(line)
        elif "piece" in line:
            self.text += line["piece"]
            return str(line["piece"])
        else:
            self.end = line
        return None

    def meet(self, line: dict[str, Any]) -> None:
        """Note who is to answer."""
        self.first = line
        if line.get("version_id") is not None:
            self.version, self.version_id = line["version"], uuid.UUID(line["version_id"])

    def fail(self, error: RlhfError) -> None:
        """Note that no answer came, which is nobody's fault here but the version's."""
        self.failure = str(error)
        served = error.served if isinstance(error, NotAnswered) else None
        if served is not None:
            self.meet(served)

    def usage(self) -> dict[str, int]:
        """Tokens of the messages, and of all answers."""
        end = self.end or {}
        prompt, completion = end.get("prompt_tokens", 0), end.get("completion_tokens", 0)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def begin(self, db: Session) -> None:
        """Store what was asked, unless that is not wanted."""
        if self.version_id is not None and self.asked.store:
            self.interaction_id = begin_answer(db, self._draft(), version_id=self.version_id)

    def finish(self, db: Session) -> None:
        """Keep what was said, as far as it came, and how it was served."""
        if self.version_id is None and self.failure is None:
            return  # refused: there is nobody who was to answer
        end = self.end or {}
        served = Served(
            self.version_id,
            latency_ms=(time.perf_counter() - self.started) * 1000,
            num_candidates=self.asked.best_of,
            user_pseudonym=self.key,
            is_fallback=bool(end.get("is_fallback")),
            is_error=self.failure is not None,
            reason=self.failure or end.get("reason") or (None if self.end else "broken off"),
            served_id=self.served_id,
            **read_route(self.first),
        )
        finish_answer(db, self.interaction_id, self.text, served, is_whole=self.end is not None)

    def _draft(self) -> InteractionDraft:
        *before, last = self.asked.messages
        context = [Message(role=one.role, content=one.as_text()) for one in before]
        if "system_prompt" in self.first:  # what a test put before: the model was told that, too
            context.insert(0, Message(role="system", content=self.first["system_prompt"]))
        return InteractionDraft(
            source=CHAT_SOURCE,
            external_id=self.id,
            chat_id=self.asked.chat_id or self.id,
            message_id=self.id,
            user=self.asked.user,
            context=context or None,
            prompt=last.as_text(),
            completion="",
            model_name=self.version,
        )


@router.post("/v1/chat/completions", summary="Answer a conversation", response_model=None)
async def post_chat(
    request: Request, asked: ChatIn, actor: Annotated[Actor, needs(Permission.SCORE)]
) -> Response:
    """Answer by the promoted policy, or by the version that `model` names; OpenAI's clients can.

    What is asked is stored before the answer comes, where the token may write interactions. Send
    feedback with its `id` as `message_id` and the same (or your) `chat_id` to
    `/assistant/feedback`. 503 with `Retry-After` where no policy answers.
    """
    last = asked.messages[-1]
    if last.role != "user" or not last.as_text().strip():
        raise InvalidInput("The last message must be the user's, with a text.", field="messages")
    if asked.user is not None and asked.user.startswith(ACCOUNT_USER):
        raise InvalidInput(
            f"user: ids that begin with {ACCOUNT_USER!r} are those of accounts here.", field="user"
        )
    asked.store = asked.store and actor.may(Permission.WRITE_INTERACTIONS)
    answer = Answer(asked, key=_key_of(asked))
    lines = _answer(request, answer)
    if not asked.stream:
        async with aclosing(lines):
            async for _ in lines:
                pass
        return JSONResponse(_whole(answer))
    await anext(lines)  # what is wrong before the first piece is no stream yet
    return StreamingResponse(_stream(answer, lines), media_type="text/event-stream")


async def _answer(request: Request, answer: Answer) -> AsyncGenerator[str]:
    """First '' once a version answers and the question is stored, then the pieces.

    The answer is stored at the end, however that comes.
    """
    writer = request.app.state.writer
    try:
        async with ask_policy({**answer.asked.to_inference(), "key": answer.key}) as lines:
            async for line in lines:
                piece = answer.take(line)
                if piece is not None:
                    yield piece
                elif answer.end is None:
                    answer.is_unstored = True
                    await writer.run(answer.begin)
                    answer.is_unstored = False
                    yield ""
        if answer.end is None:
            raise Unavailable("The inference process broke off in mid-answer.")
    except Unavailable as error:
        if not answer.is_unstored:  # the database's trouble is none of the version's
            answer.fail(error)
        raise Unavailable(str(error)) from error  # of one kind, whoever refused
    finally:
        with anyio.CancelScope(shield=True):  # also where the caller is gone
            await writer.run(answer.finish)


def _key_of(asked: ChatIn) -> str | None:
    """What stays the same from request to request: the user's pseudonym, or the conversation's."""
    said = asked.user or (asked.chat_id and f"{CHAT_KEY}{asked.chat_id}")
    return said and make_pseudonym(said, get_settings().read_secret_key())


async def _stream(answer: Answer, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    yield _event(_chunk(answer, {"role": "assistant", "content": ""}))
    try:
        async for piece in lines:
            yield _event(_chunk(answer, {"content": piece}))
    except RlhfError as error:
        yield _event({"error": describe(error, HTTPStatus.SERVICE_UNAVAILABLE)})
        return
    reason = (answer.end or {}).get("finish_reason") or "stop"
    yield _event(_chunk(answer, {}, reason))
    options = answer.asked.stream_options
    if options is not None and options.include_usage:
        yield _event({**_chunk(answer, {}), "choices": [], "usage": answer.usage()})
    yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _chunk(answer: Answer, delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {
        "id": answer.id,
        "object": "chat.completion.chunk",
        "created": answer.created,
        "model": answer.version,
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }


def _whole(answer: Answer) -> dict[str, Any]:
    end = answer.end or {}
    message = {"role": "assistant", "content": answer.text}
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.version,
        "choices": [{"index": 0, "message": message, "finish_reason": end.get("finish_reason")}],
        "usage": answer.usage(),
    }
