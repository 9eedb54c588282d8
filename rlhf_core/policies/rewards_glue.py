"""The reward of a policy is any function of texts: called with care, several mixed by weight."""

import math
from collections.abc import Callable, Sequence

from rlhf_core.errors import InvalidInput, TrainingFailed

RewardFunction = Callable[[list[str], list[str]], Sequence[float]]
"""`(prompts, completions) -> rewards`, one finite number for each completion."""

StepRewardFunction = Callable[[list[str], list[str]], Sequence[Sequence[tuple[int, float]]]]
"""`(prompts, completions) -> steps`: for each completion `(end, reward)` of each of its steps.

`end` counts the completion's characters up to the step's last one (1 to its length).
"""


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


def call_step_reward(
    reward: StepRewardFunction, prompts: list[str], completions: list[str]
) -> list[list[tuple[int, float]]]:
    """The steps' rewards. Raises TrainingFailed as `call_reward` does, and for an end outside."""
    try:
        found = [
            [(int(end), float(value)) for end, value in steps]
            for steps in reward(list(prompts), list(completions))
        ]
    except Exception as error:  # the function is the user's own
        raise TrainingFailed(
            f"The step reward function failed ({type(error).__name__}: {error}): mend it, then "
            "resume; the run goes on from its last checkpoint."
        ) from error
    if len(found) != len(completions):
        raise TrainingFailed(
            f"The step reward function gave steps of {len(found)} completions for "
            f"{len(completions)}: it must give those of each (none: an empty list)."
        )
    for steps, completion in zip(found, completions, strict=True):
        for end, value in steps:
            if not (math.isfinite(value) and 1 <= end <= len(completion)):
                raise TrainingFailed(
                    f"The step reward function gave {value} for a step that ends at character "
                    f"{end} of {len(completion)}: it must give finite numbers and ends within."
                )
    return found


def reward_steps(
    split: Callable[[str], Sequence[str]],
    score: Callable[[list[str], list[list[str]]], Sequence[Sequence[float]]],
) -> StepRewardFunction:
    """A step reward of a model of steps.

    `split(completion)` gives its steps as they stand in it, in their order; `score(prompts, steps)`
    the reward of each step of each completion. A step that is not found in the text gets none.
    """

    def rewards(prompts: list[str], completions: list[str]) -> list[list[tuple[int, float]]]:
        steps = [[step for step in split(text) if step] for text in completions]
        asked = [place for place, some in enumerate(steps) if some]
        scores = score([prompts[place] for place in asked], [list(steps[p]) for p in asked])
        found: list[list[tuple[int, float]]] = [[] for _ in completions]
        for place, values in zip(asked, scores, strict=True):
            end = 0
            for step, value in zip(steps[place], values, strict=True):
                start = completions[place].find(step, end)
                if start >= 0:
                    end = start + len(step)
                    found[place].append((end, float(value)))
        return found

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
