"""The reward of a policy is any function of texts: called with care, several mixed by weight."""

import math
from collections.abc import Callable, Sequence

from rlhf_core.errors import InvalidInput, TrainingFailed

RewardFunction = Callable[[list[str], list[str]], Sequence[float]]
"""`(prompts, completions) -> rewards`, one finite number for each completion."""


def call_reward(
    reward: RewardFunction, prompts: list[str], completions: list[str], name: str = "reward"
) -> list[float]:
    """The rewards as floats.

    Raises TrainingFailed with a sentence where the function raises, gives another number of
    rewards than there are completions, or one that is no finite number.
    """
    try:
        rewards = [float(value) for value in reward(list(prompts), list(completions))]
    except Exception as error:  # the function is the user's own
        raise TrainingFailed(
            f"The {name} function failed ({type(error).__name__}: {error}): mend it, then resume; "
            "the run goes on from its last checkpoint."
        ) from error
    if len(rewards) != len(completions):
        raise TrainingFailed(
            f"The {name} function gave {len(rewards)} numbers for {len(completions)} completions: "
            "it must give one each."
        )
    for value, prompt in zip(rewards, prompts, strict=True):
        if not math.isfinite(value):
            raise TrainingFailed(
                f"The {name} function gave {value} for a completion of the prompt "
                f"{prompt[:80]!r}: it must give finite numbers."
            )
    return rewards


def mix_rewards(parts: Sequence[tuple[RewardFunction, float]]) -> RewardFunction:
    """One reward of several objectives: the sum of each one's reward times its weight.

    Raises InvalidInput where there is none, or a weight is no finite number.
    """
    if not parts or not all(math.isfinite(weight) for _, weight in parts):
        raise InvalidInput("Name at least one reward, each with a finite weight.", field="rewards")

    def mixed(prompts: list[str], completions: list[str]) -> list[float]:
        total = [0.0] * len(completions)
        for place, (reward, weight) in enumerate(parts):
            found = call_reward(reward, prompts, completions, f"{place + 1}. reward")
            total = [old + weight * new for old, new in zip(total, found, strict=True)]
        return total

    return mixed
