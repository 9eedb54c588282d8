"""The losses of reward models, summed over rows so that parts of a batch add up to the whole."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def preference_losses(
    chosen: "torch.Tensor",
    rejected: "torch.Tensor",
    *,
    margins: "torch.Tensor",
    center: float,
) -> "torch.Tensor":
    """Bradley-Terry losses of pairs (n,) from rewards (n,) and margins (n,).

    -log sigmoid(chosen - rejected - margin) + center * (chosen + rejected)^2: their mean is the
    loss of TRL's `RewardTrainer` (margin: Touvron et al. 2023, "Llama 2", section 3.2.2; centred
    rewards: Eisenstein et al. 2023, "Helping or Herding?").
    """
    from torch.nn import functional

    losses = -functional.logsigmoid(chosen - rejected - margins)
    if center:
        losses = losses + center * (chosen + rejected) ** 2
    return losses


def regression_losses(
    predicted: "torch.Tensor", targets: "torch.Tensor", *, head_weights: "torch.Tensor"
) -> "torch.Tensor":
    """Squared errors of rows (n,), summed over heads by `head_weights` (heads,).

    `predicted` and `targets` are (n, heads); a target that is NaN (an aspect nobody rated) costs
    nothing.
    """
    import torch

    is_known = ~torch.isnan(targets)
    errors = torch.where(is_known, predicted - torch.nan_to_num(targets), 0.0)
    return (errors**2) @ head_weights
