"""How a step model is trained."""

from dataclasses import dataclass
from typing import Literal, get_args

from rlhf_core.rewards.base_model import PRECISIONS, PrecisionName
from rlhf_core.training import require, require_between, require_choice

Aggregate = Literal["min", "product", "last"]


@dataclass(frozen=True)
class StepParams:
    """How to train. The defaults are those that did best with the bundled MiniLM.

    `base`: `minilm`, a folder, or a hub id. `lr` is that of the uppermost layer, each layer below
    has `layer_decay` times that of the one above; `head_lr` is that of the new head and of the
    line on places, lengths and arithmetic. `warmup` is the share of the steps in which the rates
    rise, after which they fall in a line to 0.

    `max_tokens` is of one window: a longer solution is read in several. `held_out_percent` of the
    rows, by prompt, tell the best epoch, calibrate, and choose the threshold of the first-error
    search. `patience`: epochs without a better one, after which to stop; 0 never does. `lora_rank`
    0 trains all weights. `aggregate`: how `score` makes one number of the steps' P(right): the
    least, the product, or the last.
    """

    base: str = "minilm"
    epochs: int = 3
    lr: float = 1e-4
    head_lr: float = 1e-3
    layer_decay: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.1
    batch_size: int = 16
    max_tokens: int = 384
    seed: int = 0
    precision: PrecisionName = "auto"
    lora_rank: int = 0
    held_out_percent: float = 20.0
    patience: int = 2
    checkpoint_every: int = 100
    aggregate: Aggregate = "min"

    def __post_init__(self) -> None:
        require(bool(self.base.strip()), "base", self.base, "minilm, a folder or a hub id")
        require_choice(self, "precision", PRECISIONS)
        check_aggregate(self.aggregate)
        require_between(self, "epochs", 1, 1_000)
        require_between(self, "lr", 0.0, 1.0, above=True)
        require_between(self, "head_lr", 0.0, 1.0, above=True)
        require_between(self, "layer_decay", 0.0, 1.0, above=True)
        require_between(self, "weight_decay", 0.0, 1.0)
        require_between(self, "warmup", 0.0, 0.9)
        require_between(self, "batch_size", 1, 4_096)
        require_between(self, "max_tokens", 32, 131_072)
        require_between(self, "seed", 0, 2**32 - 1)
        require_between(self, "lora_rank", 0, 1_024)
        require_between(self, "held_out_percent", 5.0, 50.0)
        require_between(self, "patience", 0, 1_000)
        require_between(self, "checkpoint_every", 1, 10**6)


def check_aggregate(aggregate: str) -> None:
    """Raise InvalidInput for an unknown aggregate."""
    names = get_args(Aggregate)
    require(aggregate in names, "aggregate", aggregate, ", ".join(names))
