"""One answer being given, by a policy of our own or by another server: both look alike here."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rlhf_core.policies.chat import ChatModel, FinishReason, Turn
from rlhf_core.serving.batches import Batcher

Put = Callable[[str | Exception | None], None]
"""Takes each piece of the text, then what went wrong or None; called in the event loop."""


@dataclass(frozen=True)
class Question:
    """What is to be answered. Without a `seed` each answer draws its own."""

    messages: Sequence[tuple[str, str]]
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    stop: Sequence[str] = ()
    seed: int | None = None


class Answering(Protocol):
    """An answer on its way. The fields are whole once `put` got None."""

    @property
    def text(self) -> str:
        """What came of it so far."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the messages."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the answer."""

    async def begin(self, put: Put) -> None:
        """Have it answered. Raises Unavailable where it is refused."""

    def give_up(self) -> None:
        """Nobody waits for it any more."""


class AnswerSource(Protocol):
    """What answers: a model in memory, or another server."""

    def prepare(self, question: Question, seeds: Sequence[int]) -> Sequence[Answering]:
        """An answer for each of the seeds; not begun. Raises InvalidInput for the messages."""


class LocalSource:
    """A policy in memory, which answers all that wait together."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self._batches = Batcher(model.answer)

    def prepare(self, question: Question, seeds: Sequence[int]) -> "list[LocalAnswer]":
        """The messages as tokens; takes a moment. Raises InvalidInput where they are too long."""
        ids, room = self._model.encode(question.messages, max_tokens=question.max_tokens)
        stop = [each for each in question.stop if each]
        turns = [
            Turn(ids, room, temperature=question.temperature, top_p=question.top_p,
                 seed=seed % 2**63, stop=stop)
            for seed in seeds
        ]  # fmt: skip
        return [LocalAnswer(turn, self._batches) for turn in turns]


class LocalAnswer:
    """A turn that waits for its batch."""

    def __init__(self, turn: Turn, batches: Batcher) -> None:
        self._turn = turn
        self._batches = batches
        self._is_unwanted = False

    @property
    def text(self) -> str:
        """What came of it so far."""
        return self._turn.text

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended."""
        return self._turn.finish_reason

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the messages."""
        return len(self._turn.ids)

    @property
    def num_tokens(self) -> int:
        """Tokens of the answer."""
        return self._turn.num_tokens

    async def begin(self, put: Put) -> None:
        """Wait with others for the next batch. Raises Unavailable where too many do."""
        loop = asyncio.get_running_loop()

        def tell(piece: str | Exception | None) -> None:
            loop.call_soon_threadsafe(put, piece)

        self._turn.hand_over = tell
        self._turn.is_unwanted = lambda: self._is_unwanted
        self._batches.submit(self._turn, tell)

    def give_up(self) -> None:
        """Leave the batch."""
        self._is_unwanted = True
