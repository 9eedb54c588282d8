"""One process or several: what they sum, and how all of them learn that one has failed.

Several are started by `accelerate launch` or `torchrun`. Each works on its rows of the global
batch with its own copy of the weights; gradients and figures are summed, so that the result is
that of one process with the whole batch, up to rounding.
"""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlhf_core.errors import TrainingFailed
from rlhf_core.pretrained import choose_device

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Processes:
    """This process (`rank`, from 0) among `count`, and the device that it computes on."""

    rank: int
    count: int
    device: "torch.device"

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and reports."""
        return self.rank == 0

    def sum_in_place(self, tensors: "Sequence[torch.Tensor]") -> None:
        """Replace each tensor by its sum over all processes."""
        if self.count > 1:
            import torch.distributed

            for tensor in tensors:
                torch.distributed.all_reduce(tensor)

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums of numbers over all processes, in double precision."""
        if self.count == 1:
            return list(values)
        import torch

        on = self.device if self.device.type == "cuda" else torch.device("cpu")
        tensor = torch.tensor(values, dtype=torch.float64, device=on)
        self.sum_in_place([tensor])
        return [float(value) for value in tensor]

    def gather(self, value: Any) -> list[Any]:
        """The value (JSON-like) of each process, in order of rank."""
        if self.count == 1:
            return [value]
        import torch.distributed

        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found

    def agree(self, failure: str | None) -> None:
        """Raise TrainingFailed in every process where one of them names a `failure`."""
        named = [one for one in self.gather(failure) if one]
        if named:
            raise TrainingFailed(named[0])


@contextmanager
def open_processes() -> Iterator[Processes]:
    """The processes that this one was started with."""
    if is_asked_for("DEEPSPEED"):
        raise TrainingFailed(
            "DeepSpeed does not run these learners: start them without it, as plain processes; "
            "PPO shards a large model by sharding fsdp2 instead."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield Processes(0, 1, choose_device())
        return
    import torch

    # Its functions take the open group as a default when it is first imported: the group, and its
    # threads, would then outlive the training and may abort the process at its end.
    import torch.distributed.nn.functional
    from accelerate import PartialState

    was_open = torch.distributed.is_initialized()
    state = PartialState(cpu=not torch.cuda.is_available())
    found = Processes(state.process_index, state.num_processes, state.device)
    try:
        yield found
    except RuntimeError as error:
        if not _is_of_another(error):
            raise
        raise TrainingFailed(
            f"Another of the {found.count} processes ended, so process "
            f"{found.rank} ends too: its own message says why; started again, the run "
            "goes on from its last checkpoint."
        ) from error
    finally:
        if not was_open and torch.distributed.is_initialized():
            # A trainer of transformers makes the state anew, so it may not be this one any more.
            # Shards keep the group, and are part of cycles: those of the run that ends go first.
            gc.collect()
            torch.distributed.destroy_process_group()
            PartialState._reset_state()


def is_asked_for(plugin: str) -> bool:
    """Whether `accelerate launch` was told to use its plugin FSDP or DEEPSPEED."""
    return os.environ.get(f"ACCELERATE_USE_{plugin}", "").lower() in ("1", "true", "yes")


def _is_of_another(error: RuntimeError) -> bool:
    """Whether the error is that a process at the other end of a connection is gone."""
    import torch.distributed

    text = str(error)
    return isinstance(error, torch.distributed.DistError) or any(
        words in text for words in ("gloo", "NCCL", "closed by peer", "reset by peer")
    )
