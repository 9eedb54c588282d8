"""Guards: a run that has gone wrong ends with a sentence that says what to change."""

import math
from collections.abc import Mapping

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.ppo_params import PpoParams

KEPT = "the last checkpoint is kept."


def check_step(values: Mapping[str, float], update: int, params: PpoParams) -> None:
    """Raise TrainingFailed where a step's loss is no number, or its ratio out of bounds."""
    for name in ("policy_loss", "value_loss", "ratio"):
        if not math.isfinite(values[name]):
            raise TrainingFailed(
                f"The {name} was no number any more in update {update}: choose a lower lr (now "
                f"{params.lr:g}) or precision fp32; {KEPT}"
            )
    ratio = values["ratio"]
    if not 1 / params.max_ratio <= ratio <= params.max_ratio:
        raise TrainingFailed(
            f"The policy left the one that sampled within update {update} (mean ratio {ratio:.3g}, "
            f"bound {params.max_ratio:g}): choose a lower lr (now {params.lr:g}) or fewer "
            f"ppo_epochs; {KEPT}"
        )


def check_norm(norm: float, update: int, params: PpoParams, *, is_scaled: bool) -> None:
    """Raise TrainingFailed where the gradient is no number (float16's scaler skips such steps)."""
    if not math.isfinite(norm) and not is_scaled:
        raise TrainingFailed(
            f"The gradient was no number any more in update {update}: choose a lower lr (now "
            f"{params.lr:g}) or precision fp32; {KEPT}"
        )


def check_update(
    values: Mapping[str, float],
    first: Mapping[str, float],
    streaks: dict[str, int],
    update: int,
    params: PpoParams,
) -> None:
    """Raise TrainingFailed where the policy has gone far off, or has collapsed.

    `values` are the update's, `first` the first update's; `streaks` count updates on end below a
    bound, and are changed.
    """
    kl = values["kl"]
    if not math.isfinite(kl) or abs(kl) > params.max_kl:
        raise TrainingFailed(
            f"The policy went far from the reference by update {update} (KL {kl:.3g} nats an "
            f"answer, bound {params.max_kl:g}): choose a higher kl_coef (now {params.kl_coef:g}), "
            f"a kl_target, or a lower lr; {KEPT}"
        )
    bounds = {
        "entropy": (params.min_entropy_share, "a higher kl_coef or entropy_coef, or a lower lr"),
        "length": (params.min_length_share, "a reward that does not favour short answers"),
        "eos_share": (params.min_eos_share, "a higher missing_eos_penalty or response_tokens"),
    }
    for name, (share, remedy) in bounds.items():
        low = share * first[name]
        below = share > 0.0 and values[name] < low
        streaks[name] = streaks.get(name, 0) + 1 if below else 0
        if streaks[name] >= params.patience:
            raise TrainingFailed(
                f"The {name} collapsed by update {update} ({values[name]:.3g}, in the first update "
                f"{first[name]:.3g}): choose {remedy}; {KEPT}"
            )
