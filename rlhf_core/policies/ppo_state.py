"""The state of a PPO run between two updates, to the last bit, as files without code.

Random numbers and the order of the prompts are functions of the seed and the update alone, so the
number of the update is all there is to keep of them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.policies.optimizer import MasterAdamW

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

NUMBERS = "state.json"
MAX_SAMPLES = 25


@dataclass
class PpoProgress:
    """Where a run stands, after `update` updates.

    `kl_coef` is the adaptive controller's; `reward_mean` that of the first batch (None before);
    `first` are the first update's figures, which guards compare with; `streaks` count updates below
    a bound. `history` has the figures of each update, `samples` answers to fixed prompts, `probe`
    the wrong opinions of the sycophancy probe. `step_mean` is what the steps of one of
    the first batch's answers had together, on average.
    """

    fingerprint: str
    kl_coef: float
    update: int = 0
    reward_mean: float | None = None
    first: dict[str, float] = field(default_factory=dict)
    streaks: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    probe: dict[str, Any] = field(default_factory=dict)
    step_mean: float | None = None

    def keep_samples(self, entry: dict[str, Any]) -> None:
        """Add what was sampled at an update; the first, which is the reference's, always stays."""
        self.samples.append(entry)
        if len(self.samples) > MAX_SAMPLES:
            del self.samples[1]


def write_state(
    path: Path,
    progress: "DataclassInstance",
    optimizer: MasterAdamW,
    tensors: "Mapping[str, Mapping[str, torch.Tensor]] | None" = None,
) -> None:
    """Write everything that the next update depends on into the folder `path`.

    Weights and each kind of the optimizer's numbers have files of their own: writing one holds a
    copy of it in memory. `tensors` are what the optimizer collected; None: it is asked now.
    """
    from safetensors.torch import save_file

    for kind, group in (optimizer.collect() if tensors is None else tensors).items():
        ready = {name: value.detach().contiguous().cpu() for name, value in group.items()}
        save_file(ready, path / f"{kind}.safetensors")
    scaling = optimizer.scaler.state_dict() if optimizer.scaler is not None else {}
    (path / NUMBERS).write_text(json.dumps({"progress": asdict(progress), "scaler": scaling}))


def read_state(path: Path, optimizer: MasterAdamW) -> PpoProgress:
    """Put a verified checkpoint's state into the weights and the optimizer."""
    return PpoProgress(**read_tensors(path, optimizer))


def read_tensors(path: Path, optimizer: MasterAdamW) -> dict[str, Any]:
    """Do so, and give the progress that was kept beside it, by field."""
    import torch
    from safetensors.torch import load_file

    numbers = json.loads((path / NUMBERS).read_text())
    weights = load_file(path / "weights.safetensors")
    with torch.no_grad():
        for name, master in optimizer.masters.items():
            master.copy_(optimizer.own(name, weights[name]))
    state: dict[int, dict[str, torch.Tensor]] = {}
    for file in path.glob("optimizer_*.safetensors"):
        kind = file.stem.removeprefix("optimizer_")
        for name, value in load_file(file).items():
            state.setdefault(optimizer.number_of(name), {})[kind] = optimizer.own(name, value)
    inner = optimizer.optimizer
    inner.load_state_dict({"state": state, "param_groups": inner.state_dict()["param_groups"]})
    if optimizer.scaler is not None:
        optimizer.scaler.load_state_dict(numbers["scaler"])
    optimizer.publish()
    progress: dict[str, Any] = numbers["progress"]
    return progress


def read_fingerprint(path: Path) -> str:
    """Of which run a verified checkpoint is."""
    return str(json.loads((path / NUMBERS).read_text())["progress"]["fingerprint"])
