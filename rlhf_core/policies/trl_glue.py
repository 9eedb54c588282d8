"""A training run through TRL: what it is given, how it resumes, and what it leaves.

The trainer's loop, its optimizer and its losses are TRL's. The base, the rows as tokens, the
checkpoints, the tracker and the report are those of every learner here.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf_core.checkpoints import find_checkpoint, remove_checkpoints
from rlhf_core.errors import InvalidInput, TrainingFailed, Unavailable
from rlhf_core.policies.audit import make_audit
from rlhf_core.policies.base import (
    Base,
    find_end_ids,
    load_causal,
    load_policy_tokenizer,
    open_base,
    quiet_peft,
)
from rlhf_core.policies.network_build import ALPHA_PER_RANK
from rlhf_core.policies.ppo_peak import remove_candidates
from rlhf_core.policies.ppo_setup import sentences_for_the_machine
from rlhf_core.policies.processes import Processes, is_asked_for
from rlhf_core.policies.trl_best import BestBy, keeper_callback, make_keeper, put_back
from rlhf_core.policies.trl_callback import Course, Guard, tracker_callback
from rlhf_core.policies.trl_params import LearnerParams, settings_of_the_result
from rlhf_core.policies.trl_trainer import RUN_STATE, Sampler, quiet_trl, save_model, tame
from rlhf_core.pretrained import (
    Precision,
    choose_precision,
    find_max_positions,
    first_line,
    quiet_transformers,
)
from rlhf_core.training import (
    NoOpTracker,
    Tracker,
    TrainReport,
    installed_versions,
    seed_everything,
)

MOST_LOGGED = 500
LAST_STEPS = 10
FIRST_AND_LAST = ("reward", "held_out_reward", "loss", "margin", "accuracy", "kl", "entropy",
                  "length", "eos_share", "distinct_2")  # fmt: skip


@dataclass(frozen=True)
class Kit:
    """What a run works with. `tracker` tells of the first process alone."""

    params: LearnerParams
    processes: Processes
    tracker: Tracker
    base: Base
    model: Any
    tokenizer: Any
    precision: Precision
    positions: int
    peft_config: Any = None

    @property
    def micro_batch(self) -> int:
        """How many rows run through the model at once: a divisor of this process's share."""
        share = self.params.batch_size // self.processes.count
        return max(
            size for size in range(1, min(self.params.micro_batch_size, share) + 1)
            if share % size == 0
        )  # fmt: skip

    @property
    def num_micro_batches(self) -> int:
        """How many of them make a step."""
        return self.params.batch_size // self.processes.count // self.micro_batch


def open_kit(params: LearnerParams, *, processes: Processes, tracker: Tracker) -> Kit:
    """Open the base model.

    Raises TrainingFailed, with a sentence, where it cannot be opened or does not fit the memory.
    """
    tracker = tracker if processes.is_first else NoOpTracker()
    if params.batch_size % processes.count:
        raise TrainingFailed(
            f"batch_size {params.batch_size} cannot be dealt to {processes.count} processes alike: "
            f"choose a multiple of {processes.count}."
        )
    if is_asked_for("FSDP"):
        raise TrainingFailed(
            "Only PPO shards its weights over processes: start this learner without FSDP."
        )
    tracker.progress(0.0, "Opening the base model")
    with sentences():
        base = open_base(params.base)
        tokenizer = load_policy_tokenizer(base)
        seed_everything(params.seed)
        precision = choose_precision(params.precision, processes.device)
        model = load_causal(base.folder)
        if base.adapter is not None:
            model = _open_adapter(model, base.adapter, params.lora_rank)
    return Kit(
        params=params,
        processes=processes,
        tracker=tracker,
        base=base,
        model=model,
        tokenizer=tokenizer,
        precision=precision,
        positions=find_max_positions(model, tokenizer),
        peft_config=_lora(params) if params.lora_rank and base.adapter is None else None,
    )


def find_settings(kit: Kit, work_dir: Path, *, steps: int) -> dict[str, Any]:
    """The settings of a TRL configuration that follow from the parameters, for so many steps."""
    params, on_gpu = kit.params, kit.processes.device.type == "cuda"
    return {
        "output_dir": str(work_dir),
        "max_steps": steps,
        "per_device_train_batch_size": kit.micro_batch,
        "per_device_eval_batch_size": kit.micro_batch,
        "gradient_accumulation_steps": kit.num_micro_batches,
        "learning_rate": params.lr,
        "lr_scheduler_type": "linear" if params.schedule == "linear" else "constant_with_warmup",
        "warmup_steps": round(params.warmup * steps),
        "weight_decay": params.weight_decay,
        "max_grad_norm": params.max_grad_norm,
        "bf16": kit.precision.name == "bf16",
        "fp16": kit.precision.name == "fp16",
        "use_cpu": not on_gpu,
        "activation_checkpointing": params.gradient_checkpointing,
        "disable_dropout": True,
        "ddp_find_unused_parameters": False,
        "seed": params.seed,
        "data_seed": params.seed,
        "logging_steps": max(1, steps // MOST_LOGGED),
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": params.checkpoint_every,
        "report_to": [],
        "push_to_hub": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
    }


def run_trainer(
    kit: Kit,
    trainer_class: type,
    config: Any,
    options: Mapping[str, Any],
    *,
    rows: object,
    num_rows: int,
    shown: Sequence[str],
    out_dir: Path,
    work_dir: Path,
    guard: Guard | None = None,
    metrics: Mapping[str, float] | None = None,
    best_by: BestBy | None = None,
    is_audited: bool = False,
) -> TrainReport:
    """Train, and write the policy into `out_dir` (which exists).

    `options` are what the trainer is made with beside model, configuration, tokenizer and adapter;
    `rows` is anything JSON that tells the data from other data; `shown` are prompts of which the
    first few are answered for the report; `metrics` are added to it. `best_by` says which policy
    of the run is written (None: the last one), `is_audited` that the report has an audit of it.

    Raises TrainingFailed where the run is stopped on request, goes wrong (`guard`), or the machine
    does not allow it; the next call with the same rows and parameters goes on from its checkpoint.
    """
    params = kit.params
    checkpoint = find_checkpoint(work_dir, kit.tracker.log)
    course = Course(_fingerprint(kit, rows))
    if checkpoint is not None:
        kept = json.loads((checkpoint.path / RUN_STATE).read_text())
        if kept["fingerprint"] == course.fingerprint:
            course = Course(**kept)
            kit.tracker.log(f"Resumed from the checkpoint of step {checkpoint.step}.")
        else:
            kit.tracker.log("The checkpoint is of other rows or parameters: training starts anew.")
            checkpoint = None
    sampler = Sampler(
        kit.tokenizer, find_end_ids(kit.model, kit.tokenizer), kit.precision, params.temperature
    )
    callback = tracker_callback()(params, kit.processes, kit.tracker, course, sampler, shown, guard)
    with sentences(), quiet_trl(), quiet_peft():
        trainer = tame(trainer_class)(
            model=kit.model,
            args=config,
            processing_class=kit.tokenizer,
            peft_config=kit.peft_config,
            callbacks=[callback],
            **options,
        )
        _say_start(kit, trainer, num_rows)
        trainer.work_dir = work_dir
        trainer.run_state = course.to_json
        trainer.sampler = sampler
        trainer.response_tokens = params.response_tokens
        _leave_no_trace(trainer)
        keeper = best_by and make_keeper(
            best_by, course, updates=config.max_steps, work_dir=work_dir,
            processes=kit.processes, log=kit.tracker.log,
        )  # fmt: skip
        if keeper:
            trainer.add_callback(keeper_callback()(keeper))
        trainer.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        if course.was_stopped:
            raise TrainingFailed(
                f"Stopped on request after step {trainer.state.global_step} of "
                f"{trainer.state.max_steps}; its checkpoint is kept."
            )
        kept = trainer.state.global_step
        if keeper:
            kept, weights = keeper.find_best(kept)
            put_back(trainer.model, weights)
            callback.show(kept, trainer.model)
        kit.tracker.progress(0.99, "Writing the policy")
        if kit.processes.is_first:
            write_policy(trainer.model, kit.tokenizer, out_dir, merge=params.merge_adapter)
            remove_checkpoints(work_dir)
            remove_candidates(work_dir)
    audit = make_audit(course.updates, kept_update=kept) if is_audited else None
    return _report(kit, course, out_dir, num_rows, dict(metrics or {}), kept, audit)


def write_policy(model: Any, tokenizer: Any, folder: Path, *, merge: bool) -> None:
    """Write a policy as transformers (or, with an adapter alone, peft) opens it.

    Raises Unavailable where the disk refuses.
    """
    try:
        with quiet_transformers(), quiet_peft():
            if hasattr(model, "peft_config") and merge:
                model = model.merge_and_unload()
            save_model(model, folder)
            tokenizer.save_pretrained(str(folder))
    except OSError as error:
        raise Unavailable(
            f"The policy could not be written to {folder} ({error.strerror or error}): make room, "
            "then start again; the run goes on from its last checkpoint."
        ) from error


def _report(
    kit: Kit,
    course: Course,
    out_dir: Path,
    num_rows: int,
    metrics: dict[str, float],
    kept: int,
    audit: dict[str, Any] | None,
) -> TrainReport:
    """The report; its metrics are means of a few steps around the one whose policy is `kept`."""
    steps = course.updates
    done = [entry for entry in steps if entry["step"] <= kept + LAST_STEPS // 2]
    last = (done or steps[:1])[-LAST_STEPS:]
    for name in FIRST_AND_LAST:
        if name in last[-1]:
            metrics[f"first_{name}"] = steps[0].get(name, last[-1][name])
            metrics[name] = sum(entry.get(name, 0.0) for entry in last) / len(last)
    evaluated = [e for e in course.history if "eval_loss" in e and e["step"] <= kept]
    for name in ("eval_loss", "eval_accuracy", "eval_margin"):
        if evaluated and name in evaluated[-1]:
            metrics[name] = evaluated[-1][name]
    metrics["num_steps"] = course.history[-1]["step"]
    metrics["kept_step"] = float(kept)
    told = [
        f"{name} {metrics['first_' + name]:.3f} -> {metrics[name]:.3f}"
        for name in ("reward", "held_out_reward", "loss", "margin")
        if name in metrics
    ]
    kit.tracker.log(f"Trained: {', '.join(told)}. {_say_kept(metrics, audit)}")
    kit.tracker.progress(1.0, "Trained")
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics,
        params=asdict(kit.params),
        seed=kit.params.seed,
        num_rows=num_rows,
        details={
            "history": course.history,
            "samples": course.samples,
            "device": kit.processes.device.type,
            "precision": kit.precision.name,
            "num_processes": kit.processes.count,
            **({} if audit is None else {"audit": audit}),
        },
        library_versions=installed_versions("torch", "transformers", "trl", "peft", "accelerate"),
    )


def _say_kept(metrics: Mapping[str, float], audit: Mapping[str, Any] | None) -> str:
    """Which policy of the run is written."""
    if audit is not None:
        return str(audit["sentence"])
    kept, last = metrics["kept_step"], metrics["num_steps"]
    if kept == last:
        return "The policy after the last step is kept."
    return (
        f"The policy after step {kept:.0f} of {last:.0f} is kept: later ones did worse on the rows "
        "held out."
    )


def _say_start(kit: Kit, trainer: Any, num_rows: int) -> None:
    trained = sum(value.numel() for value in trainer.model.parameters() if value.requires_grad)
    kit.tracker.log(
        f"{num_rows} rows, {trainer.args.max_steps} steps of {kit.params.batch_size}; base "
        f"{kit.params.base} on {kit.processes.device.type} in {kit.precision.name}, {trained:,} "
        f"weights trained, {kit.processes.count} process(es), seed {kit.params.seed}."
    )


def _leave_no_trace(trainer: Any) -> None:
    """Take out what would print each figure."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn what base, disk and memory refuse into a TrainingFailed with a sentence."""
    with sentences_for_the_machine():
        try:
            yield
        except (InvalidInput, Unavailable) as error:
            raise TrainingFailed(str(error)) from error


def _fingerprint(kit: Kit, rows: object) -> str:
    """A hash of all that decides the result, but a reward function."""
    settings = settings_of_the_result(asdict(kit.params))
    versions = installed_versions("torch", "transformers", "trl", "peft")
    parts = [rows, settings, kit.base.digest(), kit.precision.name, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _lora(params: LearnerParams) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=params.lora_rank,
        lora_alpha=ALPHA_PER_RANK * params.lora_rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _open_adapter(model: Any, adapter: Path, lora_rank: int) -> Any:
    """The model with the adapter that is trained on; TRL keeps a frozen copy as the reference.

    Raises InvalidInput where it does not fit, or a new rank is asked for on top of it.
    """
    from peft import PeftModel

    try:
        with quiet_peft():
            found = PeftModel.from_pretrained(model, str(adapter), is_trainable=True)
    except Exception as error:
        raise InvalidInput(
            f"The adapter {adapter} does not fit its base model ({type(error).__name__}: "
            f"{first_line(error)}): name another base.",
            field="base",
        ) from error
    rank = found.peft_config["default"].r
    if lora_rank not in (0, rank):
        raise InvalidInput(
            f"lora_rank {lora_rank}: the adapter {adapter} has rank {rank}; choose 0 or {rank} to "
            "go on with it.",
            field="lora_rank",
        )
    return found
