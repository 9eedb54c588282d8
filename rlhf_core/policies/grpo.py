"""Group-relative policy optimisation: answers to a prompt are compared with their group's mean.

Shao et al. 2024 (arXiv 2402.03300), by TRL, whose own default leaves out the KL to the base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rlhf_core.examples import PromptOnly
from rlhf_core.policies.rewards_glue import RewardFunction
from rlhf_core.policies.trl_online import OnlineParams, train_online
from rlhf_core.training import Tracker, TrainReport, require_choice

Scale = Literal["group", "batch", "none"]


@dataclass(frozen=True)
class GrpoParams(OnlineParams):
    """How to train; see OnlineParams. The price of KL is part of the loss.

    `scale_rewards`: whether advantages are divided by the deviation of the prompt's group, of the
    batch, or not at all.
    """

    scale_rewards: Scale = "group"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "scale_rewards", ("group", "batch", "none"))


def train_grpo(
    prompts: Sequence[PromptOnly],
    *,
    params: GrpoParams,
    reward: RewardFunction,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
    held_out: RewardFunction | None = None,
) -> TrainReport:
    """Train the policy on the prompts and write it into `out_dir`; see `train_rloo`."""
    from trl import GRPOConfig, GRPOTrainer

    def make(settings: dict[str, Any]) -> tuple[type, Any]:
        return GRPOTrainer, GRPOConfig(**settings, scale_rewards=params.scale_rewards)

    return train_online(
        prompts, make, params=params, reward=reward, held_out=held_out, out_dir=out_dir,
        work_dir=work_dir, tracker=tracker,
    )  # fmt: skip
