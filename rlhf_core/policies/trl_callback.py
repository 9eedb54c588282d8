"""What a trainer of TRL tells on its way, in this house's words; and how it is stopped."""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.measures import peak_memory_mb
from rlhf_core.policies.ppo_report import NUM_SAMPLES
from rlhf_core.policies.ppo_state import MAX_SAMPLES
from rlhf_core.policies.processes import Processes
from rlhf_core.policies.prompts import encode_prompt
from rlhf_core.policies.trl_params import LearnerParams
from rlhf_core.policies.trl_trainer import Sampler
from rlhf_core.training import Sample, Tracker

NAMES = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "grad_norm": "gradient_norm",
    "learning_rate": "lr",
    "entropy": "entropy",
    "kl": "kl",
    "mean_token_accuracy": "token_accuracy",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/margins": "margin",
    "rewards/accuracies": "accuracy",
    "eval_rewards/margins": "eval_margin",
    "eval_rewards/accuracies": "eval_accuracy",
    "rewards/reward/mean": "reward",
    "rewards/held_out_reward/mean": "held_out_reward",
    "completions/mean_length": "length",
    "clip_ratio/region_mean": "clipfrac",
    "frac_reward_zero_std": "same_reward_share",
    "distinct_2": "distinct_2",
    "opening_share": "opening_share",
}
"""TRL's names of figures, and the names that they have here."""
OF_THE_MACHINE = ("tokens_per_s", "generation_share", "memory_mb")
KEPT = "the last checkpoint is kept."

Guard = Callable[[int, Mapping[str, float], Mapping[str, float]], None]
"""`(step, figures, first step's figures)`: raises TrainingFailed where a run has gone wrong."""


@dataclass
class Course:
    """The way of a run so far, as its checkpoints keep it.

    `history` has the figures of the steps that were reported, `samples` answers to fixed prompts.
    """

    fingerprint: str
    history: list[dict[str, float]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    was_stopped: bool = False

    @property
    def updates(self) -> list[dict[str, float]]:
        """The figures of the steps that were learned in."""
        return [entry for entry in self.history if "loss" in entry]

    def to_json(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "fingerprint": self.fingerprint,
            "history": self.history,
            "samples": self.samples,
            "seconds": self.seconds,
        }


def rename(logs: Mapping[str, Any]) -> dict[str, float]:
    """TRL's figures by their names here; KL in nats an answer, as PPO gives it."""
    figures = {
        name: float(logs[theirs])
        for theirs, name in NAMES.items()
        if isinstance(logs.get(theirs), int | float)
    }
    clipped = logs.get("completions/clipped_ratio")
    if isinstance(clipped, int | float):
        figures["eos_share"] = 1.0 - clipped
        figures["policy_loss"] = figures.get("loss", 0.0)
        if "kl" in figures:
            figures["kl"] *= figures["length"]
    return figures


@functools.cache
def tracker_callback() -> Any:
    """The class of the callback that stands between a trainer and a tracker."""
    from transformers import TrainerCallback

    class TrackerCallback(TrainerCallback):  # type: ignore[misc]
        def __init__(
            self,
            params: LearnerParams,
            processes: Processes,
            tracker: Tracker,
            course: Course,
            sampler: Sampler,
            shown: Sequence[str],
            guard: Guard | None,
        ) -> None:
            self.params, self.processes, self.tracker = params, processes, tracker
            self.course, self.sampler, self.guard = course, sampler, guard
            self.shown = list(shown[:NUM_SAMPLES])
            self.started_at = time.monotonic()
            self.first_step = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.started_at = time.monotonic()
            self.first_step = state.global_step
            if state.global_step == 0:
                self.show(0, more["model"])

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            done, total = state.global_step, state.max_steps
            every = self.params.sample_every
            if every and (done % every == 0 or done == total):
                self.show(done, more["model"])
            if any(self.processes.gather(self.tracker.should_stop() and done < total)):
                self.course.was_stopped = True
                control.should_save = control.should_training_stop = True

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any
        ) -> None:
            figures = rename(logs or {})
            if not figures or "train_runtime" in (logs or {}):
                return
            step = state.global_step
            seconds = time.monotonic() - self.started_at
            figures["memory_mb"] = peak_memory_mb(self.processes.device)
            if self.sampler.num_tokens:
                figures["tokens_per_s"] = self.sampler.num_tokens / max(seconds, 1e-9)
                figures["generation_share"] = self.sampler.seconds / max(seconds, 1e-9)
            for name in ("loss", "gradient_norm", "eval_loss"):
                if not math.isfinite(figures.get(name, 0.0)):
                    raise TrainingFailed(
                        f"The {name} was no number any more in step {step}: choose a lower lr "
                        f"(now {self.params.lr:g}) or precision fp32; {KEPT}"
                    )
            self.keep(step, figures)
            self.tracker.metrics(step, figures)
            self.say(step, state.max_steps, seconds)
            if self.guard is not None and "loss" in figures:
                self.guard(step, figures, self.course.history[0])

        def keep(self, step: int, figures: dict[str, float]) -> None:
            history = self.course.history
            timeless = {
                name: value for name, value in figures.items() if name not in OF_THE_MACHINE
            }
            if history and history[-1]["step"] == step:
                history[-1] |= timeless
            else:
                history.append({"step": float(step), **timeless})

        def say(self, step: int, total: int, seconds: float) -> None:
            latest = self.course.history[-1]
            told = [
                f"{name} {latest[name]:.3f}"
                for name in ("reward", "loss", "margin", "kl")
                if name in latest
            ]
            left = seconds / max(1, step - self.first_step) * (total - step)
            self.tracker.progress(
                0.05 + 0.93 * step / total,
                f"Step {step} of {total}, {', '.join(told)}, "
                f"about {max(1, round(left / 60))} min left",
            )

        def show(self, step: int, model: Any) -> None:
            """Answer the fixed prompts, always by the same draws; the first time it is the base."""
            known = {entry["update"] for entry in self.course.samples}
            if not (self.params.sample_every and self.shown and self.processes.is_first):
                return
            if step in known:
                return
            rng = np.random.default_rng([self.params.seed, 0, 0, 1])
            shape = (len(self.shown), self.params.response_tokens)
            ids = [encode_prompt(text, self.sampler.tokenizer) for text in self.shown]
            sampler = Sampler.like(self.sampler)
            plain = getattr(model, "module", model)
            rows = sampler.answer(plain, ids, rng.random(shape, dtype=np.float32))
            answers = sampler.read(rows)
            entry: dict[str, Any] = {
                "update": step,
                "answers": [
                    {"prompt": prompt, "completion": answer}
                    for prompt, answer in zip(self.shown, answers, strict=True)
                ],
            }
            samples = self.course.samples
            samples.append(entry)
            if len(samples) > MAX_SAMPLES:
                del samples[1]
            samples.sort(key=lambda one: int(one["update"]))  # the one that is kept comes last
            self.tracker.samples(
                step,
                [
                    Sample(one["prompt"], one["completion"], reference=first["completion"])
                    for one, first in zip(entry["answers"], samples[0]["answers"], strict=True)
                ],
            )

    return TrackerCallback
