"""Calls the learners of policies, in this process or in several."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rlhf_core.examples import Example
from rlhf_core.jobs.policy_params import REWARDED
from rlhf_core.jobs.policy_rewards import RewardSource, open_reward, open_step_reward
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
