"""How PPO trains a policy: the parameters, with the defaults of the literature."""

from dataclasses import dataclass
from typing import Literal

from rlhf_core.pretrained import PRECISIONS, PrecisionName
from rlhf_core.training import require, require_between, require_choice

Critic = Literal["shared", "separate"]
Schedule = Literal["constant", "linear"]
Sharding = Literal["none", "fsdp2"]
Generator = Literal["own", "vllm"]


@dataclass(frozen=True)
class PpoParams:
    """How to train.

    `base`: a folder or hub id of a causal language model, or a folder with a LoRA adapter made by
    peft, whose frozen copy is then the reference. `lora_rank` 0 trains all weights (or goes on
    with the adapter of `base`); `merge_adapter` says whether adapters are added to the weights of
    the result, which is else the adapter alone.

    One update samples `batch_size` completions (over all processes together), and learns from them
    in `ppo_epochs` passes of `num_mini_batches` steps each. `micro_batch_size` rows run through
    the model at once: it decides memory, not the result. A prompt may have `prompt_tokens`, a
    completion `response_tokens`; longer prompts are left out and counted. `temperature` holds for
    sampling and for all log-probabilities alike.

    `gamma`, `lam` are those of generalised advantage estimation, `cliprange` and `cliprange_value`
    the clips of policy and value; `vf_coef` weighs the value loss, `entropy_coef` an entropy bonus.
    `kl_coef` is the price of one nat of KL to the reference, taken off the reward token by token;
    with `kl_target` (nats an answer) it adapts, over some `kl_horizon` answers.

    `center_rewards` takes the mean reward of the first batch, which the untrained policy wrote,
    off all rewards; `reward_clip` then bounds them to +-that (None: no bound), and
    `missing_eos_penalty` is taken off where a completion did not end by itself (None: nothing).

    `critic`: a value head on the policy's own trunk, or a separate trunk of the lowest
    `critic_layers` layers of the base. `value_lr` is the rate of the value head (and of a separate
    critic); `schedule` of both rates is constant or falls to 0 in a line after `warmup` (share).

    Guards stop a run that has gone wrong, with its last checkpoint kept: a mean `ratio` of one
    step above `max_ratio` or under its inverse, a KL to the reference above `max_kl` (nats an
    answer), and entropy, length, or share of answers that end by themselves, below
    `min_entropy_share`, `min_length_share` or `min_eos_share` of the first update's for `patience`
    updates on end (0: not guarded).

    Of several processes each has all weights (`sharding` none), or an even part of them and of what
    is learned from (fsdp2: for models that are too large for one device; fp32 or bf16). Answers are
    sampled by our own `generator`, or by vllm where that is installed, on a GPU, with `sharding`
    none: quicker there, but two runs are no more alike to the bit.

    `sample_every` updates (0: never), four fixed prompts are answered for the report. Where a
    held-out judge is given, `keep_best` keeps the policy that it likes most, else the last one.
    """

    base: str
    updates: int = 100
    batch_size: int = 32
    micro_batch_size: int = 8
    prompt_tokens: int = 512
    response_tokens: int = 128
    temperature: float = 1.0
    ppo_epochs: int = 4
    num_mini_batches: int = 1
    gamma: float = 1.0
    lam: float = 0.95
    cliprange: float = 0.2
    cliprange_value: float = 0.2
    vf_coef: float = 0.1
    entropy_coef: float = 0.0
    kl_coef: float = 0.05
    kl_target: float | None = None
    kl_horizon: int = 10_000
    center_rewards: bool = True
    reward_clip: float | None = 10.0
    missing_eos_penalty: float | None = 1.0
    critic: Critic = "shared"
    critic_layers: int = 2
    lr: float = 1e-5
    value_lr: float = 1e-4
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    schedule: Schedule = "constant"
    warmup: float = 0.0
    lora_rank: int = 0
    merge_adapter: bool = True
    precision: PrecisionName = "auto"
    gradient_checkpointing: bool = False
    sharding: Sharding = "none"
    generator: Generator = "own"
    seed: int = 0
    checkpoint_every: int = 10
    sample_every: int = 10
    keep_best: bool = True
    max_ratio: float = 10.0
    max_kl: float = 100.0
    min_entropy_share: float = 0.02
    min_length_share: float = 0.1
    min_eos_share: float = 0.0
    patience: int = 3

    def __post_init__(self) -> None:
        require(bool(self.base.strip()), "base", self.base, "a folder or a hub id")
        require_choice(self, "critic", ("shared", "separate"))
        require_choice(self, "schedule", ("constant", "linear"))
        require_choice(self, "precision", PRECISIONS)
        require_choice(self, "sharding", ("none", "fsdp2"))
        require_choice(self, "generator", ("own", "vllm"))
        for name, low, high in _RANGES:
            require_between(self, name, low, high)
        for name, high in _POSITIVE:
            if getattr(self, name) is not None or name not in _OPTIONAL:
                require_between(self, name, 0.0, high, above=True)
        if self.missing_eos_penalty is not None:
            require_between(self, "missing_eos_penalty", 0.0, 1e6)
        require(self.generator == "own" or self.sharding == "none", "generator", self.generator,
                 "own with sharding fsdp2: vllm needs all weights in each process")  # fmt: skip
        require(self.num_mini_batches <= self.batch_size, "num_mini_batches",
                 self.num_mini_batches, f"at most batch_size ({self.batch_size})")  # fmt: skip


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("updates", 1, 10**6),
    ("batch_size", 2, 65_536),
    ("micro_batch_size", 1, 65_536),
    ("prompt_tokens", 1, 10**6),
    ("response_tokens", 1, 10**6),
    ("ppo_epochs", 1, 100),
    ("num_mini_batches", 1, 4_096),
    ("gamma", 0.0, 1.0),
    ("lam", 0.0, 1.0),
    ("vf_coef", 0.0, 100.0),
    ("entropy_coef", 0.0, 10.0),
    ("kl_coef", 0.0, 100.0),
    ("kl_horizon", 1, 10**9),
    ("critic_layers", 1, 1_000),
    ("weight_decay", 0.0, 1.0),
    ("warmup", 0.0, 0.9),
    ("lora_rank", 0, 1_024),
    ("seed", 0, 2**32 - 1),
    ("checkpoint_every", 1, 10**6),
    ("sample_every", 0, 10**6),
    ("min_entropy_share", 0.0, 1.0),
    ("min_length_share", 0.0, 1.0),
    ("min_eos_share", 0.0, 1.0),
    ("patience", 1, 10**6),
)
_POSITIVE: tuple[tuple[str, float], ...] = (
    ("temperature", 10.0),
    ("cliprange", 10.0),
    ("cliprange_value", 1e6),
    ("kl_target", 1e4),
    ("reward_clip", 1e6),
    ("lr", 1.0),
    ("value_lr", 1.0),
    ("max_grad_norm", 1e6),
    ("max_ratio", 1e6),
    ("max_kl", 1e6),
)
_OPTIONAL = ("kl_target", "reward_clip")
