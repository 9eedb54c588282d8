"""REINFORCE with the other answers to a prompt as the baseline: no critic, and the reward of PPO.

Ahmadian et al. 2024 (arXiv 2402.14740), by TRL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_core.examples import PromptOnly
from rlhf_core.policies.rewards_glue import RewardFunction
from rlhf_core.policies.trl_online import OnlineParams, train_online
from rlhf_core.training import Tracker, TrainReport


@dataclass(frozen=True)
class RlooParams(OnlineParams):
    """How to train; see OnlineParams. The price of KL is taken off an answer's reward.

    `normalize_advantages`: whether advantages are brought to deviation 1 over the batch.
    """

    normalize_advantages: bool = False


def train_rloo(
    prompts: Sequence[PromptOnly],
    *,
    params: RlooParams,
    reward: RewardFunction,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
    held_out: RewardFunction | None = None,
) -> TrainReport:
    """Train the policy on the prompts and write it into `out_dir` (which exists).

    `reward(prompts, completions)` gives a finite number for each completion; `held_out` likewise:
    it judges the same answers, and nothing is learned from it. Checkpoints, resuming and processes
    are as for `train_ppo`.

    Raises NotEnoughData where there is no prompt; TrainingFailed where a guard, the reward, the
    base model, the memory or the disk do not allow it, or `tracker` asked to stop.
    """
    from trl import RLOOConfig, RLOOTrainer

    def make(settings: dict[str, Any]) -> tuple[type, Any]:
        return RLOOTrainer, RLOOConfig(**settings, normalize_advantages=params.normalize_advantages)

    return train_online(
        prompts, make, params=params, reward=reward, held_out=held_out, out_dir=out_dir,
        work_dir=work_dir, tracker=tracker,
    )  # fmt: skip
