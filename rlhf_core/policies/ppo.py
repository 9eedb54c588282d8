"""Proximal policy optimisation of a language model, with any function of texts as the reward.

An update: sample an answer to each prompt of the batch; reward it, and take off what it departs
from the reference, token by token; estimate advantages (GAE); learn from them for some passes with
clipped policy and value losses. Schulman et al. 2017 (arXiv 1707.06347), as applied to language by
Ziegler et al. 2019 (1909.08593) and Huang et al. 2024 (2403.17031).

One trunk carries policy and value head. Log-probabilities and values are kept from sampling, logits
are computed at the answers' tokens only and never held all at once, and rows run in parts of like
length: that is where the time and the memory of other trainers go.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.freed_memory import keep_freed_memory
from rlhf_core.policies.audit import make_audit
from rlhf_core.policies.generate import Sampled
from rlhf_core.policies.guards import check_norm, check_step, check_update
from rlhf_core.policies.logprobs import cut_tokens, token_logprobs
from rlhf_core.policies.network import ActorCritic
from rlhf_core.policies.optimizer import rate_factor
from rlhf_core.policies.ppo_params import PpoParams
from rlhf_core.policies.ppo_peak import keep_candidate, restore_peak
from rlhf_core.policies.ppo_probe import probe_after, probe_before
from rlhf_core.policies.ppo_report import Clock, finish, measure_texts, say_update, show_samples
from rlhf_core.policies.ppo_setup import Setup, keep_checkpoint, open_run, prepare, stop_if_asked
from rlhf_core.policies.ppo_state import PpoProgress
from rlhf_core.policies.processes import open_processes
from rlhf_core.policies.prompts import batch_places
from rlhf_core.policies.rewards_glue import RewardFunction, StepRewardFunction
from rlhf_core.policies.scoring import (
    Rewards,
    answer_prompts,
    cut_rows,
    draw_uniforms,
    place_steps,
    reward_texts,
    score_tokens,
)
from rlhf_core.training import Tracker, TrainReport

if TYPE_CHECKING:
    import torch

__all__ = ["PpoParams", "train_ppo"]

STEP_FIGURES = (
    "policy_loss", "value_loss", "ratio", "approx_kl", "clipfrac", "value_clipfrac",
)  # fmt: skip
MIN_VARIANCE = 1e-8
ROUNDING = 1e-5  # nats: what the sampler's and the learner's float32 may differ by is no KL


@dataclass(frozen=True)
class Rollout:
    """This process's answers of one update: n rows, up to T tokens.

    `rewards`, `advantages` and `returns` (n, T) are a token's; where `sampled.mask` is not, they
    are 0. `figures` are of the whole batch, over all processes.
    """

    sampled: Sampled
    advantages: "torch.Tensor"
    returns: "torch.Tensor"
    figures: dict[str, float]


def train_ppo(
    prompts: Sequence[PromptOnly],
    *,
    params: PpoParams,
    reward: RewardFunction | None,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
    held_out: RewardFunction | None = None,
    step_reward: StepRewardFunction | None = None,
) -> TrainReport:
    """Train the policy on the prompts and write it into `out_dir` (which exists).

    `reward(prompts, completions)` gives a finite number for each completion, `step_reward` one for
    each step of each (one of the two may be None). `held_out` is as `reward`, but nothing is
    learned from it: the policy that it likes most is the one that is written. Checkpoints lie in
    `work_dir`, which this run alone uses: called again with the same prompts and parameters, it
    goes on from the newest sound one, on a CPU with the same result to the bit. Under `accelerate
    launch` or `torchrun` each process calls it alike, with one `work_dir` that all see.

    Raises NotEnoughData where there is no prompt; TrainingFailed where a guard, the reward, the
    base model, the memory or the disk do not allow it, or `tracker` asked to stop.
    """
    if reward is None and step_reward is None:
        raise TrainingFailed("There is no reward: give reward, step_reward, or both.")
    rewards = Rewards(reward, held_out, step_reward)
    with open_processes() as processes, keep_freed_memory():
        setup = prepare(prompts, params=params, processes=processes, tracker=tracker)
        progress = open_run(setup, work_dir)
        probe_before(setup, progress, held_out)
        clock = Clock(setup.device)
        while progress.update < params.updates:
            show_samples(setup, progress, reward)
            if held_out is not None:
                keep_candidate(setup, progress, work_dir)
            with clock.update():
                rollout = roll_out(setup, progress, rewards, clock)
                figures = rollout.figures | learn(setup, rollout, progress.update)
            progress.update += 1
            progress.first = progress.first or dict(figures)
            progress.history.append(figures)
            adapt_kl(progress, figures["kl"], params)
            say_update(setup, progress, clock)
            check_update(figures, progress.first, progress.streaks, progress.update, params)
            is_due = progress.update % params.checkpoint_every == 0
            if is_due or progress.update == params.updates:
                keep_checkpoint(setup, progress, work_dir)
            stop_if_asked(setup, progress, work_dir)
        kept = restore_peak(setup, progress, work_dir)
        show_samples(setup, progress, reward, kept=kept)
        audit = make_audit(
            progress.history, kept_update=kept, sycophancy=probe_after(setup, progress, held_out)
        )
        return finish(setup, progress, clock, audit, out_dir, work_dir, len(prompts))


def roll_out(
    setup: Setup,
    progress: PpoProgress,
    rewards: Rewards,
    clock: Clock,
) -> Rollout:
    """Sample and reward this process's share of the update's batch."""
    params, processes, policy = setup.params, setup.processes, setup.policy
    own = slice(processes.rank, None, processes.count)
    places = batch_places(len(setup.prompts), progress.update, params.batch_size, params.seed)[own]
    with clock.generation():
        sampled = answer_prompts(setup, places, draw_uniforms(params, progress.update)[own])
    texts = [setup.prompts.texts[place] for place in places]
    completions = setup.decode(sampled)
    scored = reward_texts(setup, texts, completions, rewards)
    scores = scored.rewards if rewards.answers is not None else [0.0] * len(completions)
    with_reference, values = score_tokens(setup, sampled)
    clock.num_tokens += int(sampled.lengths.sum())

    total, count = processes.sums([sum(scores), len(scores)])
    if progress.reward_mean is None:
        progress.reward_mean = total / count
        if not params.center_rewards:
            policy.value_head.bias.data.fill_(progress.reward_mean)
            values = values + progress.reward_mean * sampled.mask
    token_rewards, kl = shape_rewards(sampled, scores, with_reference, progress, params)
    step_figures: dict[str, float] = {}
    if rewards.steps is not None:
        step_rewards, step_figures = place_steps(setup, sampled, scored, progress)
        token_rewards = token_rewards + step_rewards
    advantages, returns = compute_advantages(
        token_rewards, values, sampled.mask, gamma=params.gamma, lam=params.lam
    )
    sampled.values.copy_(values)
    advantages = whiten(advantages, sampled.mask, setup)
    num_tokens, logprob, kl_total, num_ended = processes.sums(
        [float(part.sum()) for part in (sampled.lengths, sampled.logprobs, kl, sampled.has_ended)]
    )
    shown, judged = processes.sums([sum(scored.rewards), sum(scored.held_out)])
    figures = {
        "reward": shown / count,
        "kl": kl_total / count,
        "kl_coef": progress.kl_coef,
        "entropy": -logprob / num_tokens,
        "length": num_tokens / count,
        "eos_share": num_ended / count,
        "explained_variance": explain_variance(values, returns, sampled.mask, setup),
        **measure_texts(setup, sampled, completions),
        **step_figures,
    }
    if rewards.held_out is not None:
        figures["held_out_reward"] = judged / count
    return Rollout(sampled, advantages, returns, figures)


def learn(setup: Setup, rollout: Rollout, update: int) -> dict[str, float]:
    """Learn from the rollout for some passes; the means of the steps' figures."""
    params, processes = setup.params, setup.processes
    total_steps = params.updates * params.ppo_epochs * params.num_mini_batches
    figures: dict[str, float] = {}
    num_steps = params.ppo_epochs * params.num_mini_batches
    for epoch in range(params.ppo_epochs):
        order = np.random.default_rng([params.seed, update, epoch]).permutation(params.batch_size)
        for number, part in enumerate(np.array_split(order, params.num_mini_batches)):
            rows = [
                int(row) // processes.count
                for row in part
                if int(row) % processes.count == processes.rank
            ]
            with setup.policy.learning():
                found = backward(setup, rollout, rows)
            check_step(found, update + 1, params)
            step = (update * params.ppo_epochs + epoch) * params.num_mini_batches + number
            rate = rate_factor(step, total_steps, schedule=params.schedule, warmup=params.warmup)
            norm = setup.optimizer.step(processes, rate=rate, max_norm=params.max_grad_norm)
            is_scaled = setup.optimizer.scaler is not None
            check_norm(norm, update + 1, params, is_scaled=is_scaled)
            if epoch == number == 0:
                figures["first_ratio"] = found["ratio"]  # 1, unless sampling and learning differ
            norm = norm if math.isfinite(norm) else 0.0  # float16's scaler left the step out
            for name, value in {**found, "gradient_norm": norm}.items():
                figures[name] = figures.get(name, 0.0) + value / num_steps
    return figures | {"lr": params.lr * rate}


def backward(setup: Setup, rollout: Rollout, rows: list[int]) -> dict[str, float]:
    """Add the gradient of the mean loss over the step's tokens; its figures, of all processes.

    The states of some rows are computed at once; from there the loss goes backward in parts, each
    with the logits of some tokens, and then in one from the states through the trunk.
    """
    import torch

    sampled, policy, params = rollout.sampled, setup.policy, setup.params
    lengths = sampled.lengths.tolist()
    num_tokens = setup.processes.sums([sum(lengths[row] for row in rows)])[0]
    sums = torch.zeros(len(STEP_FIGURES), dtype=torch.float64, device=setup.device)
    parts = cut_rows(
        sampled.prompts, lengths, rows, params.micro_batch_size, setup.device, setup.precision,
        is_packed=policy.packs_rows,
    )  # fmt: skip
    for some in policy.in_step(parts, setup.processes):
        real = sampled.mask[some]
        answers = ([sampled.prompts[row] for row in some], sampled.tokens[some],
                   [lengths[row] for row in some])  # fmt: skip
        states = policy.answer_states(*answers)
        leaf = states.detach().requires_grad_()
        roots, leaves = [states], [leaf]
        critic_leaf = leaf
        if policy.critic is not None:
            roots.append(policy.answer_states(*answers, of="critic"))
            critic_leaf = roots[1].detach().requires_grad_()
            leaves.append(critic_leaf)
        flat = {
            name: table[some][real]
            for name, table in (
                ("tokens", sampled.tokens), ("logprobs", sampled.logprobs),
                ("values", sampled.values), ("advantages", rollout.advantages),
                ("returns", rollout.returns),
            )
        }  # fmt: skip
        for part in cut_tokens(len(leaf), policy.head):
            loss, found = ppo_loss(
                policy, leaf[part], critic_leaf[part],
                {name: values[part] for name, values in flat.items()}, params,
            )  # fmt: skip
            setup.optimizer.scale(loss / num_tokens).backward()  # type: ignore[no-untyped-call]
            sums += found
        torch.autograd.backward(roots, [one.grad for one in leaves])
    totals = setup.processes.sums([float(value) / num_tokens for value in sums])
    return dict(zip(STEP_FIGURES, totals, strict=True))


def ppo_loss(
    policy: ActorCritic,
    states: "torch.Tensor",
    critic_states: "torch.Tensor",
    old: "dict[str, torch.Tensor]",
    params: PpoParams,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """The sum of the clipped losses over some tokens, and the sums of STEP_FIGURES over them."""
    import torch

    logprobs, entropy = token_logprobs(
        policy.head, states, old["tokens"], params.temperature,
        with_entropy=params.entropy_coef > 0.0,
    )  # fmt: skip
    change = logprobs - old["logprobs"]
    ratio = change.exp()
    clipped_ratio = ratio.clamp(1.0 - params.cliprange, 1.0 + params.cliprange)
    plain, clipped = -old["advantages"] * ratio, -old["advantages"] * clipped_ratio
    policy_losses = torch.maximum(plain, clipped)

    values = policy.values(critic_states)
    moved = values - old["values"]
    near = old["values"] + moved.clamp(-params.cliprange_value, params.cliprange_value)
    errors, near_errors = (values - old["returns"]) ** 2, (near - old["returns"]) ** 2
    value_losses = 0.5 * torch.maximum(errors, near_errors)

    loss = policy_losses.sum() + params.vf_coef * value_losses.sum()
    if entropy is not None:
        loss = loss - params.entropy_coef * entropy.sum()
    with torch.no_grad():
        found = torch.stack(
            [
                policy_losses.sum(),
                value_losses.sum(),
                ratio.sum(),
                (ratio - 1.0 - change).sum(),  # of the old policy to the new: never negative
                (clipped > plain).sum(),
                ((near_errors > errors) & (moved.abs() > params.cliprange_value)).sum(),
            ]
        ).double()
    return loss, found


def shape_rewards(
    sampled: Sampled,
    scores: Sequence[float],
    reference: "torch.Tensor",
    progress: PpoProgress,
    params: PpoParams,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Rewards of tokens (n, T), and the KL of tokens to the reference (n, T) (k1: its estimate).

    A token's reward is what its KL costs; at the last real token the answer's score comes on top:
    centred, clipped, and with the penalty where it did not end by itself.
    """
    import torch

    total = torch.tensor(scores, dtype=torch.float32, device=reference.device)
    if params.center_rewards:
        total = total - (progress.reward_mean or 0.0)
    if params.reward_clip is not None:
        total = total.clamp(-params.reward_clip, params.reward_clip)
    if params.missing_eos_penalty is not None:
        total = total - params.missing_eos_penalty * (~sampled.has_ended).float()
    kl = (sampled.logprobs - reference) * sampled.mask
    kl = kl * (kl.abs() > ROUNDING)  # else whitening and Adam would make steps of it
    rewards = -progress.kl_coef * kl
    last = (sampled.lengths - 1)[:, None]
    return rewards.scatter_add(1, last, total[:, None]), kl


def compute_advantages(
    rewards: "torch.Tensor",
    values: "torch.Tensor",
    mask: "torch.Tensor",
    *,
    gamma: float,
    lam: float,
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Generalised advantage estimates and returns (n, T) of answers that end where the mask does.

    Schulman et al. 2016 (arXiv 1506.02438): the sum of (gamma lam)^k times the surprise
    r + gamma V' - V after k tokens; the value after the last token is 0.
    """
    import torch

    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    next_value = torch.zeros_like(rewards[:, 0])
    for step in reversed(range(rewards.shape[1])):
        is_real = mask[:, step].to(rewards.dtype)
        surprise = rewards[:, step] + gamma * next_value - values[:, step]
        following = (surprise + gamma * lam * following) * is_real
        next_value = values[:, step] * is_real
        advantages[:, step] = following
    return advantages, (advantages + values) * mask


def whiten(table: "torch.Tensor", mask: "torch.Tensor", setup: Setup) -> "torch.Tensor":
    """The table with mean 0 and deviation 1 over the real tokens of all processes, 0 elsewhere."""
    mean, variance = _moments(table, mask, setup)
    whitened: torch.Tensor = (table - mean) / math.sqrt(variance + MIN_VARIANCE) * mask
    return whitened


def explain_variance(
    values: "torch.Tensor", returns: "torch.Tensor", mask: "torch.Tensor", setup: Setup
) -> float:
    """The share of the returns' variance that the values foretold: 1 all, 0 none, below: worse."""
    _, variance = _moments(returns, mask, setup)
    _, missed = _moments(returns - values, mask, setup)
    return 1.0 - missed / variance if variance > MIN_VARIANCE else 0.0


def adapt_kl(progress: PpoProgress, kl: float, params: PpoParams) -> None:
    """Turn the price of KL towards its target (Ziegler et al. 2019), if there is one."""
    if params.kl_target is not None:
        error = min(0.2, max(-0.2, kl / params.kl_target - 1.0))
        progress.kl_coef *= 1.0 + error * params.batch_size / max(
            params.kl_horizon, params.batch_size
        )


def _moments(table: "torch.Tensor", mask: "torch.Tensor", setup: Setup) -> tuple[float, float]:
    """Mean and variance over the real tokens of all processes."""
    total, count = setup.processes.sums([float((table * mask).double().sum()), float(mask.sum())])
    mean = total / count
    spread = ((table.double() - mean) ** 2 * mask).sum()
    return mean, setup.processes.sums([float(spread)])[0] / count
