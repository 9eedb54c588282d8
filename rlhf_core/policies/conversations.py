"""Prompts with their completions as tokens, in batches of like length.

A row is what the policy is shown, then the completion and the end token: as it will answer. Rows
of like length run together, so that little is padding, and none sees another.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from rlhf_core.errors import NotEnoughData, TrainingFailed
from rlhf_core.examples import SftExample
from rlhf_core.policies.prompts import encode_prompt

if TYPE_CHECKING:
    import torch

BATCHES_SORTED_TOGETHER = 8
TOKENS_AT_ONCE = 8_192
"""Padding included, how many tokens run through the model at once; it decides memory only."""


class Grouped(Protocol):
    """A row that knows its prompt's group."""

    @property
    def group(self) -> str:
        """The hash of the prompt."""


Row = TypeVar("Row", bound=Grouped)


@dataclass(frozen=True)
class Conversations:
    """Rows that fit: their tokens, and how many of them are the prompt's.

    `num_too_long` prompts had no room, `num_cut` completions lost their end (and are not taught to
    end there).
    """

    ids: tuple[tuple[int, ...], ...]
    prompt_lengths: tuple[int, ...]
    num_too_long: int
    num_cut: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row) for row in self.ids)

    def require_some(self) -> None:
        """Raise TrainingFailed where no row fitted."""
        if not self.ids:
            raise TrainingFailed(
                f"All {self.num_too_long} prompts are longer than there is room for: choose more "
                "prompt_tokens, fewer response_tokens, or a base model that reads more."
            )

    def digest(self) -> str:
        """A hash of all of them, in their order, in hex."""
        return hashlib.sha256(json.dumps([self.ids, self.prompt_lengths]).encode()).hexdigest()


def encode_conversations(
    rows: Sequence[SftExample],
    tokenizer: Any,
    *,
    prompt_tokens: int,
    response_tokens: int,
    positions: int,
) -> Conversations:
    """The rows as tokens, by the tokenizer's chat template if it has one.

    A prompt longer than `prompt_tokens`, or than the completion leaves room for in the `positions`
    that the model reads at once, is left out.
    """
    room = min(prompt_tokens, positions - response_tokens)
    ids: list[tuple[int, ...]] = []
    prompt_lengths: list[int] = []
    num_cut = 0
    for row in rows:
        shown = encode_prompt(row.prompt, tokenizer)
        if not 1 <= len(shown) <= room:
            continue
        answer = encode_completion(row.completion, tokenizer)
        num_cut += len(answer) > response_tokens
        ids.append((*shown, *answer[:response_tokens]))
        prompt_lengths.append(len(shown))
    return Conversations(tuple(ids), tuple(prompt_lengths), len(rows) - len(ids), num_cut)


def encode_completion(text: str, tokenizer: Any) -> list[int]:
    """The tokens of a completion, and the end token."""
    found = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [*(int(one) for one in found), int(tokenizer.eos_token_id)]


def keep_texts(rows: Sequence[SftExample]) -> list[SftExample]:
    """The rows with both texts. Raises NotEnoughData where there is none."""
    found = [row for row in rows if row.prompt.strip() and row.completion.strip()]
    if not found:
        raise NotEnoughData(have=0, need=1, what="prompts with a completion")
    return found


def split_groups(
    rows: Sequence[Row], *, percent: float, at_most: int, seed: int
) -> tuple[list[Row], list[Row]]:
    """Rows to learn from, and some `percent` of the prompts (at most so many rows) held out.

    Rows of one prompt stay together. With a single prompt nothing is held out.
    """
    names = sorted({row.group for row in rows})
    wanted = min(round(len(names) * percent / 100), len(names) - 1)
    order = np.random.default_rng([seed, 1]).permutation(len(names))[:wanted]
    chosen = {names[place] for place in order}
    held_out = [row for row in rows if row.group in chosen][:at_most]
    return [row for row in rows if row.group not in chosen], held_out


def batch_rows(lengths: Sequence[int], step: int, batch_size: int, seed: int) -> list[int]:
    """Which rows the step (from 0) learns from: each once an epoch, those of like length together.

    Only the arguments decide, so a resumed run goes on where it was. The last rows of an epoch may
    be fewer than `batch_size`.
    """
    num_batches = -(-len(lengths) // batch_size)
    epoch, number = divmod(step, num_batches)
    return list(_deal_epoch(tuple(lengths), batch_size, epoch, seed)[number])


@functools.lru_cache(maxsize=2)
def _deal_epoch(
    lengths: tuple[int, ...], batch_size: int, epoch: int, seed: int
) -> tuple[list[int], ...]:
    """The batches of an epoch: of some at a time, rows are sorted by length; then all shuffled."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths)).tolist()
    size = BATCHES_SORTED_TOGETHER * batch_size
    batches = [
        part[at : at + batch_size]
        for start in range(0, len(order), size)
        for part in [sorted(order[start : start + size], key=lambda row: (lengths[row], row))]
        for at in range(0, len(part), batch_size)
    ]
    return tuple(batches[place] for place in rng.permutation(len(batches)))


def cut_batch(rows: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """The rows in parts of like length that hold no more than TOKENS_AT_ONCE, padding included."""
    parts: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (lengths[row], row)):
        if not parts or (len(parts[-1]) + 1) * lengths[row] > TOKENS_AT_ONCE:
            parts.append([])
        parts[-1].append(row)
    return parts


def pad_rows(rows: "Sequence[Sequence[int]]", device: "torch.device") -> "torch.Tensor":
    """Ids (n, longest), padded on the right, where causal attention needs no mask."""
    import torch

    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
