"""Prompts as tokens, and which of them each update answers."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlhf_core.errors import NotEnoughData, TrainingFailed
from rlhf_core.examples import PromptOnly


@dataclass(frozen=True)
class EncodedPrompts:
    """Prompts that fit: their texts as given, and the tokens that the policy is shown."""

    texts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    num_too_long: int

    def __len__(self) -> int:
        return len(self.texts)

    def digest(self) -> str:
        """A hash of all of them, in their order, in hex."""
        return hashlib.sha256(json.dumps([self.texts, self.ids]).encode()).hexdigest()


def encode_prompts(
    prompts: Sequence[PromptOnly],
    tokenizer: Any,
    *,
    prompt_tokens: int,
    response_tokens: int,
    positions: int,
) -> EncodedPrompts:
    """The prompts as the policy is shown them: by the tokenizer's chat template, if it has one.

    `positions` is what the model reads at once. A prompt that is longer than `prompt_tokens`, or
    than the answer leaves room for, is left out and counted. Raises NotEnoughData where there is
    no prompt, TrainingFailed where none fits.
    """
    given = [row.prompt for row in prompts if row.prompt.strip()]
    if not given:
        raise NotEnoughData(have=0, need=1, what="prompts")
    room = min(prompt_tokens, positions - response_tokens)
    if room < 1:
        raise TrainingFailed(
            f"response_tokens {response_tokens}: the base model reads {positions} tokens, prompt "
            f"included; choose at most {max(1, positions - 1)}."
        )
    ids = [encode_prompt(text, tokenizer) for text in given]
    fits = [place for place, one in enumerate(ids) if 1 <= len(one) <= room]
    if not fits:
        raise TrainingFailed(
            f"All {len(given)} prompts are longer than the {room} tokens that a prompt may have: "
            "choose more prompt_tokens, fewer response_tokens, or a base model that reads more."
        )
    return EncodedPrompts(
        texts=tuple(given[place] for place in fits),
        ids=tuple(tuple(ids[place]) for place in fits),
        num_too_long=len(given) - len(fits),
    )


def encode_prompt(text: str, tokenizer: Any) -> list[int]:
    """The tokens after which the policy answers."""
    if getattr(tokenizer, "chat_template", None):
        shown = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        found = tokenizer(shown, add_special_tokens=False)["input_ids"]
    else:
        found = tokenizer(text)["input_ids"]
        end = tokenizer.eos_token_id
        while len(found) > 1 and found[-1] == end:
            found = found[:-1]  # some tokenizers end each text: the answer would be over
    return [int(one) for one in found]


def batch_places(num_prompts: int, update: int, batch_size: int, seed: int) -> list[int]:
    """Which prompts the update (from 0) answers: each once an epoch, in an order by `seed`.

    Only the arguments decide, so a resumed run goes on where it was.
    """
    start = update * batch_size
    found: list[int] = []
    while len(found) < batch_size:
        epoch, place = divmod(start + len(found), num_prompts)
        order = np.random.default_rng([seed, epoch]).permutation(num_prompts)
        found += order[place : place + batch_size - len(found)].tolist()
    return found
