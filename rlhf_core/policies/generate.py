"""Sampling of answers: batched, with a cache of keys and values, finished rows taken out.

Prompts are sorted by length, so that little is padding. A row's random numbers are its own: what
it answers depends neither on the rows beside it nor on the process that samples it (up to
rounding). Log-probabilities and values are kept from sampling: nothing is computed twice.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.lean_trunk import attends_to_all
from rlhf_core.policies.network import ActorCritic

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE_CPU = 64
ROWS_AT_ONCE_GPU = 512
MIN_FINISHED = 1 / 8
"""The share of finished rows at which they are taken out of the cache, which copies it."""


@dataclass(frozen=True)
class Sampled:
    """Answers (n rows, up to T tokens, padded with 0) with the figures of their sampling.

    `lengths` count the end token; `has_ended` says whether a row has one. `logprobs` are those of
    the tokens at the sampling temperature, `values` the critic's before each token.
    """

    prompts: list[list[int]]
    tokens: "torch.Tensor"
    lengths: "torch.Tensor"
    logprobs: "torch.Tensor"
    values: "torch.Tensor"
    has_ended: "torch.Tensor"

    @property
    def mask(self) -> "torch.Tensor":
        """Which tokens (n, T) are real."""
        import torch

        places = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return places[None, :] < self.lengths[:, None]


def sample(
    policy: ActorCritic,
    prompts: Sequence[Sequence[int]],
    uniforms: "torch.Tensor",
    *,
    temperature: float,
    end_ids: Sequence[int],
    with_values: bool = True,
) -> Sampled:
    """Sample an answer to each of `prompts` (token ids, at least one each).

    `uniforms` (n, T) in 0..1 decide the tokens, and T is the most that an answer may have.
    """
    import torch

    num_rows, num_tokens = uniforms.shape
    device = policy.device
    found = Sampled(
        prompts=[list(prompt) for prompt in prompts],
        tokens=torch.zeros((num_rows, num_tokens), dtype=torch.long, device=device),
        lengths=torch.zeros(num_rows, dtype=torch.long, device=device),
        logprobs=torch.zeros((num_rows, num_tokens), device=device),
        values=torch.zeros((num_rows, num_tokens), device=device),
        has_ended=torch.zeros(num_rows, dtype=torch.bool, device=device),
    )
    uniforms = uniforms.to(device)
    ends = torch.tensor(list(end_ids), device=device)
    order = sorted(range(num_rows), key=lambda row: (len(prompts[row]), row))
    at_once = ROWS_AT_ONCE_CPU if device.type == "cpu" else ROWS_AT_ONCE_GPU
    with policy.together("policy"), torch.inference_mode():
        for start in range(0, num_rows, at_once):
            rows = order[start : start + at_once]
            _sample_together(policy, rows, found, uniforms, ends, temperature, with_values)
    return found


def _sample_together(
    policy: ActorCritic,
    places: list[int],
    found: Sampled,
    uniforms: "torch.Tensor",
    ends: "torch.Tensor",
    temperature: float,
    with_values: bool,
) -> None:
    """Sample the rows `places` in one batch, into `found`."""
    import torch

    num_tokens = uniforms.shape[1]
    rows = torch.tensor(places, device=policy.device)
    ids, mask = _pad_left([found.prompts[place] for place in places], num_tokens, policy.device)
    width = ids.shape[1]
    positions = mask.cumsum(-1).sub(1).clamp(min=0) if mask is not None else None
    cache = make_cache(policy.config, width + num_tokens)
    running = torch.ones(len(places), dtype=torch.bool, device=policy.device)
    for step in range(num_tokens):
        states = policy.states(
            ids,
            mask=mask[:, : width + step] if mask is not None else None,
            positions=_now(positions, width, step),
            cache=cache,
        )[:, -1]
        tokens, logprobs = _draw(policy.head(states), uniforms[rows, step], temperature)
        alive = rows[running]
        found.tokens[alive, step] = tokens[running]
        found.logprobs[alive, step] = logprobs[running]
        if with_values:
            found.values[alive, step] = policy.values(states)[running]
        found.lengths[alive] = step + 1
        has_ended = torch.isin(tokens, ends) & running
        found.has_ended[rows[has_ended]] = True
        running = running & ~has_ended
        num_running = int(running.sum())
        if num_running == 0:
            return
        ids = tokens[:, None]
        if len(rows) - num_running >= max(1, MIN_FINISHED * len(rows)):
            kept = running.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            ids, rows, running = ids[kept], rows[kept], running[kept]
            mask = mask[kept] if mask is not None else None
            positions = positions[kept] if positions is not None else None


def _now(positions: "torch.Tensor | None", width: int, step: int) -> "torch.Tensor | None":
    """The positions of the tokens that go in now: the prompt's at first, then one."""
    if positions is None:
        return None
    return positions[:, :width] if step == 0 else positions[:, width + step - 1 : width + step]


def _draw(
    logits: "torch.Tensor", uniforms: "torch.Tensor", temperature: float
) -> "tuple[torch.Tensor, torch.Tensor]":
    """A token a row, by the inverse of its distribution function, and its log-probability."""
    import torch

    logits = logits.float()
    if temperature != 1.0:
        logits = logits / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    rising = logprobs.exp().cumsum(-1)
    wanted = uniforms[:, None].to(rising.dtype) * rising[:, -1:]
    tokens = torch.searchsorted(rising, wanted, right=True).clamp(max=logits.shape[-1] - 1)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def _pad_left(
    prompts: list[list[int]], more: int, device: "torch.device"
) -> "tuple[torch.Tensor, torch.Tensor | None]":
    """Ids (n, width) padded on the left; a mask for `more` tokens yet to come, if one is needed.

    Without padding there is none: attention without a mask is quicker.
    """
    import torch

    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
    if all(len(prompt) == width for prompt in prompts):
        return ids, None
    gaps = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
    mask = torch.arange(width + more, device=device)[None, :] >= gaps[:, None]
    return ids, mask.long()


def make_cache(config: Any, capacity: int) -> Any:
    """A cache of keys and values for so many tokens, grown without copying where that is safe."""
    from transformers import Cache, DynamicCache

    if not attends_to_all(config):
        return DynamicCache(config=config)
    return Cache(layer_class_to_replicate=functools.partial(_roomy_layer(), capacity))


@functools.cache
def _roomy_layer() -> Any:
    """A layer of the cache with room for all tokens from the start.

    transformers' own copies all that it holds at each token.
    """
    import torch
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):  # type: ignore[misc]
        def __init__(self, capacity: int, **options: Any) -> None:
            super().__init__()
            self.capacity = capacity
            self.length = 0

        def lazy_initialization(self, keys: torch.Tensor, values: torch.Tensor) -> None:
            self.dtype, self.device = keys.dtype, keys.device
            self._keys = keys.new_empty((*keys.shape[:2], self.capacity, keys.shape[3]))
            self._values = values.new_empty((*values.shape[:2], self.capacity, values.shape[3]))
            self.is_initialized = True
            self._show()

        def update(
            self, keys: torch.Tensor, values: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
            end = self.length + keys.shape[2]
            self._keys[:, :, self.length : end] = keys
            self._values[:, :, self.length : end] = values
            self.length = end
            self._show()
            return self.keys, self.values

        def get_seq_length(self) -> int:
            return self.length

        def batch_select_indices(self, indices: torch.Tensor) -> None:
            self._keys = self._select(self._keys, indices)
            self._values = self._select(self._values, indices)
            self._show()

        def _select(self, whole: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
            kept = whole.new_empty((len(indices), *whole.shape[1:]))
            kept[:, :, : self.length] = whole[indices, :, : self.length]
            return kept

        def _show(self) -> None:
            self.keys = self._keys[:, :, : self.length]
            self.values = self._values[:, :, : self.length]

    return RoomyLayer
