"""Weights dealt to the processes (FSDP2 of torch): each keeps an even part of every weight.

The parts are in float32, and so are a part's gradient and what the optimizer keeps of it. Layers
are put together, in the precision that is computed in, just while they run. Where nothing is
learned (sampling, the reference) a model is put together once for all that it runs there: what
processes run may then differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.narrow import find_layers

if TYPE_CHECKING:
    import torch


class Dealt:
    """A causal model, or a trunk, whose weights are dealt; `run` is how its trunk is called.

    All processes make it of the same weights, and then run and learn in step.
    """

    def __init__(self, model: Any, mesh: Any, *, dtype: "torch.dtype") -> None:
        import torch
        from torch.distributed.fsdp import (
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        trunk = model.base_model
        self._root = model
        self._parts = [*find_layers(trunk), model]
        precision = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        for part in self._parts:
            fully_shard(part, mesh=mesh, mp_policy=precision)
        for part in self._parts:
            part.set_gradient_divide_factor(1.0)  # the loss is divided by all processes' tokens
            part.set_force_sum_reduction_for_comms(True)
        self.run = model
        if trunk is not model:
            model.run_trunk = lambda **given: trunk(**given)
            register_fsdp_forward_method(model, "run_trunk")
            self.run = model.run_trunk

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within, each process has all weights. For passes without gradient alone."""
        for part in reversed(self._parts):  # the root comes first: it prepares the others
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for part in self._parts:
                part.set_reshard_after_forward(part is not self._root, recurse=False)
                part.reshard()
            self._root.reset_iter_state()  # it notes each pass for a backward that never comes


def make_mesh(device: "torch.device", count: int) -> Any:
    """The processes that weights are dealt to."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (count,))


def is_dealt(weight: "torch.Tensor") -> bool:
    """Whether it is a weight of which each process has a part."""
    return hasattr(weight, "full_tensor")


def own_part(weight: Any) -> "torch.Tensor":
    """This process's part of a dealt weight, in the same memory."""
    part: torch.Tensor = weight.detach().to_local()
    return part


def cut_part(whole: "torch.Tensor", like: Any) -> "torch.Tensor":
    """This process's part of something whole, dealt as the weight `like` is."""
    from torch.distributed.tensor import distribute_tensor

    dealt = distribute_tensor(
        whole.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )
    return own_part(dealt)


def put_together(part: "torch.Tensor", like: Any) -> "torch.Tensor":
    """The whole of something that is dealt as the weight `like` is; all processes call it alike."""
    from torch.distributed.tensor import DTensor

    dealt = DTensor.from_local(
        part.detach(),
        like.device_mesh,
        like.placements,
        run_check=False,
        shape=like.shape,
        stride=like.stride(),
    )
    whole: torch.Tensor = dealt.full_tensor()
    return whole
