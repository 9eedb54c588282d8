"""About how long a policy's training run takes, and how much memory: measured, else reckoned."""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.jobs.policy_params import REWARDED, TrainPolicyParams
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import JobKind

MIB = 2**20
CPU_FLOPS, GPU_FLOPS = 1e11, 3e13
"""A second, as training reaches them: two cores with wide vectors; a GPU in bf16 with LoRA."""
PASSES = {JobKind.TRAIN_PPO: 45.0, JobKind.TRAIN_RLOO: 30.0, JobKind.TRAIN_GRPO: 30.0,
          JobKind.DISTIL: 40.0, JobKind.TRAIN_DPO: 16.0, JobKind.TRAIN_KTO: 10.0}  # fmt: skip
"""Operations a weight and token of the answers: sampling, reference, and passes of learning."""
LEARNING = 6.0
IMPORTS_MB = {"cpu": 700.0, "gpu": 900.0}
USUAL_TOKENS = 96.0  # of a prompt and its answer together, before a run has measured them
UNKNOWN_WEIGHTS = 500e6
STARTER_S = 60.0
ROW_BYTES_A_UNIT = 80.0  # kept for the way back, a layer, token and unit of width


@dataclass(frozen=True)
class PolicyCost:
    """What a run cost, kept in its result: the next one's duration is estimated from it.

    `units`: answers (rewarded learners) or rows times epochs. `num_weights` of the base.
    """

    learner: str
    units: float
    num_weights: float
    response_tokens: int
    device: str
    took_s: float
    memory_mb: float = 0.0


@dataclass(frozen=True)
class BaseSize:
    """The size of a causal model: weights, layers and width; 0 where its files do not say."""

    num_weights: float
    layers: int = 0
    width: int = 0
    vocabulary: int = 0


def count_cost(
    report: TrainReport, params: TrainPolicyParams, *, num_rows: int, took_s: float
) -> PolicyCost:
    """What the run cost."""
    size = measure_base(report.artifact_dir)
    memory = report.details.get("memory_mb", 0.0)
    return PolicyCost(
        learner=params.learner.value,
        units=count_units(params, num_rows),
        num_weights=size.num_weights,
        response_tokens=int(getattr(params.learner_params(), "response_tokens", 0)),
        device=str(report.details.get("device", "cpu")),
        took_s=took_s,
        memory_mb=float(memory) if isinstance(memory, int | float) else 0.0,
    )


def count_units(params: TrainPolicyParams, num_rows: int) -> float:
    """Answers that are sampled, or rows times epochs."""
    own = params.learner_params()
    steps = getattr(own, "updates", None) or getattr(own, "steps", None)
    if steps is not None:
        return float(steps * own.batch_size)
    return float(getattr(own, "epochs", 1) * num_rows)


def measure_base(folder: Path) -> BaseSize:
    """The size of the model in a folder, from its configuration and the heads of its files."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        config = {}
    text = config.get("text_config") or config
    return BaseSize(
        num_weights=float(sum(map(_count_weights, folder.glob("*.safetensors")))),
        layers=int(text.get("num_hidden_layers") or text.get("n_layer") or 0),
        width=int(text.get("hidden_size") or text.get("n_embd") or 0),
        vocabulary=int(text.get("vocab_size") or 0),
    )


def reckon_s(params: TrainPolicyParams, *, num_rows: int, weights: float, on_gpu: bool) -> float:
    """Seconds that a run takes, before one was measured."""
    if params.learner is JobKind.TRAIN_STARTER:
        return STARTER_S
    own = params.learner_params()
    tokens = USUAL_TOKENS
    if params.learner in REWARDED or params.learner is JobKind.DISTIL:
        tokens = float(min(getattr(own, "response_tokens", USUAL_TOKENS), 2 * USUAL_TOKENS))
    operations = PASSES.get(params.learner, LEARNING) * weights * tokens
    speed = (GPU_FLOPS if on_gpu else CPU_FLOPS) * params.num_ranks
    return count_units(params, num_rows) * operations / speed


def reckon_memory_mb(params: TrainPolicyParams, size: BaseSize, *, on_gpu: bool) -> float:
    """MiB at the most that a run holds on its device."""
    own = params.learner_params()
    rank = int(getattr(own, "lora_rank", 0))
    precision = str(getattr(own, "precision", "auto"))
    is_half = precision in ("bf16", "fp16") or (precision == "auto" and on_gpu)
    weight_bytes = 2.0 if is_half else 4.0
    with_reference = params.learner not in (JobKind.TRAIN_STARTER, JobKind.TRAIN_SFT)
    trained = 4 * rank * size.width * size.layers * 7.0 if rank else size.num_weights
    held = size.num_weights * weight_bytes * (2 if with_reference and not rank else 1)
    held += trained * 16.0  # master weight, gradient, two moments
    if getattr(own, "sharding", "none") == "fsdp2" and params.num_processes > 1:
        # Each process has a part, and all weights while it samples.
        held = held / params.num_processes + size.num_weights * weight_bytes
    # PPO holds the logits of some tokens at a time, TRL's trainers those of all that run at once.
    chunk = 2.0**26 if params.learner is JobKind.TRAIN_PPO else math.inf
    held += _activations(own, size, is_half=is_half, num_logits=chunk)
    return IMPORTS_MB["gpu" if on_gpu else "cpu"] + held / MIB


def _activations(own: Any, size: BaseSize, *, is_half: bool, num_logits: float) -> float:
    rows = float(getattr(own, "micro_batch_size", 8))
    tokens = float(getattr(own, "response_tokens", 128)) + min(
        float(getattr(own, "prompt_tokens", 128)), 256.0
    )
    kept = 2.0 if getattr(own, "gradient_checkpointing", False) else ROW_BYTES_A_UNIT
    inner = rows * tokens * size.width * size.layers * kept * (0.5 if is_half else 1.0)
    logits = min(rows * tokens * size.vocabulary, num_logits) * 4.0 * 3
    return inner + logits


def _count_weights(file: Path) -> int:
    """The numbers in a safetensors file, by its head alone."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > 100 * MIB:
                return 0
            head = json.loads(opened.read(length))
        return sum(math.prod(entry["shape"]) for name, entry in head.items()
                   if name != "__metadata__")  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return 0
