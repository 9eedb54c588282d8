"""Best of n: several answers are sampled, and the one with the highest reward is taken.

Nothing is trained. It needs few labels, and shows what the reward would make of a policy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.policies.answering import draw_uniforms, keep_fitting, open_answerer
from rlhf_core.policies.ppo_setup import sentences_for_the_machine
from rlhf_core.policies.rewards_glue import RewardFunction, call_reward
from rlhf_core.pretrained import PrecisionName
from rlhf_core.training import NoOpTracker, Tracker, require

if TYPE_CHECKING:
    import torch

MAX_CANDIDATES = 256
ANSWERS_AT_ONCE = 256


@dataclass(frozen=True)
class Best:
    """The best answer to a prompt; `candidates` are all answers, as sampled, with `rewards`."""

    prompt: str
    completion: str
    reward: float
    candidates: tuple[str, ...]
    rewards: tuple[float, ...]

    @property
    def mean_reward(self) -> float:
        """What one answer gets on average: the first of `candidates` is as good as any."""
        return sum(self.rewards) / len(self.rewards)


def best_of_n(
    policy_folder: Path,
    prompts: Sequence[PromptOnly],
    *,
    n: int,
    reward: RewardFunction,
    temperature: float = 1.0,
    prompt_tokens: int = 512,
    response_tokens: int = 128,
    precision: PrecisionName = "auto",
    seed: int = 0,
    tracker: Tracker | None = None,
) -> list[Best]:
    """The best of `n` answers (1 to 256) to each prompt that fits, in their order.

    A prompt's answers are the same for a larger `n`, with more behind them; of equal rewards the
    first counts. Raises InvalidInput where the folder is none of a policy, NotEnoughData without a
    prompt, TrainingFailed where no prompt fits, the reward fails, or `tracker` asked to stop.
    """
    is_whole = isinstance(n, int) and not isinstance(n, bool)
    require(is_whole and 1 <= n <= MAX_CANDIDATES, "n", n, f"1 to {MAX_CANDIDATES}")
    require(0.0 < temperature <= 10.0, "temperature", temperature, "above 0 to 10")
    require(response_tokens >= 1, "response_tokens", response_tokens, "1 or more")
    tracker = tracker or NoOpTracker()
    found: list[Best] = []
    with sentences_for_the_machine():
        answerer = open_answerer(policy_folder, precision=precision)
        fitting = keep_fitting(
            prompts, [answerer], prompt_tokens=prompt_tokens, response_tokens=response_tokens
        )
        size = max(1, ANSWERS_AT_ONCE // n)
        for start in range(0, len(fitting), size):
            rows = fitting[start : start + size]
            asked = [row.prompt for row in rows for _ in range(n)]
            ids = [one for one in answerer.encode([row.prompt for row in rows]) for _ in range(n)]
            answers = answerer.answer(
                ids,
                _draw(range(start, start + len(rows)), n, response_tokens, seed),
                temperature=temperature,
            )
            rewards = call_reward(reward, asked, answers.texts)
            found += [
                _take(row.prompt, answers.texts[at : at + n], rewards[at : at + n])
                for at, row in zip(range(0, len(asked), n), rows, strict=True)
            ]
            done = len(found)
            tracker.progress(done / len(fitting), f"Prompt {done} of {len(fitting)}")
            if tracker.should_stop() and done < len(fitting):
                raise TrainingFailed(f"Stopped on request after prompt {done} of {len(fitting)}.")
    return found


def kl_of_best(n: int) -> float:
    """KL (nats an answer) of the best of n to the policy: at most log n - (n - 1) / n.

    Stiennon et al. 2020 (arXiv 2009.01325); Beirami et al. 2024 (2401.01879) show the bound.
    """
    return math.log(n) - (n - 1) / n


def _draw(places: range, n: int, num_tokens: int, seed: int) -> "torch.Tensor":
    import torch

    return torch.cat([draw_uniforms(n, num_tokens, [seed, place]) for place in places])


def _take(prompt: str, texts: Sequence[str], rewards: Sequence[float]) -> Best:
    place = max(range(len(texts)), key=lambda one: rewards[one])
    return Best(prompt, texts[place], rewards[place], tuple(texts), tuple(rewards))
