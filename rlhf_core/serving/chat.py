"""Answers of a policy over the inference process: `/chat` streams them, a JSON object a line.

The first line names the version, then come pieces of the text, last how it ended. What goes wrong
before the first piece is an HTTP error, afterwards a line with `error`.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from rlhf_core.errors import RlhfError, Unavailable
from rlhf_core.policies.chat import Turn
from rlhf_core.serving.loader import LoadedModel
from rlhf_core.serving.policies import LoadedPolicy, PolicyShelf

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

    async def chat(self, body: ChatBody) -> StreamingResponse:
        """The answer as it comes. Raises what a caller can be told before the first piece."""
        policy = await run_in_threadpool(self._shelf.find, body.model)
        ids, room = policy.model.encode(
            [(message.role, message.content) for message in body.messages],
            max_tokens=body.max_tokens,
        )
        lines = self._answer_once if body.best_of == 1 else self._answer_best
        return StreamingResponse(
            _as_text(lines(policy, body, ids, room)), media_type="application/x-ndjson"
        )

    async def _answer_once(
        self, policy: LoadedPolicy, body: ChatBody, ids: list[int], room: int
    ) -> AsyncIterator[dict[str, Any]]:
        yield _name(policy)
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | Exception | None]()
        is_gone = False

        def put(piece: str | Exception | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        turn = _make_turn(body, ids, room, _seed(body))
        turn.hand_over, turn.is_unwanted = put, lambda: is_gone
        try:
            policy.batches.submit(turn, put)
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise Unavailable(f"{policy.name} failed: {piece}") from piece
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
        yield _name(policy)
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
            for failure in await asyncio.gather(*ends):
                if failure is not None:
                    raise Unavailable(f"{policy.name} failed: {failure}") from failure
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
        try:
            return await run_in_threadpool(judge.score, [prompt] * len(answers), answers), None
        except RlhfError as error:
            return [None] * len(answers), str(error)


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


async def _as_text(lines: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async for line in lines:
        yield json.dumps(line) + "\n"
