"""Log-probabilities of tokens, in parts: the logits of a whole batch are never held at once."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LOGITS_AT_ONCE = 2**21
"""8 MiB in float32: more is no quicker, on a CPU nor on a GPU's caches."""
LOGITS_AT_ONCE_GPU = 2**26


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

    logits = head(states).float()
    if temperature != 1.0:
        logits = logits / temperature
    total = torch.logsumexp(logits, dim=-1)
    chosen = logits.gather(-1, tokens[:, None])[:, 0] - total
    if not with_entropy:
        return chosen, None
    shares = torch.softmax(logits, dim=-1)
    return chosen, total - (shares * logits).sum(-1)


def cut_tokens(num_tokens: int, vocabulary: int, device: "torch.device") -> Iterator[slice]:
    """Slices of `num_tokens` whose logits are held at once."""
    at_once = LOGITS_AT_ONCE if device.type == "cpu" else LOGITS_AT_ONCE_GPU
    size = max(1, at_once // max(1, vocabulary))
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
            for part in cut_tokens(len(tokens), head.weight.shape[0], states.device)
        ]
    return torch.cat(found) if found else states.new_zeros(0, dtype=torch.float32)
