"""A model's trunk, run without transformers' layers: quicker on a CPU, and smaller to go back.

Only trunks of Llama's make (Llama, SmolLM, Qwen2, Mistral without a window) are run so, and only
where that gives the states that the trunk gives itself. The weights stay the trunk's.
"""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.lean_functions import AfterAttention, BeforeAttention, Layout, Norm
from rlhf_core.policies.logprobs import has_costly_shapes, round_up
from rlhf_core.policies.narrow import find_layers

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3
TOLERANCE_16_BIT = 5e-2
TRUNK = {"embed_tokens", "layers", "norm", "rotary_emb"}
NORMS = {"input_layernorm", "post_attention_layernorm"}
LAYER = {"self_attn", "mlp"} | NORMS
ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
SILU = {"SiLU", "SiLUActivation"}


class LeanTrunk:
    """A trunk's states; `make_lean` says for which trunks there is one."""

    def __init__(self, trunk: Any) -> None:
        self._trunk = trunk
        self._layers = find_layers(trunk)

    def run(
        self,
        ids: "torch.Tensor",
        *,
        mask: "torch.Tensor | None" = None,
        positions: "torch.Tensor | None" = None,
        cache: Any = None,
    ) -> "torch.Tensor":
        """The last states (rows, tokens, width) for ids (rows, tokens), without gradient.

        `mask` (rows, tokens of the cache and of `ids`) is 0 where a token is padding, on the left
        of a row; `positions` (rows, tokens) then say the tokens' places in their rows.
        """
        import torch

        num_rows, num_tokens = ids.shape
        if positions is None:
            seen = cache.get_seq_length() if cache is not None else 0
            positions = torch.arange(seen, seen + num_tokens, device=ids.device)
        states = self._run(
            ids.flatten(),
            positions.expand(num_rows, num_tokens).flatten(),
            Layout(num_rows, num_tokens),
            allowed=None if mask is None else _allow(mask, num_tokens),
            cache=cache,
        )
        return states.view(num_rows, num_tokens, -1)

    def run_rows(
        self, rows: Sequence[Sequence[int]], wanted: "torch.Tensor | None" = None
    ) -> "torch.Tensor":
        """The last states (n, width) of rows of ids, one after the other: n tokens of all rows.

        Of rows of any lengths, padding is but in attention. With `wanted` (m,) of n, the states
        of these tokens alone.
        """
        import torch

        weight = self._trunk.norm.weight
        lengths = [len(row) for row in rows]
        num_wanted = sum(lengths) if wanted is None else len(wanted)
        if has_costly_shapes(weight) and min(lengths) < max(lengths):
            # one more row, of which nothing is wanted: even ones are of few shapes anyway
            spare = round_up(sum(lengths) + 1) - sum(lengths)
            rows, lengths = [*rows, [0] * spare], [*lengths, spare]
            if wanted is not None:
                more = wanted.new_full((round_up(num_wanted) - num_wanted,), sum(lengths) - 1)
                wanted = torch.cat((wanted, more))
        ids = torch.tensor([token for row in rows for token in row], device=weight.device)
        positions = torch.tensor(
            [place for one in lengths for place in range(one)], device=weight.device
        )
        layout = _lay_out(lengths, weight.device)
        return self._run(ids, positions, layout, wanted=wanted)[:num_wanted]

    def _run(
        self,
        ids: "torch.Tensor",
        positions: "torch.Tensor",
        layout: Layout,
        *,
        wanted: "torch.Tensor | None" = None,
        allowed: "torch.Tensor | None" = None,
        cache: Any = None,
    ) -> "torch.Tensor":
        """The last states (n, width) of tokens (n,) at their positions (n,)."""
        import torch
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        trunk = self._trunk
        states = trunk.embed_tokens(ids)
        dtype = torch.float32 if torch.is_grad_enabled() else states.dtype  # see float32_attention
        angles = [
            table[0].to(dtype).unsqueeze(1)
            for table in trunk.rotary_emb(states, position_ids=positions[None])
        ]
        for number, layer in enumerate(self._layers):
            attention, feed = layer.self_attn, layer.mlp
            sides = (attention.q_proj, attention.k_proj, attention.v_proj)
            first, second = layer.input_layernorm, layer.post_attention_layernorm
            query, key, value = _call(
                BeforeAttention, states, *angles, layout, first.variance_epsilon, first.weight,
                *(side.weight for side in sides), *(side.bias for side in sides),
            )  # fmt: skip
            if cache is not None:
                key, value = cache.update(key, value, number)
            mixed, _ = sdpa_attention_forward(
                attention, query, key, value, allowed, scaling=attention.scaling
            )
            is_last = layer is self._layers[-1]
            states = _call(
                AfterAttention, mixed.flatten(0, 1).flatten(1), states, layout,
                wanted if is_last else None, second.variance_epsilon, attention.o_proj.weight,
                second.weight, *(getattr(feed, name).weight for name in FEED_FORWARD),
            )  # fmt: skip
        found: torch.Tensor = _call(Norm, states, trunk.norm.weight, trunk.norm.variance_epsilon)
        return found


def make_lean(trunk: Any) -> LeanTrunk | None:
    """How to run the trunk leaner; None where it is of another make, or gives other states."""
    if not (_is_known(trunk) and attends_to_all(trunk.config)):
        return None
    import torch

    found = LeanTrunk(trunk)
    weight = trunk.norm.weight
    ids = torch.arange(1, 13, device=weight.device).view(3, 4) % trunk.embed_tokens.num_embeddings
    with torch.inference_mode():
        theirs = trunk(input_ids=ids, use_cache=False).last_hidden_state.float()
        ours = found.run(ids).float()
    tolerance = TOLERANCE if weight.dtype == torch.float32 else TOLERANCE_16_BIT
    return found if torch.allclose(theirs, ours, atol=tolerance, rtol=tolerance) else None


def attends_to_all(config: Any) -> bool:
    """Whether each token of the model sees all before it: there is no window."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    return kinds == {"full_attention"} and not getattr(text, "sliding_window", None)


def _is_known(trunk: Any) -> bool:
    """Whether the trunk has the parts that are run here, and no others."""
    import torch

    if {name for name, _ in trunk.named_children()} != TRUNK:
        return False
    if getattr(trunk.config, "_attn_implementation", None) != "sdpa":
        return False
    for layer in trunk.layers:
        if {name for name, _ in layer.named_children()} != LAYER:
            return False
        inner = dict(layer.self_attn.named_children()) | dict(layer.mlp.named_children())
        activation = inner.pop("act_fn", None)
        if set(inner) != ATTENTION | set(FEED_FORWARD) or type(activation).__name__ not in SILU:
            return False
        if any(type(part) is not torch.nn.Linear for part in inner.values()):
            return False  # such as one with an adapter
        if any(inner[name].bias is not None for name in ("o_proj", *FEED_FORWARD)):
            return False
        if not all(hasattr(getattr(layer, name), "variance_epsilon") for name in NORMS):
            return False
    is_plain = type(trunk.embed_tokens) is torch.nn.Embedding
    return is_plain and hasattr(trunk.norm, "variance_epsilon")


def _call(function: Any, *given: Any) -> Any:
    """The function's result; with what its way back needs where there is one."""
    import torch

    if torch.is_grad_enabled():
        return _with_way_back(function).apply(*given)
    return function.forward(_Forgetful(), *given)


@functools.cache
def _with_way_back(function: Any) -> Any:
    """The function, known to autograd."""
    import torch
    from torch.autograd.function import once_differentiable

    backward = staticmethod(once_differentiable(function.backward))
    return type(function.__name__, (function, torch.autograd.Function), {"backward": backward})


class _Forgetful:
    """What a function keeps for its way back, where there is none."""

    def save_for_backward(self, *kept: Any) -> None:
        """Keep nothing."""


def _lay_out(lengths: Sequence[int], device: "torch.device") -> Layout:
    """Rows of these lengths, in order."""
    import torch

    width = max(lengths)
    if min(lengths) == width:
        return Layout(len(lengths), width)
    ends = torch.tensor(lengths, device=device)
    steps = torch.arange(width, device=device)
    is_real = steps < ends[:, None]
    first = ends.cumsum(0) - ends
    sources = (first[:, None] + steps).where(is_real, 0).flatten()
    return Layout(len(lengths), width, is_real.flatten().nonzero()[:, 0], sources)


def _allow(mask: "torch.Tensor", num_tokens: int) -> "torch.Tensor":
    """Which tokens (rows, 1, num_tokens, all) see which: none after them, and no padding."""
    import torch

    places = torch.arange(mask.shape[1], device=mask.device)
    is_before = places[None, :] <= places[-num_tokens:, None]
    allowed = is_before[None, None] & mask.bool()[:, None, None, :]
    return allowed | ~allowed.any(-1, keepdim=True)  # a sum over nothing would be no number
