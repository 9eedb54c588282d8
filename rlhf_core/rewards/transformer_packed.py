"""Texts of any lengths through a transformer as one row, without padding and without parts.

All layers but attention look at one token at a time: they take the row as it is. Attention runs
text by text. A batch cut into padded parts costs its padding and, for each part, another pass over
the weights and their gradients.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rlhf_core.rewards.transformer_text import Tokens

if TYPE_CHECKING:
    import torch

PACKED = "rlhf_packed"
KINDS = frozenset({"bert", "llama", "qwen2", "qwen3"})
"""Model types whose attention sees whole texts and whose head reads one token."""
GRAIN = 64
"""A row in 16 bits is filled up to a multiple of so many tokens: for each length of a row, torch
builds its products of matrices anew, and keeps megabytes of each."""
_lengths: ContextVar[list[int]] = ContextVar("lengths of the packed texts")


def can_pack(model: Any) -> bool:
    """Whether `forward_packed` knows this model."""
    config = _inner(model).config
    return (
        config.model_type in KINDS
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "is_decoder", False)
    )


def forward_packed(model: Any, texts: Sequence[Tokens], device: "torch.device") -> "torch.Tensor":
    """The logits (n, heads) of texts, as one padded pass gives them; dropout draws differ."""
    import torch

    _register()
    inner = _inner(model)
    trunk = getattr(inner, inner.base_model_prefix)
    lengths = [len(text.ids) for text in texts]
    fill = _count_filling(sum(lengths), device)
    inputs = {
        "input_ids": [token for text in texts for token in text.ids],
        "position_ids": [place for length in lengths for place in range(length)],
    }
    if all(text.types is not None for text in texts):
        inputs["token_type_ids"] = [kind for text in texts for kind in text.types or ()]
    tensors = {
        name: torch.tensor([row + [0] * fill], device=device) for name, row in inputs.items()
    }
    before, inner.config._attn_implementation = inner.config._attn_implementation, PACKED
    told = _lengths.set([*lengths, fill] if fill else lengths)
    try:
        hidden = trunk(**tensors).last_hidden_state[0]
    finally:
        _lengths.reset(told)
        inner.config._attn_implementation = before
    starts = torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)
    if hasattr(inner, "score"):  # causal: the last token has seen all
        last = [_find_last(text.ids, inner.config.pad_token_id) for text in texts]
        logits: torch.Tensor = inner.score(hidden[starts + torch.tensor(last, device=device)])
        return logits
    pooled = trunk.pooler(hidden[starts][:, None])
    return inner.classifier(inner.dropout(pooled))  # type: ignore[no-any-return]


def _count_filling(num_tokens: int, device: "torch.device") -> int:
    """How many tokens fill a row up: none where it computes in float32, which gains nothing."""
    import torch

    return -num_tokens % GRAIN if torch.is_autocast_enabled(device.type) else 0


def _find_last(ids: Sequence[int], pad_id: int) -> int:
    """The token that transformers takes: an end-of-text that is also the padding does not count."""
    return next((place for place in range(len(ids) - 1, 0, -1) if ids[place] != pad_id), 0)


def _inner(model: Any) -> Any:
    """The model itself, or that which LoRA adapters were put into."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@lru_cache
def _register() -> None:
    """Name the attention to transformers. It needs no mask."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        lengths = _lengths.get()
        dtype = query.dtype
        with torch.autocast(query.device.type, enabled=False):
            if query.device.type == "cpu":  # goes back in bfloat16 twice as slowly
                query, key, value = query.float(), key.float(), value.float()
            cut = [torch.split(table, lengths, dim=2) for table in (query, key, value)]
            mixed = [
                scaled_dot_product_attention(
                    of_query,
                    of_key,
                    of_value,
                    dropout_p=dropout,
                    scale=scaling,
                    is_causal=module.is_causal,
                    enable_gqa=query.shape[1] != key.shape[1],
                )
                for of_query, of_key, of_value in zip(*cut, strict=True)
            ]
        return torch.cat(mixed, dim=2).transpose(1, 2).contiguous().to(dtype), None

    AttentionInterface.register(PACKED, attend)
    AttentionMaskInterface.register(PACKED, lambda *_, **__: None)
