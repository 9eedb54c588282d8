"""The training loop of a step model: binary cross-entropy at the ends of judged steps.

Length-grouped batches, the best epoch by the log loss on held-out prompts, exact resumption: on a
CPU the same rows, parameters and number of threads give the same weights to the bit, killed and
resumed or not.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_core.checkpoints import find_checkpoint, save_checkpoint
from rlhf_core.errors import TrainingFailed
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.base_model import Precision
from rlhf_core.rewards.batching import plan_batches
from rlhf_core.rewards.logistic import Labels
from rlhf_core.rewards.steps_network import Reading, cut_windows, predict, run_network
from rlhf_core.rewards.steps_params import StepParams
from rlhf_core.rewards.steps_rows import Solutions
from rlhf_core.rewards.steps_text import Window
from rlhf_core.rewards.transformer_optimizer import make_optimizer, make_step, rate_factor
from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_state import (
    Progress,
    Weights,
    copy_weights,
    put_weights,
    read_fingerprint,
    read_state,
    trained_weights,
    write_state,
)
from rlhf_core.training import Tracker

if TYPE_CHECKING:
    import torch

LOG_EVERY = 10


@dataclass(frozen=True)
class Machine:
    """Where and how the network computes; `pad_id` is its padding token."""

    device: "torch.device"
    precision: Precision
    reading: Reading
    pad_id: int


@dataclass(frozen=True)
class Fit:
    """What a run found; the network holds the weights of the best epoch.

    `scores`: log odds of every step of each held-out row, not calibrated. `seconds` and
    `tokens_per_s` are of this process alone.
    """

    best_epoch: int
    history: list[dict[str, float]]
    scores: list[Floats]
    num_steps: int
    seconds: float
    tokens_per_s: float


def fit(
    network: Any,
    learned: Solutions,
    held: Solutions,
    *,
    params: StepParams,
    machine: Machine,
    fingerprint: str,
    work_dir: Path,
    tracker: Tracker,
) -> Fit:
    """Train the network (on its device) on `learned`; `held` tells the best epoch.

    Goes on from the newest sound checkpoint in `work_dir` that has this `fingerprint`. Raises
    TrainingFailed where `tracker` asks to stop (after a checkpoint) or the loss is no number,
    Unavailable where no checkpoint can be written.
    """
    started_at = time.monotonic()
    optimizer = _make_optimizer(network, params)
    progress, kept = _start(network, optimizer, fingerprint, work_dir, tracker)
    lengths = [len(window.ids) for window in learned.training]
    a_epoch = -(-len(lengths) // params.batch_size)
    total = a_epoch * params.epochs
    first_step, num_tokens = progress.step, 0
    plan: list[list[int]] = []
    if progress.best_loss is None:  # a language model that adds nothing is not kept
        progress.best_loss = measure_loss(network, held, machine)
        kept.best = copy_weights(trained_weights(network))
        tracker.log(f"Without the language model: {progress.best_loss:.4f} on held-out prompts.")

    def save() -> None:
        save_checkpoint(
            work_dir,
            progress.step,
            lambda path: write_state(path, progress, kept, network, optimizer, None),
        )

    while progress.step < total and not progress.has_ended:
        epoch, place = divmod(progress.step, a_epoch)
        if place == 0 or not plan:
            plan = plan_batches(lengths, params.batch_size, seed=params.seed, epoch=epoch)
        rate = rate_factor(progress.step, total, params.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        batch = [learned.training[number] for number in plan[place]]
        network.train()
        loss = _backward(network, learned, batch, machine)
        norm = make_step(network, optimizer, None)
        progress.step += 1
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"The loss was no number any more at step {progress.step}: choose a lower lr "
                f"(now {params.lr:g}), or precision fp32."
            )
        progress.loss_sum += loss
        progress.num_summed += 1
        num_tokens += sum(len(window.ids) for window in batch)
        if progress.step % LOG_EVERY == 0 or progress.step == total:
            a_step_s = (time.monotonic() - started_at) / (progress.step - first_step)
            values = {"loss": loss, "gradient_norm": norm, "learning_rate": params.lr * rate}
            tracker.metrics(progress.step, values)
            _tell(tracker, progress.step, total, epoch, params, a_step_s)
        if progress.step % a_epoch == 0:
            _end_epoch(network, held, progress, kept, params, machine, tracker, a_epoch)
        if tracker.should_stop():
            save()
            raise TrainingFailed(
                f"Stopped on request after step {progress.step} of {total}; its checkpoint is kept."
            )
        is_last = progress.has_ended or progress.step == total
        if is_last or progress.step % params.checkpoint_every == 0:
            progress.has_ended = is_last
            save()
    put_weights(network, kept.best)
    seconds = time.monotonic() - started_at
    return Fit(
        best_epoch=progress.best_epoch,
        history=progress.history,
        scores=score_solutions(network, held, machine),
        num_steps=progress.step,
        seconds=seconds,
        tokens_per_s=num_tokens / max(seconds, 1e-9),
    )


def score_solutions(network: Any, solutions: Solutions, machine: Machine) -> list[Floats]:
    """Log odds of every step of each row, not calibrated."""
    windows = [window for found in solutions.windows for window in found]
    found: list[list[Floats]] = [[] for _ in solutions.rows]
    logits = _predict(network, solutions, windows, machine)
    for window, values in zip(windows, logits, strict=True):
        found[window.row].append(values)
    return [np.concatenate(parts) for parts in found]


def measure_loss(network: Any, solutions: Solutions, machine: Machine) -> float:
    """Mean log loss (nats) of the judged steps; windows without one are not read."""
    logits = _predict(network, solutions, solutions.training, machine)
    labels = [label for window in solutions.training for label in solutions.labels_of(window)]
    is_judged = np.array([label is not None for label in labels])
    return compute_log_loss(
        np.concatenate(logits)[is_judged], np.array([bool(label) for label in labels])[is_judged]
    )


def compute_log_loss(log_odds: Floats, labels: Labels) -> float:
    """Mean log loss (nats) of log odds (n,)."""
    return float(np.logaddexp(0.0, np.where(labels, -log_odds, log_odds)).mean())


def _predict(
    network: Any, solutions: Solutions, windows: list[Window], machine: Machine
) -> list[Floats]:
    network.eval()
    return predict(
        network,
        windows,
        [solutions.facts_of(window) for window in windows],
        reading=machine.reading,
        pad_id=machine.pad_id,
        device=machine.device,
        precision=machine.precision,
    )


def _backward(network: Any, solutions: Solutions, batch: list[Window], machine: Machine) -> float:
    """Add the gradient of the mean loss over the batch's judged steps; returns that loss."""
    import torch
    from torch.nn import functional

    said = [solutions.labels_of(window) for window in batch]
    num_judged = sum(label is not None for labels in said for label in labels)
    total = 0.0
    for part in cut_windows(batch, machine.device):
        windows = [batch[place] for place in part]
        labels = [label for place in part for label in said[place]]
        logits = run_network(
            network,
            windows,
            np.concatenate([solutions.facts_of(window) for window in windows]),
            reading=machine.reading,
            pad_id=machine.pad_id,
            device=machine.device,
            precision=machine.precision,
        )
        is_judged = torch.tensor([label is not None for label in labels], device=machine.device)
        targets = torch.tensor([float(bool(label)) for label in labels], device=machine.device)
        loss = functional.binary_cross_entropy_with_logits(
            logits[is_judged], targets[is_judged], reduction="sum"
        )
        loss = loss / num_judged
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _make_optimizer(network: Any, params: StepParams) -> Any:
    rates = TransformerParams(
        lr=params.lr,
        head_lr=params.head_lr,
        layer_decay=params.layer_decay,
        weight_decay=params.weight_decay,
    )
    optimizer = make_optimizer(network["classifier"], rates)
    line = list(network["facts"].parameters())
    rate = params.head_lr
    optimizer.add_param_group({"params": line, "lr": rate, "initial_lr": rate, "weight_decay": 0.0})
    return optimizer


def _start(
    network: Any, optimizer: Any, fingerprint: str, work_dir: Path, tracker: Tracker
) -> tuple[Progress, Weights]:
    """The state to go on from: a checkpoint's, or a fresh one."""
    checkpoint = find_checkpoint(work_dir, tracker.log)
    if checkpoint is None:
        return Progress(fingerprint), Weights()
    if read_fingerprint(checkpoint.path) != fingerprint:
        tracker.log("The checkpoint is of other rows or parameters: training starts anew.")
        return Progress(fingerprint), Weights()
    found = read_state(checkpoint.path, network, optimizer, None)
    tracker.log(f"Resumed from the checkpoint of step {checkpoint.step}.")
    return found


def _tell(
    tracker: Tracker, step: int, total: int, epoch: int, params: StepParams, a_step_s: float
) -> None:
    """Report how far the run is."""
    minutes = max(1, round(a_step_s * (total - step) / 60))
    tracker.progress(
        0.02 + 0.93 * step / total,
        f"Epoch {epoch + 1} of {params.epochs}, step {step} of {total}, about {minutes} min left",
    )


def _end_epoch(
    network: Any,
    held: Solutions,
    progress: Progress,
    kept: Weights,
    params: StepParams,
    machine: Machine,
    tracker: Tracker,
    a_epoch: int,
) -> None:
    """Test on the held-out rows; keep the weights if they are the best; end if none got better."""
    epoch = progress.step // a_epoch
    loss = measure_loss(network, held, machine)
    train_loss = progress.loss_sum / max(1, progress.num_summed)
    progress.loss_sum, progress.num_summed = 0.0, 0
    entry = {"epoch": float(epoch), "train_loss": train_loss, "held_out_loss": loss}
    progress.history.append(entry)
    tracker.metrics(progress.step, {"epoch_train_loss": train_loss, "held_out_loss": loss})
    tracker.log(f"Epoch {epoch}: loss {train_loss:.4f}, on held-out prompts {loss:.4f}.")
    if loss < (math.inf if progress.best_loss is None else progress.best_loss):
        progress.best_loss, progress.best_epoch = loss, epoch
        kept.best = copy_weights(trained_weights(network))
    elif params.patience and epoch - progress.best_epoch >= params.patience:
        progress.has_ended = True
        tracker.log(f"No better epoch since {progress.best_epoch}: the run ends here.")
