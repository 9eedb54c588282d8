"""The two halves of a decoder layer, as functions whose way back is written out.

A layer of Llama's make is a norm, three projections and a turn by place; attention; and then a
projection, a norm and a gated feed-forward part, with what went in added twice. Written out, both
halves keep only what is dear to compute again, add up inside of products, and pass over the states
fewer times than torch's own way back does.

Each is a class with `forward` and `backward` as torch.autograd.Function has them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where attention has n tokens of some rows: each row's from the left, and then padding.

    `places` (n,) are theirs among num_rows * num_tokens, `sources` (num_rows * num_tokens,) the
    token at each place, any where there is none: what is after a row's tokens, causal attention
    does not see. Both are None where there is no padding.
    """

    num_rows: int
    num_tokens: int
    places: "Tensor | None" = None
    sources: "Tensor | None" = None

    def spread(self, table: "Tensor") -> "Tensor":
        """The tokens' rows of a table (n, ...), at all places."""
        return table if self.sources is None else table.index_select(0, self.sources)

    def collect(self, table: "Tensor", wanted: "Tensor | None" = None) -> "Tensor":
        """The rows of a table of all places that are the tokens', or those of `wanted` (m,)."""
        places = self._find(wanted)
        return table if places is None else table.index_select(0, places)

    def give_back(self, table: "Tensor", wanted: "Tensor | None") -> "Tensor":
        """A table of all places, 0 but for the rows that `collect` would take from it."""
        places = self._find(wanted)
        if places is None:
            return table
        whole = table.new_zeros((self.num_rows * self.num_tokens, table.shape[1]))
        return whole.index_copy_(0, places, table)

    def _find(self, wanted: "Tensor | None") -> "Tensor | None":
        if wanted is None or self.places is None:
            return self.places if wanted is None else wanted
        return self.places[wanted]


class Norm:
    """Zhang and Sennrich 2019 (arXiv 1910.07467): weight * x / sqrt(mean(x²) + epsilon).

    Of states (n, width), in their type; the mean is in float32.
    """

    @staticmethod
    def forward(ctx: Any, states: "Tensor", weight: "Tensor", epsilon: float) -> "Tensor":
        inverse = inverse_lengths(states, epsilon)
        ctx.save_for_backward(states, inverse, weight)
        return normed(states, inverse, weight)

    @staticmethod
    def backward(ctx: Any, given: "Tensor") -> "tuple[Tensor | None, ...]":
        states, inverse, weight = ctx.saved_tensors
        of_states, of_weight = norm_gradients(given.clone(), states, inverse, weight)
        return of_states, of_weight, None


class BeforeAttention:
    """Query, key and value (rows, heads, tokens, size of a head), of a layer's states (n, width).

    `layout` says where attention has the n tokens. Query and key are turned by their places' angles
    (Su et al. 2021, arXiv 2104.09864), whose `cos` and `sin` are (n, 1, size). The result is in
    their type, which is that of attention. `query`, `key` and `value` are the projections' weights,
    `biases` theirs or None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: "Tensor",
        cos: "Tensor",
        sin: "Tensor",
        layout: Layout,
        epsilon: float,
        norm: "Tensor",
        query: "Tensor",
        key: "Tensor",
        value: "Tensor",
        *biases: "Tensor | None",
    ) -> "tuple[Tensor, ...]":
        from torch.nn.functional import linear

        inverse = inverse_lengths(states, epsilon)
        inner = normed(states, inverse, norm)
        found: list[Tensor] = []
        for weight, bias in zip((query, key, value), biases, strict=True):
            one = linear(inner, weight, bias).to(cos.dtype)
            one = one.view(len(one), -1, cos.shape[-1])
            one = layout.spread(turn(one, cos, sin) if len(found) < 2 else one)
            one = one.view(layout.num_rows, layout.num_tokens, *one.shape[1:])
            found.append(one.transpose(1, 2))
        ctx.save_for_backward(states, inverse, cos, sin, norm, query, key, value)
        ctx.layout = layout
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *given: "Tensor") -> "tuple[Tensor | None, ...]":
        import torch

        states, inverse, cos, sin, norm, *projections = ctx.saved_tensors
        inner = normed(states, inverse, norm)
        of_inner = states.new_empty(states.shape)
        of_weights: list[Tensor] = []
        of_biases: list[Tensor | None] = []
        for number, (one, projection) in enumerate(zip(given, projections, strict=True)):
            one = ctx.layout.collect(one.transpose(1, 2).flatten(0, 1))
            if number < 2:  # a turn's way back is the turn by the opposite angle
                one = turn(one, cos, -sin)
            one = one.flatten(1).to(states.dtype)
            torch.addmm(of_inner, one, projection, beta=min(number, 1), out=of_inner)
            of_weights.append(one.t() @ inner)
            of_biases.append(one.sum(0) if ctx.needs_input_grad[9 + number] else None)
        of_states, of_norm = norm_gradients(of_inner, states, inverse, norm)
        return of_states, None, None, None, None, of_norm, *of_weights, *of_biases


class AfterAttention:
    """The layer's states, of what attention gave and what came into the layer: `states` (n, width).

    `mixed` (rows * tokens of the layout, heads * size). With `wanted` (m,) of n, the states of
    these tokens alone: (m, width). `weights` are the output projection's, the norm's, and those of
    the feed-forward part (Shazeer 2020, arXiv 2002.05202): gate, up, down.
    """

    @staticmethod
    def forward(
        ctx: Any,
        mixed: "Tensor",
        states: "Tensor",
        layout: Layout,
        wanted: "Tensor | None",
        epsilon: float,
        *weights: "Tensor",
    ) -> "Tensor":
        from torch.nn.functional import silu

        outwards, norm, gate, up, down = weights
        ctx.layout, ctx.shape = layout, states.shape
        own = layout.collect(mixed, wanted).to(states.dtype)
        states = states if wanted is None else states.index_select(0, wanted)
        middle = states.addmm(own, outwards.t())
        inverse = inverse_lengths(middle, epsilon)
        inner = normed(middle, inverse, norm)
        gated, raised = inner @ gate.t(), inner @ up.t()
        ctx.save_for_backward(mixed, middle, inverse, gated, raised, wanted, *weights)
        product = silu(gated).mul_(raised)
        return middle.addmm(product, down.t())

    @staticmethod
    def backward(ctx: Any, given: "Tensor") -> "tuple[Tensor | None, ...]":
        import torch

        mixed, middle, inverse, gated, raised, wanted, *weights = ctx.saved_tensors
        outwards, norm, gate, up, down = weights
        of_product = given @ down
        opened = torch.nn.functional.silu(gated)
        of_raised = of_product * opened
        of_down = given.t() @ opened.mul_(raised)
        of_gated = torch.ops.aten.silu_backward(of_product.mul_(raised), gated)
        of_inner = (of_gated @ gate).addmm_(of_raised, up)
        inner = normed(middle, inverse, norm)
        of_gate, of_up = of_gated.t() @ inner, of_raised.t() @ inner
        of_states, of_norm = norm_gradients(of_inner, middle, inverse, norm, beside=given)
        of_outwards = of_states.t() @ ctx.layout.collect(mixed, wanted).to(given.dtype)
        of_mixed = ctx.layout.give_back((of_states @ outwards).to(mixed.dtype), wanted)
        if wanted is not None:
            of_states = of_states.new_zeros(ctx.shape).index_copy_(0, wanted, of_states)
        return of_mixed, of_states, None, None, None, of_outwards, of_norm, of_gate, of_up, of_down


def inverse_lengths(states: "Tensor", epsilon: float) -> "Tensor":
    """1 / sqrt(mean(x²) + epsilon) of each row of states (n, width): (n, 1) in float32."""
    import torch

    lengths: Tensor = torch.linalg.vector_norm(states.float(), dim=-1, keepdim=True)
    return lengths.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()


def normed(states: "Tensor", inverse: "Tensor", weight: "Tensor") -> "Tensor":
    """The norm of states, given their inverse lengths."""
    return (states.float() * inverse).to(states.dtype).mul_(weight)


def norm_gradients(
    given: "Tensor",
    states: "Tensor",
    inverse: "Tensor",
    weight: "Tensor",
    beside: "Tensor | None" = None,
) -> "tuple[Tensor, Tensor]":
    """The gradients by a norm's states, with what is `beside` them, and by its weight.

    `given` is overwritten.
    """
    rows = given * states
    of_weight = (inverse.view(1, -1).to(rows.dtype) @ rows).view(-1)
    along = (rows @ weight[:, None]).mul_(inverse**3).div_(-states.shape[-1])
    of_states = states * along if beside is None else beside.addcmul(states, along)
    return of_states.addcmul_(given.mul_(weight), inverse.to(given.dtype)), of_weight


def turn(states: "Tensor", cos: "Tensor", sin: "Tensor") -> "Tensor":
    """Each pair of numbers of states (n, heads, size) turned; they lie half a size apart."""
    half = states.shape[-1] // 2
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned
