"""AdamW with a learning rate for each layer, its schedule, and one step of it."""

import re
from typing import Any

from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_state import trained_weights

MAX_GRADIENT_NORM = 1.0
_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


def make_optimizer(model: Any, params: TransformerParams) -> Any:
    """AdamW with a rate for each layer: the head's, the uppermost layer's, and less below."""
    import torch

    body = {id(value) for value in model.base_model.parameters()}
    if hasattr(model, "peft_config"):
        body = {id(value) for name, value in model.named_parameters() if "lora_" in name}
    names = list(trained_weights(model))
    depths = [int(found[1]) for name in names if (found := _LAYER.search(name))]
    top = max(depths, default=-1) + 1
    groups: dict[tuple[float, float], list[torch.Tensor]] = {}
    for name, value in trained_weights(model).items():
        if id(value) not in body:
            rate = params.head_lr
        else:
            found = _LAYER.search(name)
            depth = int(found[1]) + 1 if found else (0 if "embed" in name else top)
            rate = params.lr * params.layer_decay ** (top - depth)
        decay = params.weight_decay if value.ndim >= 2 else 0.0
        groups.setdefault((rate, decay), []).append(value)
    return torch.optim.AdamW(
        [
            {"params": values, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), values in groups.items()
        ],
        fused=True,
    )


def rate_factor(step: int, total: int, warmup: float) -> float:
    """The share (0..1) of the learning rate at a step: up in the warm-up, then down in a line."""
    rise = max(1, round(warmup * total))
    if step < rise:
        return (step + 1) / (rise + 1)
    return (total - step) / max(1, total - rise)


def make_step(model: Any, optimizer: Any, scaler: Any) -> float:
    """One step of the optimizer on the gradient; its norm before clipping."""
    import torch

    if scaler is not None:
        scaler.unscale_(optimizer)
    weights = list(trained_weights(model).values())
    norm = float(torch.nn.utils.clip_grad_norm_(weights, MAX_GRADIENT_NORM))
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return norm
