"""Answers of a policy over the inference process: `/chat` streams them, a JSON object a line.

The first line names the version, then come pieces of the text (and signs of life), last how it
ended. What goes wrong before the first line is an HTTP error, afterwards a line with `error`.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.policies.chat import Turn
from rlhf_core.serving.loader import LoadedModel
from rlhf_core.serving.policies import LoadedPolicy, PolicyShelf

LOGGER = logging.getLogger(__name__)
MAX_AT_ONCE = 4
"""Encoding and judging side by side: reranking keeps its threads."""
MAX_LOADING = 8
"""Requests that wait for a version to be loaded; more wait for these."""
MAX_CHARS = 1_000_000
SIGN_OF_LIFE_S = 5.0
WAITING: dict[str, Any] = {"waiting": True}
"""A line without meaning: others are answered before, and nobody must take that for the end."""

Text = Annotated[str, Field(strict=True)]


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Text


class ChatBody(BaseModel):
    """What `/chat` takes. `best_of`: as many answers, of which the reward model takes the best."""

    model_config = ConfigDict(extra="forbid")

    model: Text
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: list[Text] = Field(default_factory=list, max_length=4)
    seed: int | None = None
    best_of: int = Field(default=1, ge=1, le=16)


class ChatService:
    """Answers conversations by the policies on the shelf.

    `judge` gives the promoted reward model at this moment, None where there is none.
    """

    def __init__(self, shelf: PolicyShelf, judge: Callable[[], LoadedModel | None]) -> None:
        self._shelf = shelf
        self._judge = judge
        self._places = CapacityLimiter(MAX_AT_ONCE)
        self._loading = CapacityLimiter(MAX_LOADING)

    async def chat(self, body: ChatBody) -> StreamingResponse:
        """The answer as it comes. Raises what a caller can be told before the first piece."""
        _refuse_long(body)
        policy = await to_thread.run_sync(self._shelf.find, body.model, limiter=self._loading)
        ids, room = await to_thread.run_sync(_encode, policy, body, limiter=self._places)
        lines = (self._answer_once if body.best_of == 1 else self._answer_best)(
            policy, body, ids, room
        )
        first = await anext(lines)  # it waits for its turn now, or is refused
        return StreamingResponse(_as_text(first, lines), media_type="application/x-ndjson")

    async def _answer_once(
        self, policy: LoadedPolicy, body: ChatBody, ids: list[int], room: int
    ) -> AsyncIterator[dict[str, Any]]:
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | Exception | None]()
        is_gone = False

        def put(piece: str | Exception | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        turn = _make_turn(body, ids, room, _seed(body))
        turn.hand_over, turn.is_unwanted = put, lambda: is_gone
        policy.batches.submit(turn, put)
        try:
            yield _name(policy)
            while True:
                try:
                    piece = await asyncio.wait_for(pieces.get(), SIGN_OF_LIFE_S)
                except TimeoutError:
                    yield WAITING
                    continue
                if piece is None:
                    break
                if isinstance(piece, Exception):
                    raise _failed(policy, piece)
                yield {"piece": piece}
            yield _end([turn], turn, ids)
        except RlhfError as error:
            yield {"error": str(error)}
        finally:
            is_gone = True

    async def _answer_best(
        self, policy: LoadedPolicy, body: ChatBody, ids: list[int], room: int
    ) -> AsyncIterator[dict[str, Any]]:
        """All answers first, then the one that the reward model likes best, in one piece."""
        loop = asyncio.get_running_loop()
        is_gone = False
        turns, ends = [], []
        try:
            for number in range(body.best_of):
                turn = _make_turn(body, ids, room, _seed(body) + number)
                turn.is_unwanted = lambda: is_gone
                end: asyncio.Future[Exception | None] = loop.create_future()
                policy.batches.submit(turn, _settle(loop, end))
                turns.append(turn)
                ends.append(end)
        except Unavailable:
            is_gone = True
            raise
        try:
            yield _name(policy)
            while (await asyncio.wait(ends, timeout=SIGN_OF_LIFE_S))[1]:
                yield WAITING
            for failure in (end.result() for end in ends):
                if failure is not None:
                    raise _failed(policy, failure)
            prompt = next((m.content for m in reversed(body.messages) if m.role == "user"), "")
            scores, reason = await self._score(prompt, [turn.text for turn in turns])
            best = max(range(len(turns)), key=lambda at: (scores[at] or 0.0, -at))
            if turns[best].text:
                yield {"piece": turns[best].text}
            yield {
                **_end(turns, turns[best], ids),
                "scores": scores,
                "is_fallback": reason is not None,
                "reason": reason,
            }
        except RlhfError as error:
            yield {"error": str(error)}
        finally:
            is_gone = True

    async def _score(
        self, prompt: str, answers: list[str]
    ) -> tuple[list[float | None], str | None]:
        judge = self._judge()
        if judge is None:
            return [None] * len(answers), "No reward model is promoted yet: the first answer."
        prompts = [prompt] * len(answers)
        try:
            found = await to_thread.run_sync(judge.score, prompts, answers, limiter=self._places)
            return found, None
        except Exception as error:  # whatever breaks the judge, there are answers
            LOGGER.exception("%s failed to judge %d answers", judge.name, len(answers))
            what = str(error) if isinstance(error, RlhfError) else type(error).__name__
            return [None] * len(answers), f"{judge.name} failed: {what}"


def _refuse_long(body: ChatBody) -> None:
    num_chars = sum(len(message.content) for message in body.messages)
    if num_chars > MAX_CHARS:
        raise InvalidInput(
            f"The messages have {num_chars:,} characters; send at most {MAX_CHARS:,}.",
            field="messages",
        )


def _encode(policy: LoadedPolicy, body: ChatBody) -> tuple[list[int], int]:
    """The tokens of the messages, and how many the answer may have."""
    messages = [(message.role, message.content) for message in body.messages]
    return policy.model.encode(messages, max_tokens=body.max_tokens)


def _make_turn(body: ChatBody, ids: list[int], room: int, seed: int) -> Turn:
    return Turn(
        ids,
        room,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=seed % 2**63,
        stop=[each for each in body.stop if each],
    )


def _seed(body: ChatBody) -> int:
    return secrets.randbits(62) if body.seed is None else body.seed


def _settle(
    loop: asyncio.AbstractEventLoop, end: "asyncio.Future[Exception | None]"
) -> Callable[[Exception | None], None]:
    def set_result(error: Exception | None) -> None:
        if not end.done():
            end.set_result(error)

    def settle(error: Exception | None) -> None:
        loop.call_soon_threadsafe(set_result, error)

    return settle


def _name(policy: LoadedPolicy) -> dict[str, Any]:
    return {"version": policy.name, "version_id": str(policy.version_id)}


def _end(turns: list[Turn], best: Turn, ids: list[int]) -> dict[str, Any]:
    return {
        "finish_reason": best.finish_reason,
        "prompt_tokens": len(ids),
        "completion_tokens": sum(turn.num_tokens for turn in turns),
    }


def _failed(policy: LoadedPolicy, error: Exception) -> Unavailable:
    what = str(error) if isinstance(error, RlhfError) else type(error).__name__
    return Unavailable(f"{policy.name} failed to answer ({what}); try again.")


async def _as_text(
    first: dict[str, Any], lines: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[str]:
    yield json.dumps(first) + "\n"
    async for line in lines:
        yield json.dumps(line) + "\n"
