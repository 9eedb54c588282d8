"""Answers of a policy over the inference process: `/chat` streams them, a JSON object a line.

The first line names the version and the side of a deployment that it stands for, then come pieces
of the text (and signs of life), last how it ended. What goes wrong before the first line is an HTTP
error, which names them too where they are known, afterwards a line with `error`.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from rlhf_core.errors import InvalidInput, RlhfError, Unavailable
from rlhf_core.serving.answering import Answering, Put, Question
from rlhf_core.serving.chat_client import NotAnswered
from rlhf_core.serving.loader import LoadedModel
from rlhf_core.serving.policies import PROMOTED, LoadedPolicy, PolicyShelf
from rlhf_core.serving.traffic import Choice
from rlhf_core.vocabulary import Arm

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
    """What `/chat` takes. `best_of`: as many answers, of which the reward model takes the best.

    Requests of the same `key` get the same side of a deployment.
    """

    model_config = ConfigDict(extra="forbid")

    model: Text
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: list[Text] = Field(default_factory=list, max_length=4)
    seed: int | None = None
    best_of: int = Field(default=1, ge=1, le=16)
    key: Text | None = None


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
        if body.model in PROMOTED:
            choice = self._choose(body)  # in memory, or not there: no loading holds it up
        else:
            choice = await to_thread.run_sync(self._choose, body, limiter=self._loading)
        served = _describe(choice)
        if choice.model is None:
            problem = self._shelf.traffic.production.problem or "No policy is loaded."
            raise NotAnswered(problem, served)
        try:
            control = self._find_control(choice)
            answers = await to_thread.run_sync(
                _prepare, choice, body, control, limiter=self._places
            )
            if choice.route is not None and choice.route.system_prompt is not None:
                served["system_prompt"] = choice.route.system_prompt
            lines = (self._answer_once if body.best_of == 1 else self._answer_best)(
                choice.model, body, answers, served
            )
            first = await anext(lines)  # it waits for its turn now, or is refused
        except Unavailable as error:
            raise NotAnswered(str(error), served) from error
        return StreamingResponse(_as_text(first, lines), media_type="application/x-ndjson")

    def _choose(self, body: ChatBody) -> Choice[LoadedPolicy]:
        has_system = any(message.role == "system" for message in body.messages)
        return self._shelf.choose(body.model, key=body.key, has_system=has_system)

    def _find_control(self, choice: Choice[LoadedPolicy]) -> LoadedPolicy | None:
        """What answers the others, for a request that the treatment of a deployment gets."""
        is_treated = choice.route is not None and choice.route.arm is Arm.TREATMENT
        return self._shelf.traffic.find_control() if is_treated else None

    async def _answer_once(
        self,
        policy: LoadedPolicy,
        _body: ChatBody,
        answers: Sequence[Answering],
        served: dict[str, Any],
    ) -> AsyncIterator[dict[str, Any]]:
        (answer,) = answers
        pieces = asyncio.Queue[str | Exception | None]()
        try:
            await answer.begin(pieces.put_nowait)
            yield served
            while True:
                try:
                    piece = await asyncio.wait_for(pieces.get(), SIGN_OF_LIFE_S)
                except TimeoutError:
                    yield WAITING
                    continue
                if piece is None:
                    break
                if isinstance(piece, Exception):
                    yield {"error": _say_failed(policy, piece)}
                    return
                yield {"piece": piece}
            yield _end(answers, answer)
        finally:
            answer.give_up()

    async def _answer_best(
        self,
        policy: LoadedPolicy,
        body: ChatBody,
        answers: Sequence[Answering],
        served: dict[str, Any],
    ) -> AsyncIterator[dict[str, Any]]:
        """All answers first, then the one that the reward model likes best, in one piece."""
        loop = asyncio.get_running_loop()
        ends = [loop.create_future() for _ in answers]
        try:
            await asyncio.gather(
                *(answer.begin(_settle(end)) for answer, end in zip(answers, ends, strict=True))
            )
            yield served
            while (await asyncio.wait(ends, timeout=SIGN_OF_LIFE_S))[1]:
                yield WAITING
            failure = next((end.result() for end in ends if end.result() is not None), None)
            if failure is not None:
                yield {"error": _say_failed(policy, failure)}
                return
            prompt = next((m.content for m in reversed(body.messages) if m.role == "user"), "")
            scores, reason = await self._score(prompt, [answer.text for answer in answers])
            best = max(range(len(answers)), key=lambda at: (scores[at] or 0.0, -at))
            if answers[best].text:
                yield {"piece": answers[best].text}
            yield {
                **_end(answers, answers[best]),
                "scores": scores,
                "is_fallback": reason is not None,
                "reason": reason,
            }
        finally:
            for answer in answers:
                answer.give_up()

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


def _prepare(
    choice: Choice[LoadedPolicy], body: ChatBody, control: LoadedPolicy | None
) -> Sequence[Answering]:
    """As many answers as are wanted, the test's system prompt before the messages if there is one.

    Raises InvalidInput for messages that cannot be answered, Unavailable where that is the fault of
    the prompt, or of a treatment that refuses what its `control` answers.
    """
    model = choice.model
    assert model is not None  # noqa: S101 - asked before
    messages: list[tuple[str, str]] = [(one.role, one.content) for one in body.messages]
    first = secrets.randbits(62) if body.seed is None else body.seed
    seeds = [first + number for number in range(body.best_of)]
    prompt = None if choice.route is None else choice.route.system_prompt

    def prepare(model: LoadedPolicy, messages: list[tuple[str, str]]) -> Sequence[Answering]:
        question = Question(
            messages, body.max_tokens, body.temperature, body.top_p, body.stop, body.seed
        )
        return model.source.prepare(question, seeds)

    try:
        return prepare(model, messages if prompt is None else [("system", prompt), *messages])
    except InvalidInput as error:
        if prompt is None and control is None:
            raise
        prepare(control or model, messages)  # refused here too: then the messages are to blame
        cause = (
            f"{model.name} refuses it" if prompt is None else "With the system prompt of the test"
        )
        raise Unavailable(f"{cause}: {error}") from error


def _settle(end: "asyncio.Future[Exception | None]") -> Put:
    def settle(piece: str | Exception | None) -> None:
        if not isinstance(piece, str) and not end.done():
            end.set_result(piece)

    return settle


def _describe(choice: Choice[LoadedPolicy]) -> dict[str, Any]:
    """Which version answers, and the side of a deployment that it stands for."""
    model, route = choice.model, choice.route
    deployment_id = None if route is None else route.deployment_id
    return {
        "version": None if model is None else model.name,
        "version_id": None if model is None else str(model.version_id),
        "arm": None if route is None else route.arm.value,
        "deployment_id": None if deployment_id is None else str(deployment_id),
        "propensity": None if route is None else route.propensity,
    }


def _end(answers: Sequence[Answering], best: Answering) -> dict[str, Any]:
    return {
        "finish_reason": best.finish_reason,
        "prompt_tokens": best.prompt_tokens,
        "completion_tokens": sum(answer.num_tokens for answer in answers),
    }


def _say_failed(policy: LoadedPolicy, error: Exception) -> str:
    if isinstance(error, RlhfError) and str(error).startswith(policy.name):
        return str(error)
    what = str(error) if isinstance(error, RlhfError) else type(error).__name__
    return f"{policy.name} failed to answer ({what}); try again."


async def _as_text(
    first: dict[str, Any], lines: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[str]:
    yield json.dumps(first) + "\n"
    async for line in lines:
        yield json.dumps(line) + "\n"
