"""Rows as TRL's trainers take them once they are tokens, by the same rules as for PPO and SFT."""

from collections.abc import Sequence
from typing import Any

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import PreferencePair, UnpairedPreference
from rlhf_core.policies.conversations import encode_completion
from rlhf_core.policies.prompts import encode_prompt
from rlhf_core.policies.trl_glue import Kit

MOST_HELD_OUT = 500


class Encoder:
    """Turns rows to tokens, and counts those that do not fit.

    A prompt longer than `prompt_tokens`, or than the completion leaves room for, is left out; a
    longer completion than `response_tokens` loses its end.
    """

    def __init__(self, kit: Kit) -> None:
        params = kit.params
        self._tokenizer = kit.tokenizer
        self._most = params.response_tokens
        self._room = min(params.prompt_tokens, kit.positions - params.response_tokens)
        self._positions = kit.positions
        self.num_too_long = self.num_cut = 0

    def pairs(self, rows: Sequence[PreferencePair]) -> list[dict[str, Any]]:
        """TRL's columns of pairs; `margin` beside them."""
        return [
            {
                "prompt_ids": shown,
                "chosen_ids": self._answer(row.chosen),
                "rejected_ids": self._answer(row.rejected),
                "margin": float(row.margin),
            }
            for row in rows
            if (shown := self._shown(row.prompt)) is not None
        ]

    def unpaired(self, rows: Sequence[UnpairedPreference]) -> list[dict[str, Any]]:
        """TRL's columns of answers with a thumb."""
        return [
            {
                "prompt_ids": shown,
                "completion_ids": self._answer(row.completion),
                "label": row.label,
            }
            for row in rows
            if (shown := self._shown(row.prompt)) is not None
        ]

    def require(self, encoded: Sequence[object]) -> None:
        """Raise TrainingFailed where no row fitted."""
        if self._room < 1:
            raise TrainingFailed(
                f"response_tokens {self._most}: the base model reads {self._positions} tokens, "
                f"prompt included; choose at most {max(1, self._positions - 1)}."
            )
        if not encoded:
            raise TrainingFailed(
                f"All {self.num_too_long} prompts are longer than the {self._room} tokens that a "
                "prompt may have: choose more prompt_tokens, fewer response_tokens, or a base "
                "model that reads more."
            )

    def counts(self) -> dict[str, float]:
        """What was left out and cut, for the report."""
        return {
            "num_prompts_too_long": float(self.num_too_long),
            "num_completions_cut": float(self.num_cut),
        }

    def _shown(self, prompt: str) -> list[int] | None:
        found = encode_prompt(prompt, self._tokenizer)
        if 1 <= len(found) <= self._room:
            return found
        self.num_too_long += 1
        return None

    def _answer(self, text: str) -> list[int]:
        found = encode_completion(text, self._tokenizer)
        self.num_cut += len(found) > self._most
        return found[: self._most]


def table(rows: Sequence[dict[str, Any]]) -> Any:
    """The rows as `datasets` holds them; None where there is none."""
    from datasets import Dataset

    return Dataset.from_list(list(rows)) if rows else None


def count_steps(num_rows: int, kit: Kit, epochs: int) -> int:
    """The steps of so many epochs, the last of each with fewer rows where they do not go up."""
    share = -(-num_rows // kit.processes.count)
    batches = -(-share // kit.micro_batch)
    return max(1, -(-batches // kit.num_micro_batches)) * epochs
