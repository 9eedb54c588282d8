"""AdamW in float32 whatever the weights are in, its schedule, and one step over all processes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.processes import Processes
from rlhf_core.policies.sharding import cut_part, is_dealt, own_part, put_together

if TYPE_CHECKING:
    import torch

EPSILON = 1e-5  # that of PPO's first code: where there is no signal, there is no step


class MasterAdamW:
    """AdamW on float32 copies of 16-bit weights; float32 weights are their own copies.

    Gradients are added up in float32 as soon as they come, and their 16-bit form is let go: small
    ones of many parts of a batch are not lost to rounding. Of weights that are dealt to processes,
    each has its float32 part here, and what belongs to it.
    """

    def __init__(
        self,
        groups: "Sequence[tuple[dict[str, torch.Tensor], float]]",
        *,
        weight_decay: float,
        scaler: Any = None,
    ) -> None:
        import torch

        self.scaler = scaler
        self.masters: dict[str, torch.Tensor] = {}
        self._copies: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._dealt: dict[str, Any] = {}
        settings: list[dict[str, Any]] = []
        for weights, rate in groups:
            for name, weight in weights.items():
                if is_dealt(weight):
                    self._dealt[name] = weight
                    self.masters[name] = own_part(weight).requires_grad_()
                else:
                    self.masters[name] = self._master_of(weight)
            for decay, is_matrix in ((weight_decay, True), (0.0, False)):
                chosen = [
                    self.masters[name]
                    for name, weight in weights.items()
                    if (weight.ndim >= 2) == is_matrix
                ]
                if chosen:
                    settings.append(
                        {"params": chosen, "lr": rate, "initial_lr": rate, "weight_decay": decay}
                    )
        self.optimizer = torch.optim.AdamW(settings, eps=EPSILON, fused=True)

    def _master_of(self, weight: "torch.Tensor") -> "torch.Tensor":
        import torch

        if weight.dtype == torch.float32:
            return weight
        master = weight.detach().float().clone().requires_grad_()
        self._copies.append((weight, master))

        def take(owner: torch.Tensor) -> None:
            gradient = owner.grad
            owner.grad = None
            if gradient is None:
                return
            if master.grad is None:
                master.grad = gradient.float()
            else:
                master.grad.add_(gradient)

        weight.register_post_accumulate_grad_hook(take)  # type: ignore[no-untyped-call]
        return master

    def scale(self, loss: "torch.Tensor") -> "torch.Tensor":
        """The loss as it goes backward: scaled up for float16."""
        return loss if self.scaler is None else self.scaler.scale(loss)

    def step(self, processes: Processes, *, rate: float, max_norm: float) -> float:
        """One step on the sum of all processes' gradients; its norm before it is clipped.

        `rate` is the share of the learning rates. Gradients are gone afterwards.
        """
        import torch

        weights = list(self.masters.values())
        for name, dealt in self._dealt.items():  # their gradients are sums already
            self.masters[name].grad = None if dealt.grad is None else own_part(dealt.grad)
            dealt.grad = None
        if processes.count > 1:
            for weight in weights:
                if weight.grad is None:
                    weight.grad = torch.zeros_like(weight)
            processes.sum_in_place(self._gradients(is_dealt=False))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = self._norm(processes)
        torch.nn.utils.clip_grads_with_norm_(weights, max_norm, norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.publish()
        return float(norm)

    def _gradients(self, *, is_dealt: bool) -> "list[torch.Tensor]":
        return [
            weight.grad
            for name, weight in self.masters.items()
            if (name in self._dealt) == is_dealt and weight.grad is not None
        ]

    def _norm(self, processes: Processes) -> "torch.Tensor":
        """The length of all gradients, of which each process may have a part."""
        import torch

        norm = torch.nn.utils.get_total_norm(self._gradients(is_dealt=False))
        if not self._dealt:
            return norm
        own = torch.nn.utils.get_total_norm(self._gradients(is_dealt=True))
        return torch.sqrt(norm**2 + processes.sums([float(own) ** 2])[0])

    def collect(self, *, keep: bool = True) -> "dict[str, dict[str, torch.Tensor]]":
        """The whole of all that it knows: `weights`, and each kind of the optimizer's numbers.

        Where weights are dealt to processes all of them call it alike; those that do not `keep` it
        get nothing.
        """
        found: dict[str, dict[str, torch.Tensor]] = {}
        for name, master in self.masters.items():
            state = self.optimizer.state.get(master, {})
            kinds = {"weights": master, **{f"optimizer_{kind}": state[kind] for kind in state}}
            for kind, value in kinds.items():
                if name in self._dealt and value.shape == master.shape:
                    value = put_together(value, self._dealt[name])
                    value = value.cpu() if keep else value
                if keep:
                    found.setdefault(kind, {})[name] = value
        return found

    def own(self, name: str, value: "torch.Tensor") -> "torch.Tensor":
        """What this process has of a weight's number as `collect` gave it."""
        dealt = self._dealt.get(name)
        return value if dealt is None or value.shape != dealt.shape else cut_part(value, dealt)

    def number_of(self, name: str) -> int:
        """The number by which the optimizer's state knows a weight."""
        order = [id(one) for group in self.optimizer.param_groups for one in group["params"]]
        return order.index(id(self.masters[name]))

    def publish(self) -> None:
        """Round the float32 copies into the weights that the model computes with."""
        import torch

        with torch.no_grad():
            for weight, master in self._copies:
                weight.copy_(master)


def rate_factor(step: int, total: int, *, schedule: str, warmup: float) -> float:
    """The share (0..1) of the learning rates at a step (from 0) of `total`."""
    rise = round(warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    return (total - step) / max(1, total - rise) if schedule == "linear" else 1.0
