"""How the starter policy is made: the parameters."""

from dataclasses import dataclass

from rlhf_core.pretrained import PRECISIONS, PrecisionName
from rlhf_core.training import require, require_between, require_choice


@dataclass(frozen=True)
class StarterParams:
    """How to make a policy from nothing but interactions.

    The model is of the Llama architecture: `layers` of `hidden_size` with `heads` each, the
    embedding of at most `vocab_size` tokens tied to the output layer. A prompt may have
    `prompt_tokens` (longer ones are left out and counted), a completion `response_tokens` (longer
    ones are cut).

    It sees each interaction `epochs` times, `batch_size` a step, but no more than `max_tokens` in
    all: so the time is bounded for any number of interactions. The loss is that of the
    completions' tokens, with the prompts' weighed by `prompt_weight`. The rates, `matrix_lr` of the
    hidden matrices (Muon) and `lr` of all else (AdamW), rise for the first `warmup` (share) of the
    steps and then fall to 0 in a line.

    `held_out_percent` of the prompts are learned nothing from: their perplexity is reported.
    """

    vocab_size: int = 3_072
    hidden_size: int = 192
    layers: int = 4
    heads: int = 6
    epochs: float = 3.0
    max_tokens: int = 600_000
    batch_size: int = 16
    prompt_tokens: int = 256
    response_tokens: int = 256
    lr: float = 4e-3
    matrix_lr: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 0.05
    prompt_weight: float = 0.1
    max_grad_norm: float = 1.0
    held_out_percent: float = 5.0
    precision: PrecisionName = "auto"
    seed: int = 0
    checkpoint_every: int = 300

    def __post_init__(self) -> None:
        require_choice(self, "precision", PRECISIONS)
        for name, low, high in _RANGES:
            require_between(self, name, low, high)
        deals = f"a number that deals hidden_size ({self.hidden_size}) into even parts"
        require(self.hidden_size % (2 * self.heads) == 0, "heads", self.heads, deals)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("vocab_size", 300, 65_536),
    ("hidden_size", 16, 1_024),
    ("layers", 1, 24),
    ("heads", 1, 64),
    ("epochs", 0.1, 1_000),
    ("max_tokens", 1_000, 10**10),
    ("batch_size", 1, 4_096),
    ("prompt_tokens", 1, 4_096),
    ("response_tokens", 2, 4_096),
    ("lr", 1e-6, 1.0),
    ("matrix_lr", 1e-6, 1.0),
    ("warmup", 0.0, 0.9),
    ("weight_decay", 0.0, 1.0),
    ("prompt_weight", 0.0, 1.0),
    ("max_grad_norm", 1e-3, 1e6),
    ("held_out_percent", 0.0, 50.0),
    ("seed", 0, 2**32 - 1),
    ("checkpoint_every", 1, 10**6),
)
