"""Log-probabilities of tokens, in parts: the logits of a whole batch are never held at once."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LOGITS_AT_ONCE_CPU, LOGITS_AT_ONCE_CPU_16_BIT = 2**21, 2**20
"""8 MiB in float32, of which more is no quicker; half of that where they lie in 16 bits too."""
LOGITS_AT_ONCE_GPU = 2**26
ROWS_STEP = 64


def has_costly_shapes(table: "torch.Tensor") -> bool:
    """Whether a product with this table is prepared anew for each number of its rows.

    On a CPU, one in 16 bits is: that takes a time like its own, and 0.7 MB that stay.
    """
    return table.device.type == "cpu" and table.dtype.itemsize == 2


def round_up(num_rows: int) -> int:
    """So many rows or a few more: of which there are not many numbers."""
    return -(-num_rows // ROWS_STEP) * ROWS_STEP


def token_logprobs(
    head: Any,
    states: "torch.Tensor",
    tokens: "torch.Tensor",
    temperature: float,
    *,
    with_entropy: bool = False,
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Log-probabilities (n,) of `tokens` (n,) after `states` (n, width), in float32.

    All are at `temperature`; beside them the entropy (n,) of the distribution, if asked for.
    """
    import torch

    num_tokens = len(tokens)
    if has_costly_shapes(states):
        spare = round_up(num_tokens) - num_tokens
        states = torch.nn.functional.pad(states, (0, 0, 0, spare))
        tokens = torch.nn.functional.pad(tokens, (0, spare))
    logits = head(states)
    if not with_entropy:
        chosen: torch.Tensor = _chosen_logprobs().apply(logits, tokens, temperature)
        return chosen[:num_tokens], None
    logits, tokens = logits[:num_tokens], tokens[:num_tokens]
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    chosen = logprobs.gather(-1, tokens[:, None])[:, 0]
    return chosen, -(logprobs.exp() * logprobs).sum(-1)


@functools.cache
def _chosen_logprobs() -> Any:
    """Log-probabilities of some tokens, with a way back that keeps and passes over one table.

    What torch does by itself takes twice as long: it has a table each for the sum and the choice,
    and takes the logarithm of all. The logits given are overwritten.
    """
    import torch
    from torch.autograd.function import once_differentiable

    class ChosenLogprobs(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, logits: torch.Tensor, tokens: torch.Tensor, temperature: float
        ) -> torch.Tensor:
            table = logits.float()  # float32 logits themselves: nobody else has them
            if temperature != 1.0:
                table.div_(temperature)
            table.sub_(table.amax(-1, keepdim=True))
            chosen = table.gather(-1, tokens[:, None])[:, 0]
            total = table.exp_().sum(-1)
            ctx.save_for_backward(table, total, tokens)
            ctx.temperature, ctx.dtype = temperature, logits.dtype
            return chosen - total.log()

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, given: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            table, total, tokens = ctx.saved_tensors
            given = given / ctx.temperature
            back = table.mul_((-given / total)[:, None])  # in place: a second way back is refused
            back.scatter_add_(1, tokens[:, None], given[:, None])
            return back.to(ctx.dtype), None, None

    return ChosenLogprobs


def cut_tokens(num_tokens: int, head: Any) -> Iterator[slice]:
    """Slices of `num_tokens` whose logits by this output layer are held at once."""
    weight = head.weight
    at_once = LOGITS_AT_ONCE_GPU
    if weight.device.type == "cpu":
        is_wide = weight.dtype.itemsize > 2
        at_once = LOGITS_AT_ONCE_CPU if is_wide else LOGITS_AT_ONCE_CPU_16_BIT
    size = max(1, at_once // max(1, weight.shape[0]))
    for start in range(0, num_tokens, size):
        yield slice(start, start + size)


def all_logprobs(
    head: Any, states: "torch.Tensor", tokens: "torch.Tensor", temperature: float
) -> "torch.Tensor":
    """`token_logprobs` of any number of states, without gradient."""
    import torch

    with torch.no_grad():
        found = [
            token_logprobs(head, states[part], tokens[part], temperature)[0]
            for part in cut_tokens(len(tokens), head)
        ]
    return torch.cat(found) if found else states.new_zeros(0, dtype=torch.float32)
