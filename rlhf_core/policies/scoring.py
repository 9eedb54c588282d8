"""What a rollout needs beside its answers: random numbers, rewards, the reference's judgement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rlhf_core.errors import TrainingFailed
from rlhf_core.policies.generate import Sampled, sample
from rlhf_core.policies.logprobs import all_logprobs
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.ppo_setup import Setup
from rlhf_core.policies.ppo_state import PpoProgress
from rlhf_core.policies.rewards_glue import (
    RewardFunction,
    StepRewardFunction,
    call_reward,
    call_step_reward,
)
from rlhf_core.policies.vllm_engine import sample_by
from rlhf_core.pretrained import Precision

if TYPE_CHECKING:
    import torch

TOKENS_AT_ONCE_CPU = 800
TOKENS_AT_ONCE_CPU_PACKED, TOKENS_AT_ONCE_CPU_PACKED_16_BIT = 1_200, 1_600
"""More is quicker yet; so many take about half the memory of TRL's PPO, its imports left aside."""
PART_COST_CPU, PART_COST_GPU = 100, 1_024
"""What it costs to run one part more, in tokens that could be run instead."""
PADDING_PACKED = 0.25
"""What a token of padding costs, and takes of memory, where but attention has it."""
EVENNESS = 1e-3  # of ways that cost the same, the one whose largest part is smallest


def draw_uniforms(params: PpoParams, update: int) -> "torch.Tensor":
    """The random numbers (batch_size, response_tokens) that decide the update's answers."""
    import torch

    shape = (params.batch_size, params.response_tokens)
    rng = np.random.default_rng([params.seed, update, 0, 0])
    return torch.from_numpy(rng.random(shape, dtype=np.float32))


def answer_prompts(setup: Setup, places: Sequence[int], uniforms: "torch.Tensor") -> Sampled:
    """An answer to each of the prompts at `places`; `uniforms` (n, T) decide them."""
    policy, temperature = setup.policy, setup.params.temperature
    prompts = [setup.prompts.ids[place] for place in places]
    if setup.engine is None:
        return sample(
            policy,
            prompts,
            uniforms,
            temperature=temperature,
            end_ids=setup.end_ids,
            with_values=policy.critic is None,
        )
    sampled = sample_by(
        setup.engine, policy, prompts, uniforms, temperature=temperature, end_ids=setup.end_ids
    )
    _score_again(setup, sampled)
    return sampled


def _score_again(setup: Setup, sampled: Sampled) -> None:
    """Put the policy's own log-probabilities and values of answers in the place of another's."""
    import torch

    policy, lengths = setup.policy, sampled.lengths.tolist()
    at_once, temperature = setup.params.micro_batch_size, setup.params.temperature
    with torch.no_grad():
        for some in cut_rows(
            sampled.prompts,
            lengths,
            range(len(lengths)),
            at_once,
            setup.device,
            setup.precision,
            is_packed=policy.packs_rows,
        ):
            tokens, real = sampled.tokens[some], sampled.mask[some]
            states = policy.answer_states(
                [sampled.prompts[row] for row in some], tokens, [lengths[row] for row in some]
            )
            found = all_logprobs(policy.head, states, tokens[real], temperature)
            sampled.logprobs[some] = _spread(found, real)
            if policy.critic is None:
                sampled.values[some] = _spread(policy.values(states), real)


def cut_rows(
    prompts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    rows: Sequence[int],
    at_once: int,
    device: "torch.device",
    precision: Precision,
    *,
    is_packed: bool,
) -> list[list[int]]:
    """The rows in parts of like length, each no larger than `at_once` rows of the longest.

    Shorter rows thus run more at once: the memory is the same. On a CPU parts are smaller yet, for
    the sake of memory. Among all ways to cut them, that with the least padding is taken, where a
    part more costs as much as some tokens, and padding less than tokens where rows are packed.
    """
    totals = [len(prompt) + length for prompt, length in zip(prompts, lengths, strict=True)]
    room, cost = at_once * max(totals), PART_COST_GPU
    if device.type == "cpu":
        is_wide = precision.dtype.itemsize > 2
        most = TOKENS_AT_ONCE_CPU_PACKED if is_wide else TOKENS_AT_ONCE_CPU_PACKED_16_BIT
        most = most if is_packed else TOKENS_AT_ONCE_CPU
        room, cost = min(room, max(most, max(totals))), PART_COST_CPU
    padding = PADDING_PACKED if is_packed else 1.0
    order = sorted(rows, key=lambda row: (totals[row], row))
    best = [0.0] + [float("inf")] * len(order)  # the least that the first rows cost
    cuts = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        longest, real = totals[order[end - 1]], 0
        for start in range(end - 1, -1, -1):
            real += totals[order[start]]
            size = real + padding * ((end - start) * longest - real)
            if size > room and start < end - 1:
                break
            price = best[start] + size + cost + EVENNESS * size * size / room
            if price < best[end]:
                best[end], cuts[end] = price, start
    parts: list[list[int]] = []
    end = len(order)
    while end:
        parts.insert(0, order[cuts[end] : end])
        end = cuts[end]
    return parts


@dataclass(frozen=True)
class Rewards:
    """Who judges the answers: whole ones, their steps, and without being learned from.

    Of `answers` and `steps` at least one is given.
    """

    answers: RewardFunction | None
    held_out: RewardFunction | None = None
    steps: StepRewardFunction | None = None


@dataclass(frozen=True)
class Scored:
    """What they said of this process's answers; `steps` as a StepRewardFunction gives them."""

    rewards: list[float]
    held_out: list[float]
    steps: list[list[tuple[int, float]]]


def reward_texts(
    setup: Setup, prompts: list[str], completions: list[str], rewards: Rewards
) -> Scored:
    """Ask them all; a failure in one process ends all of them.

    Without a reward of whole answers theirs is the mean of their steps', to be shown alone.
    """
    failure: str | None = None
    found = Scored([], [], [])
    try:
        steps = []
        if rewards.steps is not None:
            steps = call_step_reward(rewards.steps, prompts, completions)
        if rewards.answers is not None:
            whole = call_reward(rewards.answers, prompts, completions)
        else:
            whole = [sum(value for _, value in some) / max(1, len(some)) for some in steps]
        judged = []
        if rewards.held_out is not None:
            judged = call_reward(rewards.held_out, prompts, completions, "held-out reward")
        found = Scored(whole, judged, steps)
    except TrainingFailed as error:
        failure = str(error)
    setup.processes.agree(failure)
    return found


def place_steps(
    setup: Setup, sampled: Sampled, scored: Scored, progress: PpoProgress
) -> "tuple[torch.Tensor, dict[str, float]]":
    """The rewards (n, T) of the steps, each at the token that ends it; and their figures.

    Where rewards are centred, so is an answer's sum, on that of the first batch: each of its steps
    bears a like part of it, and the last token where there is no step.
    """
    import torch

    params = setup.params
    table = torch.zeros_like(sampled.logprobs)
    values = [value for some in scored.steps for _, value in some]
    total, count, num_rows = setup.processes.sums([sum(values), len(values), len(scored.steps)])
    if progress.step_mean is None:
        progress.step_mean = total / num_rows
    middle = progress.step_mean if params.center_rewards else 0.0
    bound = params.reward_clip if params.reward_clip is not None else float("inf")
    lengths = sampled.lengths.tolist()
    for row, some in enumerate(scored.steps):
        if not some:
            table[row, lengths[row] - 1] -= middle
        tokens = sampled.tokens[row, : lengths[row]].tolist() if some else []
        for end, value in some:
            own = max(-bound, min(bound, value - middle / len(some)))
            table[row, _find_token(setup, tokens, end)] += own
    return table, {"step_reward": total / max(1.0, count), "num_steps": count / num_rows}


def _find_token(setup: Setup, tokens: list[int], end: int) -> int:
    """The first token with which the text has `end` characters."""
    low, high = 0, len(tokens) - 1
    while low < high:
        middle = (low + high) // 2
        text = setup.tokenizer.decode(tokens[: middle + 1], skip_special_tokens=True)
        low, high = (low, middle) if len(text) >= end else (middle + 1, high)
    return low


def score_tokens(setup: Setup, sampled: Sampled) -> "tuple[torch.Tensor, torch.Tensor]":
    """The reference's log-probabilities (n, T) of the answers' tokens, and the critic's values.

    Values of a value head on the trunk are those of sampling.
    """
    import torch

    policy, params = setup.policy, setup.params
    lengths = sampled.lengths.tolist()
    logprobs, values = torch.zeros_like(sampled.logprobs), sampled.values.clone()
    parts = cut_rows(
        sampled.prompts,
        lengths,
        range(len(lengths)),
        params.micro_batch_size,
        setup.device,
        setup.precision,
        is_packed=policy.packs_rows,
    )
    used = ["reference"] if policy.critic is None else ["reference", "critic"]
    with torch.no_grad(), policy.together(*used), policy.as_reference() as head:
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
