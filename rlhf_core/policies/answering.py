"""A trained policy that answers: opened once, asked in batches."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_core.errors import NotEnoughData, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import find_end_ids, load_policy
from rlhf_core.policies.generate import Sampled, sample
from rlhf_core.policies.network import ActorCritic
from rlhf_core.policies.prompts import encode_prompt
from rlhf_core.pretrained import (
    PrecisionName,
    choose_device,
    choose_precision,
    find_max_positions,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Answers:
    """An answer to each prompt: its text, and its tokens with the figures of their sampling.

    `took_s` are the seconds of all of them together.
    """

    texts: list[str]
    sampled: Sampled
    took_s: float


@dataclass(frozen=True)
class Answerer:
    """An opened policy. `positions`: how many tokens it reads at once."""

    network: ActorCritic
    tokenizer: Any
    end_ids: tuple[int, ...]
    positions: int

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """The tokens after which it answers each prompt."""
        return [encode_prompt(prompt, self.tokenizer) for prompt in prompts]

    def answer(
        self, ids: Sequence[Sequence[int]], uniforms: "torch.Tensor", *, temperature: float
    ) -> Answers:
        """Answer prompts; `uniforms` (prompts, most tokens) in 0..1 decide the tokens."""
        started_at = time.monotonic()
        sampled = sample(
            self.network,
            ids,
            uniforms,
            temperature=temperature,
            end_ids=self.end_ids,
            with_values=False,
        )
        rows = [
            row[:length]
            for row, length in zip(sampled.tokens.tolist(), sampled.lengths.tolist(), strict=True)
        ]
        texts = list(self.tokenizer.batch_decode(rows, skip_special_tokens=True))
        return Answers(texts, sampled, time.monotonic() - started_at)


def open_answerer(folder: Path, *, precision: PrecisionName) -> Answerer:
    """Open a policy's folder on the GPU where there is one.

    Raises InvalidInput where the folder is none of a policy, or the device cannot compute so.
    """
    device = choose_device()
    model, tokenizer = load_policy(folder, dtype=choose_precision(precision, device).dtype)
    return Answerer(
        network=ActorCritic(model.to(device)),
        tokenizer=tokenizer,
        end_ids=find_end_ids(model, tokenizer),
        positions=find_max_positions(model, tokenizer),
    )


def keep_fitting(
    prompts: Sequence[PromptOnly],
    answerers: Sequence[Answerer],
    *,
    prompt_tokens: int,
    response_tokens: int,
) -> list[PromptOnly]:
    """The prompts that every one of the policies can be shown.

    Raises NotEnoughData where there is no prompt, TrainingFailed where none fits.
    """
    found = [row for row in prompts if row.prompt.strip()]
    if not found:
        raise NotEnoughData(have=0, need=1, what="prompts")
    num_given = len(found)
    for answerer in answerers:
        room = min(prompt_tokens, answerer.positions - response_tokens)
        encoded = answerer.encode([row.prompt for row in found])
        found = [row for row, ids in zip(found, encoded, strict=True) if 1 <= len(ids) <= room]
        if not found:
            raise TrainingFailed(
                f"All {num_given} prompts are longer than the {max(0, room)} tokens that a prompt "
                "may have: choose more prompt_tokens, or fewer response_tokens."
            )
    return found


def draw_uniforms(num_rows: int, num_tokens: int, seed: Sequence[int]) -> "torch.Tensor":
    """Random numbers (rows, tokens) in 0..1, by the seed alone."""
    import torch

    rng = np.random.default_rng(list(seed))
    return torch.from_numpy(rng.random((num_rows, num_tokens), dtype=np.float32))
