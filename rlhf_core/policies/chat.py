"""A policy in conversation: several answers at once, each piece handed over as it comes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlhf_core.errors import InvalidInput
from rlhf_core.policies.answering import Answerer, open_answerer
from rlhf_core.policies.generate import make_cache
from rlhf_core.policies.prompts import encode_prompt

if TYPE_CHECKING:
    import torch

USUAL_TOKENS = 1_024
"""The most that an answer has where nobody says: memory is set aside for all of them."""
COLDEST = 1e-3
"""A temperature below it always takes the likeliest token: the logits would overflow."""
UNFINISHED = "\ufffd"  # what half a character of several tokens is decoded to

Message = tuple[str, str]
FinishReason = Literal["stop", "length"]


@dataclass
class Turn:
    """One answer to be given. `hand_over` takes each new piece of its text, `ended` is told once.

    `temperature` 0 always takes the likeliest token; `top_p` (0..1] keeps the likeliest tokens that
    together have that probability. After generation `finish_reason` is set, None where
    `is_unwanted` said that nobody waits any more.
    """

    ids: Sequence[int]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stop: Sequence[str] = ()
    hand_over: Callable[[str], None] = lambda _piece: None
    is_unwanted: Callable[[], bool] = lambda: False
    ended: Callable[[], None] = lambda: None
    text: str = ""
    num_tokens: int = 0
    finish_reason: FinishReason | None = None
    _tokens: list[int] = field(default_factory=list)
    _shown: int = 0

    def take(self, token: int, *, is_end: bool, tokenizer: Any) -> bool:
        """Note the next token; whether the answer is over."""
        self.num_tokens += 1
        if not is_end:
            self._tokens.append(token)
            decoded = tokenizer.decode(self._tokens, skip_special_tokens=True)
            self.text = decoded.replace("\0", "")  # no database keeps one
        cut = min((at for each in self.stop if (at := self.text.find(each)) >= 0), default=None)
        if cut is not None:
            self.text = self.text[:cut]
        if is_end or cut is not None:
            self.finish_reason = "stop"
        elif self.num_tokens >= self.max_tokens:
            self.finish_reason = "length"
        self._show()
        if self.finish_reason is not None:
            self.ended()
        return self.finish_reason is not None

    def _show(self) -> None:
        """Hand over what is sure: no half character, no beginning of a stop sequence."""
        sure = len(self.text)
        if self.finish_reason is None:
            sure = len(self.text.rstrip(UNFINISHED))
            for each in self.stop:
                for length in range(min(len(each) - 1, sure), 0, -1):
                    if self.text.endswith(each[:length], 0, sure):
                        sure -= length
                        break
        if sure > self._shown:
            self.hand_over(self.text[self._shown : sure])
            self._shown = sure


class ChatModel:
    """An opened policy that answers conversations."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def encode(
        self, messages: Sequence[Message], *, max_tokens: int | None
    ) -> tuple[list[int], int]:
        """The tokens after which the answer comes, and how many it may have.

        By the tokenizer's chat template; without one, the texts with blank lines between them.
        Raises InvalidInput for messages that the template refuses or that leave no room.
        """
        tokenizer = self._answerer.tokenizer
        if getattr(tokenizer, "chat_template", None):
            shown = self._apply_template(messages)
            ids = [int(one) for one in tokenizer(shown, add_special_tokens=False)["input_ids"]]
        else:
            ids = encode_prompt("\n\n".join(content for _, content in messages), tokenizer)
        room = self._answerer.positions - len(ids)
        if not ids or room < 1:
            raise InvalidInput(
                f"The messages have {len(ids)} tokens; the model reads {self._answerer.positions} "
                "with its answer: send fewer or shorter ones.",
                field="messages",
            )
        return ids, min(room, max_tokens or USUAL_TOKENS)

    def _apply_template(self, messages: Sequence[Message]) -> str:
        try:
            return str(
                self._answerer.tokenizer.apply_chat_template(
                    [{"role": role, "content": content} for role, content in messages],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
        except Exception as error:  # Jinja's, raised by the model's own template
            raise InvalidInput(
                f"The model's chat template refuses these messages ({error}): send user and "
                "assistant in turn, at most one system message before them.",
                field="messages",
            ) from error

    def answer(self, turns: Sequence[Turn]) -> None:
        """Answer all turns together; each is finished, or unwanted, when this returns."""
        import torch

        network, ends = self._answerer.network, set(self._answerer.end_ids)
        rows = list(turns)
        draws = [torch.Generator().manual_seed(turn.seed) for turn in rows]
        num_tokens = max(turn.max_tokens for turn in rows)
        ids, mask = _pad_left([turn.ids for turn in rows], num_tokens)
        width = ids.shape[1]
        cache = make_cache(network.config, width + num_tokens)
        ids, mask = ids.to(network.device), mask.to(network.device)
        positions = mask.cumsum(-1).sub(1).clamp(min=0)
        with torch.inference_mode():
            for step in range(num_tokens):
                seen = width + step
                states = network.states(
                    ids,
                    mask=mask[:, :seen],
                    positions=positions[:, :width] if step == 0 else positions[:, seen - 1 : seen],
                    cache=cache,
                )[:, -1]
                logits = network.head(states).float().cpu()
                tokens = [_draw(*each) for each in zip(logits, rows, draws, strict=True)]
                kept = [
                    place
                    for place, (turn, token) in enumerate(zip(rows, tokens, strict=True))
                    if not turn.take(
                        token, is_end=token in ends, tokenizer=self._answerer.tokenizer
                    )
                    and not turn.is_unwanted()
                ]
                if not kept:
                    return
                ids = torch.tensor([[tokens[place]] for place in kept], device=network.device)
                if len(kept) < len(rows):
                    places = torch.tensor(kept, device=network.device)
                    cache.batch_select_indices(places)
                    mask, positions = mask[places], positions[places]
                    rows, draws = [rows[at] for at in kept], [draws[at] for at in kept]


def open_chat_model(folder: Path) -> ChatModel:
    """Open a policy's folder for conversations, on the GPU where there is one.

    Raises InvalidInput where the folder is none of a policy.
    """
    return ChatModel(open_answerer(folder, precision="auto"))


def _pad_left(prompts: Sequence[Sequence[int]], more: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Ids (n, width) padded on the left, and the mask (n, width + more) of what is no padding."""
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    gaps = torch.tensor([width - len(prompt) for prompt in prompts])
    return ids, (torch.arange(width + more)[None, :] >= gaps[:, None]).long()


def _draw(logits: "torch.Tensor", turn: Turn, draw: "torch.Generator") -> int:
    """The next token by its logits (vocabulary,), temperature and top-p."""
    import torch

    if turn.temperature < COLDEST:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / turn.temperature, dim=-1)
    if turn.top_p < 1:
        ordered, places = probabilities.sort(descending=True)
        kept = ordered.cumsum(-1) - ordered < turn.top_p
        kept[0] = True
        probabilities = torch.zeros_like(probabilities)
        probabilities[places] = torch.where(kept, ordered, 0.0)
    return int(torch.multinomial(probabilities, 1, generator=draw))
