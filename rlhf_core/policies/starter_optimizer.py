"""Muon for the starter's hidden matrices, AdamW for all else: a language in a third of the steps.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon): the momentum of a matrix is replaced by the
nearest orthogonal one. Its length is that of an AdamW step, as in Liu et al. 2025 (arXiv
2502.16982), so that both take rates of like size.
"""

import functools
import math
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.optimizer import MasterAdamW

if TYPE_CHECKING:
    import torch

MOMENTUM = 0.95
BETAS = (0.9, 0.95)
EPSILON = 1e-8
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NUM_STEPS = 5
LIKE_ADAM = 0.2


class MasterMuon(MasterAdamW):
    """Muon with `matrix_lr` for the weights in `matrices`, AdamW with `lr` for those in `rest`.

    All else is as in MasterAdamW. `dtype` is that in which matrices are made orthogonal.
    """

    def __init__(
        self,
        matrices: "dict[str, torch.Tensor]",
        rest: "dict[str, torch.Tensor]",
        *,
        matrix_lr: float,
        lr: float,
        weight_decay: float,
        dtype: "torch.dtype",
        scaler: Any = None,
    ) -> None:
        super().__init__(
            [(matrices, matrix_lr), (rest, lr)], weight_decay=weight_decay, scaler=scaler
        )
        own = {id(self.masters[name]) for name in matrices}
        names = ("params", "lr", "initial_lr", "weight_decay")
        groups = [
            {name: group[name] for name in names}
            | {"is_matrix": all(id(one) in own for one in group["params"])}
            for group in self.optimizer.param_groups
        ]
        self.optimizer = _optimizer_class()(groups, dtype)


def orthogonalize(matrix: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Nearly the orthogonal matrix nearest to `matrix` (singular values between 0.7 and 1.2)."""
    import torch

    first, second, third = NEWTON_SCHULZ
    found = matrix.to(dtype)
    is_tall = found.shape[0] > found.shape[1]
    found = found.T if is_tall else found
    found = found / found.norm().clamp(min=1e-7)
    for _ in range(NUM_STEPS):
        square = found @ found.T
        found = torch.addmm(
            found, torch.addmm(square, square, square, beta=second, alpha=third), found, beta=first
        )
    return found.T if is_tall else found


@functools.cache
def _optimizer_class() -> Any:
    import torch

    class MuonAdamW(torch.optim.Optimizer):
        def __init__(self, groups: list[dict[str, Any]], dtype: torch.dtype) -> None:
            super().__init__(groups, {})
            self._dtype = dtype

        @torch.no_grad()
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for group in self.param_groups:
                for weight in group["params"]:
                    if weight.grad is None:
                        continue
                    weight.mul_(1.0 - group["lr"] * group["weight_decay"])
                    change = self._turn if group["is_matrix"] else self._adapt
                    weight.sub_(change(self.state[weight], weight.grad), alpha=group["lr"])

        def _turn(self, state: dict[str, Any], gradient: torch.Tensor) -> torch.Tensor:
            """Muon's change of a matrix, for a rate of 1."""
            if not state:
                state["momentum"] = torch.zeros_like(gradient)
            state["momentum"].lerp_(gradient, 1.0 - MOMENTUM)
            ahead = gradient.lerp(state["momentum"], MOMENTUM)
            turned = orthogonalize(ahead, self._dtype).to(gradient.dtype)
            return turned * (LIKE_ADAM * math.sqrt(max(gradient.shape)))

        def _adapt(self, state: dict[str, Any], gradient: torch.Tensor) -> torch.Tensor:
            """Adam's change of a weight, for a rate of 1."""
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(gradient)
                state["exp_avg_sq"] = torch.zeros_like(gradient)
            state["step"] += 1
            state["exp_avg"].lerp_(gradient, 1.0 - BETAS[0])
            state["exp_avg_sq"].lerp_(gradient.square(), 1.0 - BETAS[1])
            done = float(state["step"])
            spread = state["exp_avg_sq"].sqrt() / math.sqrt(1.0 - math.pow(BETAS[1], done))
            change: torch.Tensor = state["exp_avg"] / (spread + EPSILON)
            return change / (1.0 - math.pow(BETAS[0], done))

    return MuonAdamW
