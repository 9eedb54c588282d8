"""The starter policy: a small language model made on the spot from the interactions at hand.

It answers as the interactions do, the good and the bad alike: a base that the other learners
improve on, where no larger one is at hand. Its tokenizer and its weights are its own; it is a
Llama to all that opens it.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import SftExample
from rlhf_core.freed_memory import keep_freed_memory
from rlhf_core.policies.conversations import Conversations, batch_rows, cut_batch, pad_rows
from rlhf_core.policies.logprobs import cut_tokens, token_logprobs
from rlhf_core.policies.measures import peak_memory_mb
from rlhf_core.policies.optimizer import rate_factor
from rlhf_core.policies.ppo_setup import sentences_for_the_machine
from rlhf_core.policies.starter_params import StarterParams
from rlhf_core.policies.starter_report import finish
from rlhf_core.policies.starter_setup import Setup, StarterProgress, keep, open_run, prepare
from rlhf_core.pretrained import float32_attention
from rlhf_core.training import Tracker, TrainReport

if TYPE_CHECKING:
    import torch

__all__ = ["StarterParams", "train_starter"]

REPORT_EVERY = 10
EVALUATIONS = 4


def train_starter(
    rows: Sequence[SftExample],
    *,
    params: StarterParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Make a policy that answers as the rows do, and write it into `out_dir` (which exists).

    Checkpoints lie in `work_dir`, which this run alone uses: called again with the same rows and
    parameters, it goes on from the newest sound one, on a CPU with the same result to the bit.

    Raises NotEnoughData where no row has both texts; TrainingFailed where the rows, the memory or
    the disk do not allow it, or `tracker` asked to stop.
    """
    with sentences_for_the_machine(), keep_freed_memory():
        setup = prepare(rows, params, tracker)
        progress = open_run(setup, work_dir)
        started_at, first_step, num_tokens = time.monotonic(), progress.step, 0
        while progress.step < setup.num_steps:
            num_tokens += learn(setup, progress)
            done = progress.step
            if done % _evaluate_every(setup) == 0 or done == setup.num_steps:
                evaluate(setup, progress)
            if done % REPORT_EVERY == 0 or done == setup.num_steps:
                seconds = max(1e-9, time.monotonic() - started_at)
                tracker.metrics(
                    done,
                    {
                        "loss": progress.loss,
                        "tokens_per_s": num_tokens / seconds,
                        "memory_mb": peak_memory_mb(setup.processes.device),
                    },
                )
                left_s = seconds / (done - first_step) * (setup.num_steps - done)
                tracker.progress(
                    0.05 + 0.92 * done / setup.num_steps,
                    f"Step {done} of {setup.num_steps}, loss {progress.loss:.3f}, about "
                    f"{max(1, round(left_s))} s left",
                )
            wants_stop = tracker.should_stop() and done < setup.num_steps
            if wants_stop or (done % params.checkpoint_every == 0 and done < setup.num_steps):
                keep(setup, progress, work_dir)
            if wants_stop:
                raise TrainingFailed(
                    f"Stopped on request after step {done} of {setup.num_steps}; its checkpoint "
                    "is kept."
                )
        return finish(setup, progress, out_dir, work_dir, len(rows))


def learn(setup: Setup, progress: StarterProgress) -> int:
    """One step; how many tokens it saw. The loss told is a running mean of the completions'."""
    params, rows = setup.params, setup.learned
    lengths = [len(row) for row in rows.ids]
    places = batch_rows(lengths, progress.step, params.batch_size, params.seed)
    in_answers = sum(lengths[place] - rows.prompt_lengths[place] for place in places)
    in_prompts = sum(rows.prompt_lengths[place] - 1 for place in places)
    weight = in_answers + params.prompt_weight * in_prompts
    setup.model.train()
    total = 0.0
    is_slow = setup.processes.device.type == "cpu" and setup.precision.name == "bf16"
    with float32_attention(setup.model, is_on=is_slow):
        for part in cut_batch(places, lengths):
            total += backward(setup, part, weight)
    setup.model.eval()
    rate = rate_factor(progress.step, setup.num_steps, schedule="linear", warmup=params.warmup)
    norm = setup.optimizer.step(setup.processes, rate=rate, max_norm=params.max_grad_norm)
    if not math.isfinite(total) or (not math.isfinite(norm) and setup.optimizer.scaler is None):
        raise TrainingFailed(
            f"The loss was no number any more in step {progress.step + 1}: choose a lower lr (now "
            f"{params.lr:g}) or precision fp32."
        )
    mean = total / in_answers
    progress.loss = 0.9 * progress.loss + 0.1 * mean if progress.step else mean
    progress.step += 1
    return sum(lengths[place] for place in places)


def backward(setup: Setup, places: list[int], weight: float) -> float:
    """Add the gradient of some rows' loss over `weight`; the sum of the completions' own loss."""
    import torch

    states, tokens, is_answer = find_states(setup, setup.learned, places)
    if setup.params.prompt_weight == 0.0:
        states, tokens, is_answer = states[is_answer], tokens[is_answer], is_answer[is_answer]
    leaf = states.detach().requires_grad_()
    total = 0.0
    head = setup.model.get_output_embeddings()
    for part in cut_tokens(len(leaf), head):
        losses = -token_logprobs(head, leaf[part], tokens[part], 1.0)[0]
        weights = torch.where(is_answer[part], 1.0, setup.params.prompt_weight)
        setup.optimizer.scale((losses * weights).sum() / weight).backward()  # type: ignore[no-untyped-call]
        total += float(losses.detach()[is_answer[part]].sum())
    torch.autograd.backward([states], [leaf.grad])
    return total


def find_states(
    setup: Setup, rows: Conversations, places: Sequence[int]
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """States (n, width) before real tokens (not a row's first), these, and which are answers."""
    import torch

    device = setup.processes.device
    ids = [rows.ids[place] for place in places]
    tokens = torch.tensor([token for row in ids for token in row[1:]], device=device)
    is_answer = torch.tensor(
        [
            step + 1 >= rows.prompt_lengths[place]
            for place in places
            for step in range(len(rows.ids[place]) - 1)
        ],
        device=device,
    )
    if setup.lean is not None:
        return setup.lean.run_rows([row[:-1] for row in ids]), tokens, is_answer
    padded = pad_rows([row[:-1] for row in ids], device)
    found = setup.model.base_model(input_ids=padded, use_cache=False).last_hidden_state
    lengths = torch.tensor([len(row) - 1 for row in ids], device=device)
    is_real = torch.arange(padded.shape[1], device=device) < lengths[:, None]
    return found[is_real], tokens, is_answer


def _evaluate_every(setup: Setup) -> int:
    return max(1, math.ceil(setup.num_steps / EVALUATIONS))


def evaluate(setup: Setup, progress: StarterProgress) -> None:
    """Add the held-out rows' loss (nats a token of the completions) to the history, and tell it."""
    import torch

    rows = setup.held_out
    if not rows.ids:
        return
    head, total, count = setup.model.get_output_embeddings(), 0.0, 0
    lengths = [len(row) for row in rows.ids]
    with torch.no_grad():
        for part in cut_batch(range(len(rows)), lengths):
            states, tokens, is_answer = find_states(setup, rows, part)
            states, tokens = states[is_answer], tokens[is_answer]
            for some in cut_tokens(len(tokens), head):
                total -= float(token_logprobs(head, states[some], tokens[some], 1.0)[0].sum())
            count += len(tokens)
    loss = total / count
    figures = {"step": float(progress.step), "loss": progress.loss, "eval_loss": loss}
    progress.history.append(figures)
    setup.tracker.metrics(progress.step, {"eval_loss": loss})
