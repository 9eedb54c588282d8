"""Batches of texts of like length, so that next to nothing that is computed is padding.

Two means. Texts of like length are put into one batch (`plan_batches`), as random as an epoch
needs. And one batch runs through the model in several parts, each of texts of nearly one length
(`split_by_length`); the loss is that of the whole batch, so its gradient stays what it was.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

WINDOW = 50
"""Batches among which texts are sorted by length: enough to find likes, few enough to mix."""
PART_COST_CPU = 64
"""What starting one more part costs, in tokens: little on a CPU, which computes tokens slowly."""
PART_COST_GPU = 4_096
MAX_SPLIT = 256
"""Rows that are split exactly; more are first cut, in order of length, into as many."""


def plan_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int, by_length: bool = True
) -> list[list[int]]:
    """The batches of one epoch: each row once, by its place; the last ones may be smaller.

    Only `seed` and `epoch` decide, so a resumed run finds the batches that were to come.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if not by_length:
        return [
            order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)
        ]
    by_size = np.asarray(lengths)
    batches = []
    for start in range(0, len(order), batch_size * WINDOW):
        window = order[start : start + batch_size * WINDOW]
        window = window[np.argsort(by_size[window], kind="stable")]
        batches += [
            window[place : place + batch_size].tolist()
            for place in range(0, len(window), batch_size)
        ]
    return [batches[index] for index in rng.permutation(len(batches))]


def split_by_length(
    lengths: Sequence[int], *, part_cost: int = PART_COST_CPU, max_tokens: int | None = None
) -> list[list[int]]:
    """Cut rows (by their places) into parts of like length that cost least, shortest first.

    A part costs its rows times its longest, plus `part_cost` tokens; the cheapest cut of the
    sorted rows is found exactly by dynamic programming. `max_tokens` bounds a part, padding
    included; a row longer than that is a part of its own.

    >>> split_by_length([500, 20, 490, 22])
    [[1, 3], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    parts: list[list[int]] = []
    for start in range(0, len(order), MAX_SPLIT):
        parts += _split_sorted(order[start : start + MAX_SPLIT], lengths, part_cost, max_tokens)
    return parts


def _split_sorted(
    order: list[int], lengths: Sequence[int], part_cost: int, max_tokens: int | None
) -> list[list[int]]:
    costs = [0.0]  # of the cheapest cut of the first so many rows
    begins = [0]  # where the last part of that cut begins
    for end in range(1, len(order) + 1):
        longest = max(1, lengths[order[end - 1]])
        fewest = 0
        if max_tokens is not None:
            fewest = max(0, end - max(1, max_tokens // longest))
        found = [costs[begin] + (end - begin) * longest + part_cost for begin in range(fewest, end)]
        best = int(np.argmin(found))
        costs.append(found[best])
        begins.append(fewest + best)
    parts = []
    end = len(order)
    while end:
        parts.append(order[begins[end] : end])
        end = begins[end]
    return parts[::-1]


def pad_rows(
    rows: Sequence[Sequence[int]],
    *,
    pad_id: int,
    device: "torch.device",
    types: Sequence[Sequence[int]] | None = None,
) -> dict[str, "torch.Tensor"]:
    """Token ids of rows as a model takes them: `input_ids` (n, longest), padded on the right.

    `attention_mask` only where there is padding: attention without a mask is quicker.
    `token_type_ids` where `types` are given.
    """
    import torch

    width = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (width - len(row))] for row in rows])
    found = {"input_ids": ids.to(device)}
    if any(len(row) < width for row in rows):
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(width)[None, :] < lengths[:, None]
        found["attention_mask"] = mask.long().to(device)
    if types is not None:
        kinds = torch.tensor([[*row, *[0] * (width - len(row))] for row in types])
        found["token_type_ids"] = kinds.to(device)
    return found


def part_cost_of(device: "torch.device") -> int:
    """What one more part costs on the device, in tokens."""
    return PART_COST_CPU if device.type == "cpu" else PART_COST_GPU
