"""How a transformer reward model is trained."""

from dataclasses import dataclass
from typing import Any, Literal

from rlhf_core.errors import InvalidInput
from rlhf_core.rewards.base_model import PRECISIONS, PrecisionName

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
        _require(self.objective in ("auto", "regression", "preference"), "objective",
                 self.objective, "auto, regression or preference")  # fmt: skip
        _require(self.precision in PRECISIONS, "precision", self.precision, ", ".join(PRECISIONS))
        _require(self.overlong in ("cut", "drop"), "overlong", self.overlong, "cut or drop")
        _require(bool(self.base.strip()), "base", self.base, "minilm, a folder or a hub id")
        self._require_between("threshold", 1.0, 5.0, above=True)
        self._require_between("epochs", 1, 1_000)
        self._require_between("lr", 0.0, 1.0, above=True)
        self._require_between("head_lr", 0.0, 1.0, above=True)
        self._require_between("layer_decay", 0.0, 1.0, above=True)
        self._require_between("weight_decay", 0.0, 1.0)
        self._require_between("warmup", 0.0, 0.9)
        self._require_between("average_from", 0.0, 1.0)
        self._require_between("batch_size", 1, 4_096)
        self._require_between("max_tokens", 16, 131_072)
        self._require_between("seed", 0, 2**32 - 1)
        self._require_between("lora_rank", 0, 1_024)
        self._require_between("held_out_percent", 0.0, 50.0)
        self._require_between("patience", 0, 1_000)
        self._require_between("checkpoint_every", 1, 10**6)
        self._require_between("aspect_weight", 0.0, 10.0)
        self._require_between("margin_weight", 0.0, 10.0)
        self._require_between("center_rewards", 0.0, 10.0)
        if self.hidden_dropout is not None:
            self._require_between("hidden_dropout", 0.0, 0.9)

    def _require_between(self, name: str, low: float, high: float, *, above: bool = False) -> None:
        value = getattr(self, name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number and low <= value <= high and not (above and value == low)
        _require(fits, name, value, f"{'above ' if above else ''}{low:g} to {high:g}")


def _require(fits: bool, name: str, value: Any, choices: str) -> None:
    if not fits:
        raise InvalidInput(f"{name} {value!r}: choose {choices}.", field=name)
