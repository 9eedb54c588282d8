"""Figures that every learner gives of its answers and its machine."""

import resource
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

OPENING_WORDS = 3


def measure_variety(rows: Sequence[Sequence[int]], texts: Sequence[str]) -> dict[str, float]:
    """How various answers are: the share of different pairs of tokens among all (`distinct_2`).

    And the share of the commonest first three words among the answers (`opening_share`).
    """
    pairs = [pair for row in rows for pair in pairwise(row)]
    openings = Counter(" ".join(text.split()[:OPENING_WORDS]) for text in texts)
    return {
        "distinct_2": len(set(pairs)) / len(pairs) if pairs else 1.0,
        "opening_share": openings.most_common(1)[0][1] / len(texts),
    }


def peak_memory_mb(device: "torch.device") -> float:
    """The most memory in MiB: of the GPU since the start, or of this process ever."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
