"""How a transformer reward model is trained."""

from dataclasses import dataclass
from typing import Literal

from rlhf_core.rewards.base_model import PRECISIONS, PrecisionName
from rlhf_core.training import require, require_between, require_choice

Objective = Literal["auto", "regression", "preference"]
Overlong = Literal["cut", "drop"]


@dataclass(frozen=True)
class TransformerParams:
    """How to train. The defaults are those that did best with the bundled MiniLM.

    `objective`: `regression` on ratings or thumbs, `preference` (Bradley-Terry) on pairs; `auto`
    is what the rows are. `threshold`: a mean rating at or above it is good (1..5). `base`:
    `minilm`, a folder, or a hub id.

    `lr` is that of the uppermost layer, each layer below has `layer_decay` times that of the one
    above; `head_lr` is that of the new head. `warmup` is the share of the steps in which the rates
    rise, after which they fall in a line to 0. `average_from`: from this share of the steps on,
    weights are averaged (1: never); of the average and the best epoch, the better one stays.

    `max_tokens` is of prompt and completion together: a longer prompt is cut on the left. A
    completion that does not fit is cut at its end, or its row dropped, by `overlong`; both are
    counted. `lora_rank` 0 trains all weights. `held_out_percent` of the rows, by prompt, tell the
    best epoch and calibrate; 0 chooses 10 to 25 by their number. `patience`: epochs without a
    better one, after which to stop; 0 never does. `aspects`: whether ratings of aspects get heads
    of their own, whose losses together count `aspect_weight` beside the overall one's 1.

    `margin_weight` times the margin of a pair (rating points) is what its rewards should differ
    by; `center_rewards` pulls the sum of the two towards 0 (TRL's `center_rewards_coefficient`).
    `hidden_dropout` None is what the base model has. `manner`: whether a linear model of length and
    style goes ahead and the transformer learns what is left over.
    """

    objective: Objective = "auto"
    base: str = "minilm"
    threshold: float = 4.0
    epochs: int = 3
    lr: float = 1e-4
    head_lr: float = 1e-3
    layer_decay: float = 0.9
    weight_decay: float = 0.01
    warmup: float = 0.06
    average_from: float = 0.6
    batch_size: int = 16
    max_tokens: int = 256
    overlong: Overlong = "cut"
    by_length: bool = True
    seed: int = 0
    precision: PrecisionName = "auto"
    lora_rank: int = 0
    hidden_dropout: float | None = None
    held_out_percent: float = 0.0
    patience: int = 2
    checkpoint_every: int = 100
    aspects: bool = True
    aspect_weight: float = 1.0
    margin_weight: float = 0.25
    center_rewards: float = 0.01
    manner: bool = True

    def __post_init__(self) -> None:
        require_choice(self, "objective", ("auto", "regression", "preference"))
        require_choice(self, "precision", PRECISIONS)
        require_choice(self, "overlong", ("cut", "drop"))
        require(bool(self.base.strip()), "base", self.base, "minilm, a folder or a hub id")
        require_between(self, "threshold", 1.0, 5.0, above=True)
        require_between(self, "epochs", 1, 1_000)
        require_between(self, "lr", 0.0, 1.0, above=True)
        require_between(self, "head_lr", 0.0, 1.0, above=True)
        require_between(self, "layer_decay", 0.0, 1.0, above=True)
        require_between(self, "weight_decay", 0.0, 1.0)
        require_between(self, "warmup", 0.0, 0.9)
        require_between(self, "average_from", 0.0, 1.0)
        require_between(self, "batch_size", 1, 4_096)
        require_between(self, "max_tokens", 16, 131_072)
        require_between(self, "seed", 0, 2**32 - 1)
        require_between(self, "lora_rank", 0, 1_024)
        require_between(self, "held_out_percent", 0.0, 50.0)
        require_between(self, "patience", 0, 1_000)
        require_between(self, "checkpoint_every", 1, 10**6)
        require_between(self, "aspect_weight", 0.0, 10.0)
        require_between(self, "margin_weight", 0.0, 10.0)
        require_between(self, "center_rewards", 0.0, 10.0)
        if self.hidden_dropout is not None:
            require_between(self, "hidden_dropout", 0.0, 0.9)
