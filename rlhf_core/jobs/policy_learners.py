"""Calls the learners of policies, in this process or in several."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rlhf_core.examples import Example
from rlhf_core.jobs.policy_params import REWARDED, TrainPolicyParams
from rlhf_core.jobs.policy_rewards import RewardSource, open_reward, open_step_reward
from rlhf_core.jobs.policy_speed import measure_base
from rlhf_core.training import Tracker, TrainReport
from rlhf_core.vocabulary import JobKind, ModelKind

_LEARNERS: dict[JobKind, str] = {
    JobKind.TRAIN_STARTER: "starter:train_starter",
    JobKind.TRAIN_SFT: "sft:train_sft",
    JobKind.TRAIN_DPO: "dpo:train_dpo",
    JobKind.TRAIN_KTO: "kto:train_kto",
    JobKind.TRAIN_RLOO: "rloo:train_rloo",
    JobKind.TRAIN_GRPO: "grpo:train_grpo",
    JobKind.TRAIN_PPO: "ppo:train_ppo",
    JobKind.DISTIL: "distil:train_distilled",
}


SMALL = 50e6
"""Weights under which a policy is given larger steps: the learners' own rates are for real ones."""
RATES = ("lr", "value_lr")


@dataclass(frozen=True)
class PolicyWork:
    """All that a learner is called with. `params` are its own, with folders for names.

    `out_dir` exists and takes the policy; `work_dir` exists and keeps checkpoints.
    """

    learner: JobKind
    params: Any
    rows: Sequence[Example]
    out_dir: Path
    work_dir: Path
    rewards: tuple[RewardSource, ...] = ()
    judge: RewardSource | None = None


def suggest_rates(params: TrainPolicyParams, folder: Path) -> dict[str, float]:
    """The learning rates for a small base where none was asked for; nothing for others.

    They fall with the square root of the number of weights: a billion have the learner's own.
    """
    num_weights = measure_base(folder).num_weights
    if not 0 < num_weights < SMALL or (folder / "adapter_config.json").exists():
        return {}
    factor = math.sqrt(1e9 / num_weights)
    own = params.learner_params()
    return {
        name: float(f"{getattr(own, name) * factor:.2g}")
        for name in RATES
        if hasattr(own, name) and name not in params.options
    }


def learn(work: PolicyWork, tracker: Tracker) -> TrainReport:
    """Train the policy in this process. What the learner raises goes through."""
    given: dict[str, Any] = {
        "params": work.params,
        "out_dir": work.out_dir,
        "work_dir": work.work_dir,
        "tracker": tracker,
    }
    if work.learner in REWARDED:
        tracker.progress(0.0, "Opening the reward models")
        dense = [source for source in work.rewards if _is_dense(work.learner, source)]
        whole = [source for source in work.rewards if source not in dense]
        given["reward"] = open_reward(whole) if whole else None
        given["held_out"] = None if work.judge is None else open_reward([work.judge])
        if dense:
            given["step_reward"] = open_step_reward(dense)
    module, name = _LEARNERS[work.learner].split(":")
    report: TrainReport = getattr(import_module(f"rlhf_core.policies.{module}"), name)(
        work.rows, **given
    )
    return report


def _is_dense(learner: JobKind, source: RewardSource) -> bool:
    """Whether each step of an answer is rewarded, not the answer as a whole."""
    return learner is JobKind.TRAIN_PPO and source.kind is ModelKind.REWARD_STEPS
