"""All that a PPO run works with, made ready; and its checkpoints."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf_core.checkpoints import find_checkpoint, save_checkpoint
from rlhf_core.errors import InvalidInput, TrainingFailed, Unavailable
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import Base, find_end_ids, load_policy_tokenizer, open_base
from rlhf_core.policies.generate import Sampled
from rlhf_core.policies.network import ActorCritic
from rlhf_core.policies.network_build import build_network
from rlhf_core.policies.optimizer import MasterAdamW
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.ppo_state import (
    PpoProgress,
    read_fingerprint,
    read_state,
    write_state,
)
from rlhf_core.policies.processes import Processes, is_asked_for
from rlhf_core.policies.prompts import EncodedPrompts, encode_prompts
from rlhf_core.policies.vllm_engine import Engine, open_engine
from rlhf_core.pretrained import Precision, choose_precision, find_max_positions
from rlhf_core.training import NoOpTracker, Tracker, installed_versions, seed_everything

if TYPE_CHECKING:
    import torch

NOT_OF_THE_RESULT = (
    "checkpoint_every", "sample_every", "micro_batch_size", "merge_adapter", "sharding",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What a run works with. `tracker` tells of the first process alone."""

    params: PpoParams
    processes: Processes
    tracker: Tracker
    base: Base
    policy: ActorCritic
    optimizer: MasterAdamW
    precision: Precision
    tokenizer: Any
    prompts: EncodedPrompts
    end_ids: tuple[int, ...]
    fingerprint: str
    engine: Engine | None = None

    @property
    def device(self) -> "torch.device":
        """What this process computes on."""
        return self.policy.device

    def decode(self, sampled: Sampled) -> list[str]:
        """The answers as texts, without special tokens."""
        rows = [
            row[:length]
            for row, length in zip(sampled.tokens.tolist(), sampled.lengths.tolist(), strict=True)
        ]
        return list(self.tokenizer.batch_decode(rows, skip_special_tokens=True))


def prepare(
    prompts: Sequence[PromptOnly], *, params: PpoParams, processes: Processes, tracker: Tracker
) -> Setup:
    """Open the base model and encode the prompts."""
    import torch

    tracker = tracker if processes.is_first else NoOpTracker()
    if params.batch_size % processes.count:
        raise TrainingFailed(
            f"batch_size {params.batch_size} cannot be dealt to {processes.count} processes alike: "
            f"choose a multiple of {processes.count}."
        )
    tracker.progress(0.0, "Opening the base model")
    with sentences_for_the_machine():
        try:
            base = open_base(params.base)
            tokenizer = load_policy_tokenizer(base)
            seed_everything(params.seed)
            precision = choose_precision(params.precision, processes.device)
            deal_to = processes if _is_sharded(params, processes, precision) else None
            policy = build_network(base, params, precision, processes.device, deal_to=deal_to)
            engine = None
            if params.generator == "vllm":
                engine = open_engine(base.folder, params, processes, precision)
        except (InvalidInput, Unavailable) as error:
            raise TrainingFailed(str(error)) from error
    encoded = encode_prompts(
        prompts,
        tokenizer,
        prompt_tokens=params.prompt_tokens,
        response_tokens=params.response_tokens,
        positions=find_max_positions(policy.model, tokenizer),
    )
    scaler = torch.amp.GradScaler(processes.device.type) if precision.needs_scaler else None
    trunk = {name: value for name, value in policy.trained().items() if name.startswith("model/")}
    critic = {name: value for name, value in policy.trained().items() if name not in trunk}
    optimizer = MasterAdamW(
        [(trunk, params.lr), (critic | policy.head_weights(), params.value_lr)],
        weight_decay=params.weight_decay,
        scaler=scaler,
    )
    num_trained = sum(
        value.numel() for value in {**trunk, **critic, **policy.head_weights()}.values()
    )
    left_out = f", {encoded.num_too_long} too long and left out" if encoded.num_too_long else ""
    tracker.log(
        f"{len(encoded)} prompts{left_out}; base {params.base} on {processes.device.type} in "
        f"{precision.name}, {num_trained:,} weights trained, {processes.count} process(es)"
        f"{' that share the weights' if deal_to else ''}, seed {params.seed}."
    )
    return Setup(
        params=params,
        processes=processes,
        tracker=tracker,
        base=base,
        policy=policy,
        optimizer=optimizer,
        precision=precision,
        tokenizer=tokenizer,
        prompts=encoded,
        end_ids=find_end_ids(policy.model, tokenizer),
        fingerprint=_fingerprint(encoded, params, base.digest(), precision),
        engine=engine,
    )


def _is_sharded(params: PpoParams, processes: Processes, precision: Precision) -> bool:
    """Whether the weights are dealt to the processes: by the parameters, or accelerate's own word.

    Raises InvalidInput for float16, whose scaling would need all parts of a gradient.
    """
    if processes.count == 1 or not (params.sharding == "fsdp2" or is_asked_for("FSDP")):
        return False
    if precision.needs_scaler:
        raise InvalidInput(
            f"sharding fsdp2 does not go with precision {precision.name}: choose bf16 or fp32.",
            field="precision",
        )
    return True


def open_run(setup: Setup, work_dir: Path) -> PpoProgress:
    """The state to go on from: the newest sound checkpoint's of this run, or a fresh one."""
    checkpoint = find_checkpoint(work_dir, setup.tracker.log)
    steps = setup.processes.gather(-1 if checkpoint is None else checkpoint.step)
    if len(set(steps)) > 1:
        raise TrainingFailed(
            f"The processes do not see the same checkpoints in {work_dir}: give them one folder."
        )
    fresh = PpoProgress(setup.fingerprint, kl_coef=setup.params.kl_coef)
    if checkpoint is None:
        return fresh
    if read_fingerprint(checkpoint.path) != setup.fingerprint:
        setup.tracker.log("The checkpoint is of other prompts or parameters: training starts anew.")
        return fresh
    progress = read_state(checkpoint.path, setup.optimizer)
    setup.tracker.log(f"Resumed from the checkpoint of update {checkpoint.step}.")
    return progress


def keep_checkpoint(setup: Setup, progress: PpoProgress, work_dir: Path) -> None:
    """Write a checkpoint, by the first process; the others wait and learn how it went.

    Raises TrainingFailed in all of them where the disk refuses; the one before is intact.
    """
    optimizer = setup.optimizer
    tensors = optimizer.collect(keep=setup.processes.is_first)
    write_together(
        setup.processes,
        lambda: save_checkpoint(
            work_dir,
            progress.update,
            lambda path: write_state(path, progress, optimizer, tensors),
        ),
    )


def write_together(processes: Processes, write: Callable[[], object]) -> None:
    """Let the first process write; raise TrainingFailed in all of them where it could not."""
    failure: str | None = None
    if processes.is_first:
        try:
            write()
        except Unavailable as error:
            failure = str(error)
    processes.agree(failure)


def stop_if_asked(setup: Setup, progress: PpoProgress, work_dir: Path) -> None:
    """Raise TrainingFailed, after a checkpoint, where the tracker of the first asks to stop."""
    wants = setup.tracker.should_stop() and progress.update < setup.params.updates
    if any(setup.processes.gather(wants)):
        keep_checkpoint(setup, progress, work_dir)
        raise TrainingFailed(
            f"Stopped on request after update {progress.update} of {setup.params.updates}; its "
            "checkpoint is kept."
        )


@contextmanager
def sentences_for_the_machine() -> Iterator[None]:
    """Turn a lack of memory into a TrainingFailed that says which setting helps."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingFailed(
            "There is not enough memory: choose a smaller micro_batch_size, LoRA (lora_rank), "
            "gradient_checkpointing, fewer response_tokens, or a smaller base model; the run goes "
            "on from its last checkpoint, if there is one."
        ) from error


def _fingerprint(
    prompts: EncodedPrompts, params: PpoParams, base_digest: str, precision: Precision
) -> str:
    """A hash of all that decides the result, but the reward function, which only is what it does.

    Also not the number of processes: a run may go on with another.
    """
    settings = {
        name: value for name, value in asdict(params).items() if name not in NOT_OF_THE_RESULT
    }
    versions = installed_versions("torch", "transformers", "peft")
    parts = [prompts.digest(), settings, base_digest, precision.name, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
