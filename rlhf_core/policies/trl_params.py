"""What all learners through TRL take, by the names and with the meaning that PPO's have."""

from dataclasses import dataclass
from typing import Any, Literal

from rlhf_core.pretrained import PRECISIONS, PrecisionName
from rlhf_core.training import require, require_between, require_choice

Schedule = Literal["constant", "linear"]


@dataclass(frozen=True)
class LearnerParams:
    """How to train.

    `base`: a folder or hub id of a causal language model, or a folder with a LoRA adapter made by
    peft, whose frozen copy is then the reference. `lora_rank` 0 trains all weights (or goes on
    with the adapter of `base`); `merge_adapter` says whether adapters are added to the weights of
    the result, which is else the adapter alone.

    A step learns from `batch_size` rows (over all processes together), of which at most
    `micro_batch_size` run through the model at once: that decides memory. A prompt may have
    `prompt_tokens`, a completion `response_tokens`. `temperature` is that of sampling.

    `schedule` of the rate `lr` is constant or falls to 0 in a line, after `warmup` (share of the
    steps). Each `sample_every` steps (0: never), four fixed prompts are answered for the report.
    """

    base: str
    batch_size: int = 16
    micro_batch_size: int = 8
    prompt_tokens: int = 512
    response_tokens: int = 256
    temperature: float = 1.0
    lr: float = 1e-5
    schedule: Schedule = "linear"
    warmup: float = 0.1
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora_rank: int = 0
    merge_adapter: bool = True
    precision: PrecisionName = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0
    checkpoint_every: int = 50
    sample_every: int = 50

    def __post_init__(self) -> None:
        require(bool(self.base.strip()), "base", self.base, "a folder or a hub id")
        require_choice(self, "schedule", ("constant", "linear"))
        require_choice(self, "precision", PRECISIONS)
        for name, low, high in _RANGES:
            require_between(self, name, low, high)
        for name, high in (("temperature", 10.0), ("lr", 1.0), ("max_grad_norm", 1e6)):
            require_between(self, name, 0.0, high, above=True)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("batch_size", 1, 65_536),
    ("micro_batch_size", 1, 65_536),
    ("prompt_tokens", 1, 10**6),
    ("response_tokens", 1, 10**6),
    ("warmup", 0.0, 0.9),
    ("weight_decay", 0.0, 1.0),
    ("lora_rank", 0, 1_024),
    ("seed", 0, 2**32 - 1),
    ("checkpoint_every", 1, 10**6),
    ("sample_every", 0, 10**6),
)
NOT_OF_THE_RESULT = ("checkpoint_every", "sample_every", "merge_adapter")


def settings_of_the_result(settings: dict[str, Any]) -> dict[str, Any]:
    """The parameters but those that change nothing of what is learned."""
    return {name: value for name, value in settings.items() if name not in NOT_OF_THE_RESULT}
