"""Tiny causal models with word tokenizers, made on the spot: folders as the hub has them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import quiet_peft
from rlhf_core.policies.ppo import PpoParams, train_ppo
from rlhf_core.policies.rewards_glue import RewardFunction
from rlhf_core.training import NoOpTracker, TrainReport

WORDS = [*"abcdefghijklmnopqrstuvwxyz", "yes", "no", "good", "bad"]


def make_policy(
    folder: Path, *, seed: int = 0, layers: int = 2, has_end: bool = True, **config: Any
) -> Path:
    """A Llama of 32 units over 30 words, without padding token, as many have none."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<unk>", "<eos>", *WORDS])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.decoder = decoders.WordPiece("##", cleanup=False)
    end = {"eos_token": "<eos>"} if has_end else {}
    PreTrainedTokenizerFast(
        tokenizer_object=plain, unk_token="<unk>", model_max_length=64, **end
    ).save_pretrained(folder)
    settings = {
        "vocab_size": len(vocabulary), "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "bos_token_id": None,
        "eos_token_id": 1 if has_end else None, "pad_token_id": None,
    }  # fmt: skip
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**settings | config)).save_pretrained(folder)
    return folder


def make_prompts(count: int = 16) -> list[PromptOnly]:
    """Prompts of 2 to 5 words."""
    return [
        PromptOnly(
            " ".join(WORDS[(place + step) % 26] for step in range(2 + place % 4)), str(place)
        )
        for place in range(count)
    ]


def count_of(word: str) -> RewardFunction:
    """A reward: how often the word stands in the completion."""
    return lambda prompts, completions: [float(text.split().count(word)) for text in completions]


def nothing(prompts: list[str], completions: list[str]) -> list[float]:
    """A reward that says nothing."""
    return [0.0] * len(completions)


class Watcher(NoOpTracker):
    """Keeps log and metrics; asks to stop after so many updates, or then does something."""

    def __init__(self, stop_after: int = 0, then: Callable[[], None] | None = None) -> None:
        self.left = stop_after
        self.then = then
        self.lines: list[str] = []
        self.told: dict[int, dict[str, float]] = {}

    def log(self, text: str) -> None:
        self.lines.append(text)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.told[step] = values

    def should_stop(self) -> bool:
        self.left -= 1
        if self.left == 0 and self.then is not None:
            self.then()
            return False
        return self.left == 0


def train(
    base: Path,
    folder: Path,
    reward: RewardFunction,
    *,
    tracker: NoOpTracker | None = None,
    prompts: list[PromptOnly] | None = None,
    held_out: RewardFunction | None = None,
    **options: Any,
) -> TrainReport:
    """A short run; the policy lies in `folder/model`, its checkpoints in `folder/work`."""
    (folder / "model").mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "updates": 4, "batch_size": 8, "micro_batch_size": 4, "response_tokens": 6, "lr": 3e-3,
        "value_lr": 3e-3, "precision": "fp32", "checkpoint_every": 2, "sample_every": 2,
        "min_entropy_share": 0.0,
    }  # fmt: skip
    return train_ppo(
        make_prompts() if prompts is None else prompts,
        params=PpoParams(base=str(base), **settings | options),
        reward=reward,
        out_dir=folder / "model",
        work_dir=folder / "work",
        tracker=tracker or NoOpTracker(),
        held_out=held_out,
    )


def make_adapter(base: Path, folder: Path, *, seed: int = 3) -> Path:
    """A LoRA adapter (rank 2) with weights that change what the base says, as SFT leaves one."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet_peft():
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.3)
    model.save_pretrained(folder)
    return folder
