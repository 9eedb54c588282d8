"""From a prompt and the steps of a solution to the tokens that a model reads.

Each step ends with one separator token, and there the model says whether the step is right. A
solution longer than the model's window is read in several: every step is judged once, with the
prompt and as many of the steps before it as fit. Cutting is always counted, never silent.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_core.encoder.model import clean_text
from rlhf_core.errors import InvalidInput

PROMPT_SHARE = 3  # a third of the window at most is the prompt's
CONTEXT_SHARE = 3  # a third of what is left, at most, repeats steps of the window before
CHARACTERS_A_TOKEN = 16
"""Of a text longer than the limit times this, only both ends are split into tokens."""
_BLANK_LINES = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True)
class Window:
    """Tokens of one pass. `segments`: 0 for the prompt, k for the k-th step in it.

    `ends` are the places of the separators of the steps that are judged here; the first of them is
    step `first` of solution `row`, the others follow it.
    """

    row: int
    first: int
    ids: list[int]
    segments: list[int]
    ends: list[int]


@dataclass(frozen=True)
class Cuts:
    """How many prompts and steps were cut in their middle, and solutions have several windows."""

    num_prompts: int = 0
    num_steps: int = 0
    num_windowed: int = 0

    def __add__(self, other: "Cuts") -> "Cuts":
        return Cuts(
            self.num_prompts + other.num_prompts,
            self.num_steps + other.num_steps,
            self.num_windowed + other.num_windowed,
        )


def split_steps(completion: str) -> list[str]:
    """The steps of a completion: its paragraphs if it has several, else its lines.

    Never empty: a completion without text is one empty step.
    """
    parts = [part for part in _BLANK_LINES.split(completion) if part.strip()]
    if len(parts) < 2:
        parts = [line for line in completion.splitlines() if line.strip()]
    return [part.strip() for part in parts] or [""]


class StepReader:
    """Cuts solutions into windows of at most `max_tokens` tokens."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        start = tokenizer.cls_token_id
        start = tokenizer.bos_token_id if start is None else start
        separator = tokenizer.sep_token_id
        separator = tokenizer.eos_token_id if separator is None else separator
        if separator is None:
            raise InvalidInput(
                "The tokenizer of the base model has neither a separator nor an end token to mark "
                "the end of a step: name another base model."
            )
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.separator = int(separator)
        self._start = [] if start is None else [int(start)]

    def read(self, row: int, prompt: str, steps: Sequence[str]) -> tuple[list[Window], Cuts]:
        """The windows of one solution, in order, and what was cut."""
        for_prompt = self.max_tokens // PROMPT_SHARE
        limit = self.max_tokens - for_prompt - len(self._start) - 2
        ids, is_prompt_cut = self._split([prompt], for_prompt)[0]
        head = [*self._start, *ids, self.separator]
        parts = self._split(steps, limit)
        pieces = [[*piece, self.separator] for piece, _ in parts]
        windows = _pack(row, head, pieces, self.max_tokens - len(head))
        cuts = Cuts(
            num_prompts=int(is_prompt_cut),
            num_steps=sum(is_cut for _, is_cut in parts),
            num_windowed=int(len(windows) > 1),
        )
        return windows, cuts

    def _split(self, texts: Sequence[str], limit: int) -> list[tuple[list[int], bool]]:
        """Token ids of each text, at most `limit`, and whether its middle was cut out for that."""
        if not texts:
            return []
        reach = limit * CHARACTERS_A_TOKEN
        cleaned = [clean_text(text) for text in texts]
        shortened = [
            text if len(text) <= 2 * reach else f"{text[:reach]} {text[-reach:]}"
            for text in cleaned
        ]
        found = self.tokenizer(shortened, add_special_tokens=False, verbose=False)["input_ids"]
        pairs = []
        for ids, text, short in zip(found, cleaned, shortened, strict=True):
            # A separator inside the text would end the step early.
            kept = [int(token) for token in ids if token != self.separator]
            if len(kept) <= limit:
                pairs.append((kept, len(short) < len(text)))
            else:
                half = limit // 2
                pairs.append((kept[:half] + kept[len(kept) - (limit - half) :], True))
        return pairs


def cut_after(windows: Sequence[Window], step: int) -> list[Window]:
    """The windows without what follows step `step`: a model that reads forward needs no more."""
    kept = []
    for window in windows:
        count = min(len(window.ends), step + 1 - window.first)
        if count > 0:
            end = window.ends[count - 1] + 1
            kept.append(
                Window(
                    row=window.row,
                    first=window.first,
                    ids=window.ids[:end],
                    segments=window.segments[:end],
                    ends=window.ends[:count],
                )
            )
    return kept


def _pack(row: int, head: list[int], pieces: list[list[int]], room: int) -> list[Window]:
    windows = []
    place = 0
    while place < len(pieces):
        start, used = place, 0
        while start > 0 and used + len(pieces[start - 1]) <= room // CONTEXT_SHARE:
            start -= 1
            used += len(pieces[start])
        if used + len(pieces[place]) > room:  # the step needs the room itself
            start, used = place, 0
        ids, segments, ends = list(head), [0] * len(head), []
        for number in range(start, len(pieces)):
            if number >= place and used + len(pieces[number]) > room:
                break
            ids += pieces[number]
            segments += [number - start + 1] * len(pieces[number])
            if number >= place:
                used += len(pieces[number])
                ends.append(len(ids) - 1)
        windows.append(Window(row=row, first=place, ids=ids, segments=segments, ends=ends))
        place += len(ends)
    return windows
