"""The state of a training run between two steps, to the last bit, as files without code."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TENSORS, NUMBERS = "state.safetensors", "state.json"


@dataclass
class Progress:
    """Where a run stands. `losses` and `num_summed` are of the epoch so far.

    `best_loss` (held out) is that of the weights kept as `best`, of `best_epoch`; `num_averaged`
    weights are summed up in `sums`. `history` has one entry an epoch.
    """

    fingerprint: str
    step: int = 0
    loss_sum: float = 0.0
    num_summed: int = 0
    best_loss: float | None = None
    best_epoch: int = 0
    num_averaged: int = 0
    has_ended: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Weights:
    """Copies of the trained weights by name: the `best` epoch's, and `sums` to be averaged."""

    best: "dict[str, torch.Tensor]" = field(default_factory=dict)
    sums: "dict[str, torch.Tensor]" = field(default_factory=dict)


def trained_weights(model: Any) -> "dict[str, torch.Tensor]":
    """The weights that training changes, by name; not copies."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def copy_weights(weights: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Copies that later steps leave alone."""
    return {name: value.detach().clone() for name, value in weights.items()}


def put_weights(model: Any, weights: "dict[str, torch.Tensor]") -> None:
    """Set the trained weights of the model."""
    import torch

    with torch.no_grad():
        for name, value in trained_weights(model).items():
            value.copy_(weights[name])


def write_state(
    path: Path, progress: Progress, weights: Weights, model: Any, optimizer: Any, scaler: Any
) -> None:
    """Write everything that the next step depends on into the folder `path`."""
    import torch
    from safetensors.torch import save_file

    device = next(model.parameters()).device
    tensors = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    groups = {"model": trained_weights(model), "best": weights.best, "sums": weights.sums}
    for group, values in groups.items():
        tensors |= {f"{group}/{name}": value.detach() for name, value in values.items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": value for name, value in entry.items()}
    save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, path / TENSORS)
    scaling = scaler.state_dict() if scaler is not None else {}
    (path / NUMBERS).write_text(json.dumps({"progress": asdict(progress), "scaler": scaling}))


def read_state(path: Path, model: Any, optimizer: Any, scaler: Any) -> tuple[Progress, Weights]:
    """Put a verified checkpoint's state into model, optimizer and random numbers."""
    import torch
    from safetensors.torch import load_file

    device = next(model.parameters()).device
    tensors = load_file(path / TENSORS)
    numbers = json.loads((path / NUMBERS).read_text())

    def group(prefix: str) -> "dict[str, torch.Tensor]":
        start = f"{prefix}/"
        found = {name: value for name, value in tensors.items() if name.startswith(start)}
        return {name.removeprefix(start): value for name, value in found.items()}

    put_weights(model, group("model"))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in group("optimizer").items():
        number, part = name.split("/")
        state.setdefault(int(number), {})[part] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if scaler is not None:
        scaler.load_state_dict(numbers["scaler"])
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    kept = Weights(
        best={name: value.to(device) for name, value in group("best").items()},
        sums={name: value.to(device) for name, value in group("sums").items()},
    )
    return Progress(**numbers["progress"]), kept


def read_fingerprint(path: Path) -> str:
    """Of which run a verified checkpoint is."""
    return str(json.loads((path / NUMBERS).read_text())["progress"]["fingerprint"])
