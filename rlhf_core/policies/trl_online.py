"""What RLOO, GRPO and distillation share: they learn from answers that the policy gives itself."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.base import find_end_ids
from rlhf_core.policies.measures import measure_variety
from rlhf_core.policies.processes import open_processes
from rlhf_core.policies.prompts import EncodedPrompts, batch_places, encode_prompts
from rlhf_core.policies.rewards_glue import RewardFunction, call_reward
from rlhf_core.policies.trl_callback import KEPT
from rlhf_core.policies.trl_glue import Kit, find_settings, open_kit, run_trainer
from rlhf_core.policies.trl_params import LearnerParams, Schedule
from rlhf_core.policies.trl_rows import table
from rlhf_core.training import Tracker, TrainReport, require, require_between


@dataclass(frozen=True)
class OnlineParams(LearnerParams):
    """How to train by a reward of the policy's own answers; see LearnerParams for the rest.

    One update samples `batch_size` completions (over all processes together), `num_generations`
    to a prompt, which are compared with each other. `kl_coef` is the price of one nat of KL to the
    base; at 0 it is not even measured. `missing_eos_penalty` is taken off the reward where a
    completion did not end by itself (None: nothing).

    Where a held-out reward is given, `keep_best` keeps the policy that it likes most, else the last
    one.

    Guards stop a run that has gone wrong, with its last checkpoint kept: a KL above `max_kl` (nats
    an answer), and entropy or length below `min_entropy_share` or `min_length_share` of the first
    update's (0: not guarded).
    """

    batch_size: int = 32
    response_tokens: int = 128
    schedule: Schedule = "constant"
    warmup: float = 0.0
    checkpoint_every: int = 10
    sample_every: int = 10
    updates: int = 100
    num_generations: int = 4
    kl_coef: float = 0.05
    missing_eos_penalty: float | None = 1.0
    keep_best: bool = True
    max_kl: float = 100.0
    min_entropy_share: float = 0.02
    min_length_share: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, "updates", 1, 10**6)
        require_between(self, "num_generations", 2, 1_024)
        require_between(self, "kl_coef", 0.0, 100.0)
        require_between(self, "max_kl", 0.0, 1e6, above=True)
        require_between(self, "min_entropy_share", 0.0, 1.0)
        require_between(self, "min_length_share", 0.0, 1.0)
        if self.missing_eos_penalty is not None:
            require_between(self, "missing_eos_penalty", 0.0, 1e6)
        require(self.batch_size % self.num_generations == 0, "num_generations",
                self.num_generations, f"a divisor of batch_size ({self.batch_size})")  # fmt: skip


def train_online(
    prompts: Sequence[PromptOnly],
    make: Callable[[dict[str, Any]], tuple[type, Any]],
    *,
    params: OnlineParams,
    reward: RewardFunction,
    held_out: RewardFunction | None,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train by the trainer and configuration that `make` makes of the common settings.

    See `train_rloo` for the rest.
    """
    with open_processes() as processes:
        kit = open_kit(params, processes=processes, tracker=tracker)
        if params.batch_size // processes.count % params.num_generations:
            raise TrainingFailed(
                f"batch_size {params.batch_size} on {processes.count} processes does not hold "
                f"whole groups of {params.num_generations} answers: choose a multiple of "
                f"{processes.count * params.num_generations}."
            )
        encoded = encode_for(kit, prompts)
        rewards, weights = build_rewards(kit, reward, held_out, params.missing_eos_penalty)
        trainer_class, config = make(
            find_settings(kit, work_dir, steps=params.updates)
            | {
                "num_generations": params.num_generations,
                "max_completion_length": params.response_tokens,
                "temperature": params.temperature,
                "beta": params.kl_coef,
                "reward_weights": weights,
                "shuffle_dataset": False,
                "logging_steps": 1,  # the audit needs the figures of each update
            }
        )
        return run_trainer(
            kit,
            trainer_class,
            config,
            {
                "train_dataset": lay_out(encoded, params, params.num_generations),
                "reward_funcs": rewards,
            },
            rows=encoded.digest(),
            num_rows=len(prompts),
            shown=encoded.texts,
            out_dir=out_dir,
            work_dir=work_dir,
            guard=lambda step, figures, first: check_policy(step, figures, first, params),
            metrics={"num_prompts_too_long": float(encoded.num_too_long)},
            best_by="held_out_reward" if params.keep_best and held_out is not None else None,
            is_audited=True,
        )


def encode_for(kit: Kit, prompts: Sequence[PromptOnly]) -> EncodedPrompts:
    """The prompts that fit. Raises NotEnoughData where there is none given."""
    return encode_prompts(
        prompts,
        kit.tokenizer,
        prompt_tokens=kit.params.prompt_tokens,
        response_tokens=kit.params.response_tokens,
        positions=kit.positions,
    )


def lay_out(prompts: EncodedPrompts, params: Any, num_generations: int) -> Any:
    """All prompts in the order in which they are answered, as PPO deals them to its updates."""
    size = params.batch_size // num_generations
    return table(
        [
            {"prompt": prompts.texts[place]}
            for update in range(params.updates)
            for place in batch_places(len(prompts), update, size, params.seed)
        ]
    )


def build_rewards(
    kit: Kit,
    reward: RewardFunction,
    held_out: RewardFunction | None,
    missing_eos_penalty: float | None,
) -> tuple[list[Any], list[float]]:
    """The functions that TRL calls, and what each counts: the held-out one counts nothing.

    Functions of texts stay what they are for PPO; answers are measured on the way.
    """
    ends = set(find_end_ids(kit.model, kit.tokenizer))

    def judge(called: RewardFunction, words: str) -> Any:
        def judged(prompts: list[str], completions: list[str], **more: Any) -> list[float]:
            return call_reward(called, prompts, completions, words)

        judged.__name__ = words.replace("-", "_").replace(" ", "_")  # TRL names figures by it
        return judged

    def unended(
        completion_ids: list[list[int]], completions: list[str], **more: Any
    ) -> list[float]:
        for name, value in measure_variety(completion_ids, completions).items():
            more["log_metric"](name, value)
        return [-float(row[-1] not in ends) for row in completion_ids]

    functions = [judge(reward, "reward"), unended]
    weights = [1.0, missing_eos_penalty or 0.0]
    if held_out is not None:
        functions.append(judge(held_out, "held-out reward"))
        weights.append(0.0)
    return functions, weights


def check_policy(
    step: int, figures: Mapping[str, float], first: Mapping[str, float], params: OnlineParams
) -> None:
    """Raise TrainingFailed where the policy has gone far off, or has collapsed."""
    kl = figures.get("kl", 0.0)
    if not math.isfinite(kl) or abs(kl) > params.max_kl:
        raise TrainingFailed(
            f"The policy went far from the base by update {step} (KL {kl:.3g} nats an answer, "
            f"bound {params.max_kl:g}): choose a higher kl_coef (now {params.kl_coef:g}) or a "
            f"lower lr (now {params.lr:g}); {KEPT}"
        )
    for name, share, remedy in (
        ("entropy", params.min_entropy_share, "a higher kl_coef or a lower lr"),
        ("length", params.min_length_share, "a reward that does not favour short answers"),
    ):
        if figures[name] < share * first[name]:
            raise TrainingFailed(
                f"The {name} collapsed by update {step} ({figures[name]:.3g}, in the first update "
                f"{first[name]:.3g}): choose {remedy}; {KEPT}"
            )
