"""What a rollout needs beside its answers: random numbers, rewards, the reference's judgement."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.generate import Sampled
from rlhf_core.policies.logprobs import all_logprobs
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.ppo_setup import Setup
from rlhf_core.policies.rewards_glue import RewardFunction, call_reward

if TYPE_CHECKING:
    import torch


def draw_uniforms(params: PpoParams, update: int) -> "torch.Tensor":
    """The random numbers (batch_size, response_tokens) that decide the update's answers."""
    import torch

    shape = (params.batch_size, params.response_tokens)
    rng = np.random.default_rng([params.seed, update, 0, 0])
    return torch.from_numpy(rng.random(shape, dtype=np.float32))


def cut_rows(
    prompts: Sequence[Sequence[int]], lengths: Sequence[int], rows: Sequence[int], at_once: int
) -> list[list[int]]:
    """The rows in parts of like length, each no larger than `at_once` rows of the longest.

    Shorter rows thus run more at once: the memory is the same, and fewer parts are quicker.
    """
    totals = [len(prompt) + length for prompt, length in zip(prompts, lengths, strict=True)]
    room = at_once * max(totals)
    parts: list[list[int]] = []
    for row in sorted(rows, key=lambda row: (totals[row], row)):
        if not parts or (len(parts[-1]) + 1) * totals[row] > room:
            parts.append([])
        parts[-1].append(row)
    return parts


def reward_texts(
    setup: Setup,
    prompts: list[str],
    completions: list[str],
    reward: RewardFunction,
    held_out: RewardFunction | None,
) -> tuple[list[float], list[float]]:
    """Rewards and held-out rewards; a failure in one process ends all of them."""
    failure: str | None = None
    scores: list[float] = []
    judged: list[float] = []
    try:
        scores = call_reward(reward, prompts, completions)
        if held_out is not None:
            judged = call_reward(held_out, prompts, completions, "held-out reward")
    except TrainingFailed as error:
        failure = str(error)
    setup.processes.agree(failure)
    return scores, judged


def score_tokens(setup: Setup, sampled: Sampled) -> "tuple[torch.Tensor, torch.Tensor]":
    """The reference's log-probabilities (n, T) of the answers' tokens, and the critic's values.

    Values of a value head on the trunk are those of sampling.
    """
    import torch

    policy, params = setup.policy, setup.params
    lengths = sampled.lengths.tolist()
    logprobs, values = torch.zeros_like(sampled.logprobs), sampled.values.clone()
    parts = cut_rows(sampled.prompts, lengths, range(len(lengths)), params.micro_batch_size)
    with torch.no_grad(), policy.as_reference() as head:
        for some in parts:
            prompts = [sampled.prompts[row] for row in some]
            tokens, real = sampled.tokens[some], sampled.mask[some]
            own = [lengths[row] for row in some]
            states = policy.answer_states(prompts, tokens, own, of="reference")
            logprobs[some] = _spread(
                all_logprobs(head, states, tokens[real], params.temperature), real
            )
            if policy.critic is not None:
                states = policy.answer_states(prompts, tokens, own, of="critic")
                values[some] = _spread(policy.values(states), real)
    return logprobs, values


def _spread(found: "torch.Tensor", real: "torch.Tensor") -> "torch.Tensor":
    """A number for each real token, as a table (n, T) with 0 elsewhere."""
    table = found.new_zeros(real.shape)
    table[real] = found
    return table
