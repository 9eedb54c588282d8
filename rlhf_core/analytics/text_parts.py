"""The sentences of texts, each with the text that says it: a fault is rarely all that is said."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MAX_PARTS = 8
"""Of a longer text, neighbouring sentences are one part."""

_END = re.compile(r"(?<=[.!?])\s+|(?<=[\u3002\uff01\uff1f])|\s*\n\s*")  # the wide ones of Chinese


@dataclass(frozen=True)
class Parts:
    """Parts of texts, one text after the other. `owners` are the places of their texts."""

    texts: list[str]
    owners: Array

    def __len__(self) -> int:
        return len(self.texts)


def cut(text: str) -> list[str]:
    """The different sentences of a text, in at most `MAX_PARTS` parts; one if it is empty."""
    sentences = list(dict.fromkeys(one for one in _END.split(text.strip()) if one)) or [""]
    size = -(-len(sentences) // MAX_PARTS)
    return [" ".join(sentences[at : at + size]) for at in range(0, len(sentences), size)]


def cut_all(texts: Sequence[str]) -> Parts:
    """The parts of all texts."""
    parts = [cut(text) for text in texts]
    owners = np.repeat(np.arange(len(parts)), np.array([len(one) for one in parts], dtype=int))
    return Parts([one for each in parts for one in each], owners)
