"""From prompt and completion to the tokens that a classifier reads, never more than its limit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_core.encoder.model import clean_text
from rlhf_core.errors import InvalidInput

CHARACTERS_A_TOKEN = 48
"""Of a text longer than the limit times this, only as much is split into tokens: splitting a
megabyte to keep 256 tokens takes a second."""
MIN_PROMPT_SHARE = 4  # a quarter of the room is the prompt's, however long the completion is
_PROMPT, _COMPLETION = "\u2402prompt\u2402", "\u2402completion\u2402"


@dataclass(frozen=True)
class Tokens:
    """Ids of one text, their segment (0 prompt, 1 completion; None where unused), what was cut."""

    ids: list[int]
    types: list[int] | None
    is_prompt_cut: bool
    is_completion_cut: bool


class TextEncoder:
    """Joins prompts and completions in the way that a tokenizer is made for.

    An encoder's tokenizer separates two texts by special tokens; a chat model's has a template;
    otherwise an empty line stands between, and the end token after. The prompt is cut from the
    left, as its end is what the completion answers; a completion that does not fit is cut at its
    end, so that at least a quarter of the room is left to the prompt.
    """

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self._has_types = "token_type_ids" in tokenizer.model_input_names
        self._before, self._between, self._after = self._find_frame()
        frame = len(self._before) + len(self._between) + len(self._after)
        self._room = max_tokens - frame
        if self._room < 8:
            raise InvalidInput(
                f"max_tokens {max_tokens}: {frame} are the model's own signs, and fewer than 8 "
                "would be left for the texts; choose more.",
                field="max_tokens",
            )

    def encode(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Tokens]:
        """The tokens of each pair of texts, in their order."""
        limit = self.max_tokens * CHARACTERS_A_TOKEN
        heads = [clean_text(prompt)[-limit:] for prompt in prompts]
        tails = [clean_text(completion)[:limit] for completion in completions]
        pairs = zip(self._split(heads), self._split(tails), strict=True)
        return [
            self._join(prompt, completion, len(head) == limit, len(tail) == limit)
            for (prompt, completion), head, tail in zip(pairs, heads, tails, strict=True)
        ]

    def _join(
        self, prompt: list[int], completion: list[int], long_prompt: bool, long_completion: bool
    ) -> Tokens:
        for_prompt = min(len(prompt), self._room // MIN_PROMPT_SHARE)
        kept_completion = completion[: self._room - for_prompt]
        kept = min(len(prompt), self._room - len(kept_completion))
        kept_prompt = prompt[len(prompt) - kept :]
        first = [*self._before, *kept_prompt, *self._between]
        second = [*kept_completion, *self._after]
        return Tokens(
            ids=first + second,
            types=[0] * len(first) + [1] * len(second) if self._has_types else None,
            is_prompt_cut=long_prompt or kept < len(prompt),
            is_completion_cut=long_completion or len(kept_completion) < len(completion),
        )

    def _split(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text alone, each different text split once."""
        once = list(dict.fromkeys(texts))
        if not once:
            return []
        found = self.tokenizer(once, add_special_tokens=False, verbose=False)["input_ids"]
        ids = dict(zip(once, found, strict=True))
        return [list(ids[text]) for text in texts]

    def _find_frame(self) -> tuple[list[int], list[int], list[int]]:
        """The ids before the prompt, between the two, and after the completion."""
        if self.tokenizer.chat_template:
            return self._find_chat_frame()
        pair = self.tokenizer("a", "b")
        parts: tuple[list[int], list[int], list[int]] = ([], [], [])
        place = 0
        sides = pair.sequence_ids(0) if self.tokenizer.is_fast else None
        if sides is None:
            mask = self.tokenizer.get_special_tokens_mask(
                pair["input_ids"], already_has_special_tokens=True
            )
            sides = [None if special else 0 for special in mask]
        for token, side in zip(pair["input_ids"], sides, strict=True):
            if side is None:
                parts[place].append(token)
            elif side == 0 and place == 0:
                place = 1
            elif side == 1:
                place = 2
        before, between, after = parts
        if not between:
            between = self._split(["\n\n"])[0]
            if self.tokenizer.eos_token_id is not None and not after:
                after = [self.tokenizer.eos_token_id]
        return before, between, after

    def _find_chat_frame(self) -> tuple[list[int], list[int], list[int]]:
        chat = [
            {"role": "user", "content": _PROMPT},
            {"role": "assistant", "content": _COMPLETION},
        ]
        try:
            text = str(self.tokenizer.apply_chat_template(chat, tokenize=False))
            before, rest = text.split(_PROMPT)
            between, after = rest.split(_COMPLETION)
        except Exception as error:  # templates are small programs, and fail in their own ways
            raise InvalidInput(
                "The chat template of the base model does not show one prompt and one completion "
                f"({type(error).__name__}): name another base model."
            ) from error
        ids = [self._split([part])[0] for part in (before, between, after)]
        return ids[0], ids[1], ids[2]
