"""The training loop: length-grouped batches, early stop, averaged weights, exact resumption.

The loss of a batch is that of TRL's trainer or of plain regression; what differs is that next to
nothing of what is computed is padding. On a CPU the same rows, parameters and number of threads
give the same weights to the bit, killed and resumed or not.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlhf_core.checkpoints import find_checkpoint, save_checkpoint
from rlhf_core.errors import TrainingFailed
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.base_model import Precision
from rlhf_core.rewards.batching import part_cost_of, plan_batches, split_by_length
from rlhf_core.rewards.transformer_loss import preference_losses, regression_losses
from rlhf_core.rewards.transformer_model import predict, run_forward
from rlhf_core.rewards.transformer_optimizer import make_optimizer, make_step, rate_factor
from rlhf_core.rewards.transformer_packed import can_pack, forward_packed
from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_report import held_out_loss
from rlhf_core.rewards.transformer_rows import Corpus
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
from rlhf_core.rewards.transformer_text import Tokens
from rlhf_core.training import Tracker

if TYPE_CHECKING:
    import torch

LOG_EVERY = 10
NUM_AVERAGED = 50  # about so many weights enter the average
TOKENS_AT_ONCE_CPU = 4_096  # more are no quicker, and take more memory
TOKENS_AT_ONCE_GPU = 65_536


@dataclass(frozen=True)
class Machine:
    """Where and how precisely the model computes; `pad_id` is its padding token."""

    device: "torch.device"
    precision: Precision
    pad_id: int


@dataclass(frozen=True)
class Fit:
    """What a run found: the model holds the weights of `chosen`.

    `logits` (held out, texts a row, heads) are of the held-out rows; `seconds` and `tokens_per_s`
    of this process alone.
    """

    chosen: str
    history: list[dict[str, float]]
    held_out_loss: float
    logits: Floats
    num_steps: int
    tokens_per_s: float
    seconds: float


def fit(
    model: Any,
    learned: Corpus,
    held: Corpus,
    *,
    params: TransformerParams,
    machine: Machine,
    fingerprint: str,
    work_dir: Path,
    tracker: Tracker,
) -> Fit:
    """Train the model (on its device) on `learned`; `held` tells the best epoch.

    Targets are as the heads should say them. Goes on from the newest sound checkpoint in
    `work_dir` that has this `fingerprint`. Raises TrainingFailed where `tracker` asks to stop
    (after a checkpoint) or the loss is no number, Unavailable where no checkpoint can be written.
    """
    import torch

    started_at = time.monotonic()
    optimizer = make_optimizer(model, params)
    scaler = torch.amp.GradScaler(machine.device.type) if machine.precision.needs_scaler else None
    progress, kept = _start(model, optimizer, scaler, fingerprint, work_dir, tracker)
    a_epoch = -(-len(learned) // params.batch_size)
    total = a_epoch * params.epochs
    first_step, num_tokens = progress.step, 0

    def save() -> None:
        save_checkpoint(
            work_dir,
            progress.step,
            lambda path: write_state(path, progress, kept, model, optimizer, scaler),
        )

    while progress.step < total and not progress.has_ended:
        epoch, place = divmod(progress.step, a_epoch)
        if place == 0 or progress.step == first_step:
            plan = plan_batches(
                learned.lengths,
                params.batch_size,
                seed=params.seed,
                epoch=epoch,
                by_length=params.by_length,
            )
        rate = rate_factor(progress.step, total, params.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
        model.train()
        batch = learned.take(plan[place])
        loss = backward_batch(model, batch, params=params, machine=machine, scaler=scaler)
        norm = make_step(model, optimizer, scaler)
        progress.step += 1
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"The loss was no number any more at step {progress.step}: choose a lower lr "
                f"(now {params.lr:g}), or precision fp32."
            )
        progress.loss_sum += loss
        progress.num_summed += 1
        num_tokens += sum(len(text.ids) for row in batch.texts for text in row)
        _average(model, kept, progress, total, params)
        if progress.step % LOG_EVERY == 0 or progress.step == total:
            seconds = time.monotonic() - started_at
            _tell(tracker, progress, total, first_step, a_epoch, seconds, loss, norm, rate, params)
        if progress.step % a_epoch == 0:
            _end_epoch(model, held, progress, kept, params, machine, tracker, a_epoch)
        if tracker.should_stop():
            save()
            raise TrainingFailed(
                f"Stopped on request after step {progress.step} of {total}; its checkpoint is kept."
            )
        is_last = progress.has_ended or progress.step == total
        if is_last or progress.step % params.checkpoint_every == 0:
            progress.has_ended = is_last
            save()
    seconds = time.monotonic() - started_at
    chosen, loss, logits = _choose_best(model, held, progress, kept, machine)
    return Fit(
        chosen=chosen,
        history=progress.history,
        held_out_loss=loss,
        logits=logits,
        num_steps=progress.step,
        tokens_per_s=num_tokens / max(seconds, 1e-9),
        seconds=seconds,
    )


def backward_batch(
    model: Any,
    batch: Corpus,
    *,
    params: TransformerParams,
    machine: Machine,
    scaler: Any = None,
) -> float:
    """Add the gradient of the mean loss of the batch to the model's; returns that loss.

    A large batch runs in parts; sums over parts divided by the batch's rows make the gradient the
    one of the whole batch (dropout draws differ).
    """
    limit = TOKENS_AT_ONCE_CPU if machine.device.type == "cpu" else TOKENS_AT_ONCE_GPU
    total = 0.0
    for part in _cut_rows(batch, limit, machine, is_packed=_can_pack(model, machine)):
        loss = _loss_of(model, batch.take(part), params, machine) / len(batch)
        (loss if scaler is None else scaler.scale(loss)).backward()
        total += float(loss.detach())
    return total


def _cut_rows(batch: Corpus, limit: int, machine: Machine, *, is_packed: bool) -> list[list[int]]:
    """Rows that run forward and backward at once. Both sides of a pair must be known together."""
    cost = limit if is_packed or batch.has_pairs else part_cost_of(machine.device)
    sides = 2 if batch.has_pairs else 1
    return split_by_length(batch.lengths, part_cost=cost, max_tokens=max(1, limit // sides))


def _can_pack(model: Any, machine: Machine) -> bool:
    return machine.device.type == "cpu" and can_pack(model)


def _loss_of(
    model: Any, part: Corpus, params: TransformerParams, machine: Machine
) -> "torch.Tensor":
    """The sum of the rows' weighted losses."""
    import torch

    def on_device(table: Floats) -> "torch.Tensor":
        return torch.tensor(table, dtype=torch.float32, device=machine.device)

    logits = _run_texts(model, [text for row in part.texts for text in row], machine)
    ground = on_device(part.offsets.reshape(-1))
    logits = torch.cat([logits[:, :1] + ground[:, None], logits[:, 1:]], dim=1)
    if part.has_pairs:
        losses = preference_losses(
            logits[0::2, 0],
            logits[1::2, 0],
            margins=on_device(params.margin_weight * part.margins),
            center=params.center_rewards,
        )
    else:
        num_aspects = len(part.heads) - 1
        head_weights = [1.0] + [params.aspect_weight / max(1, num_aspects)] * num_aspects
        losses = regression_losses(
            logits, on_device(part.targets), head_weights=on_device(np.array(head_weights))
        )
    return losses @ on_device(part.weights)


def _run_texts(model: Any, texts: list[Tokens], machine: Machine) -> "torch.Tensor":
    """The logits (n, heads) of texts, in their order: packed, or in parts of like length."""
    import torch

    if _can_pack(model, machine):
        with machine.precision.autocast(machine.device):
            return forward_packed(model, texts, machine.device).float()
    cut = split_by_length([len(text.ids) for text in texts], part_cost=part_cost_of(machine.device))
    with machine.precision.autocast(machine.device):
        found = [
            run_forward(model, [texts[place] for place in places], machine.pad_id, machine.device)
            for places in cut
        ]
    back = torch.tensor(np.argsort([place for places in cut for place in places]))
    return torch.cat(found).float()[back.to(machine.device)]


def predict_rows(model: Any, corpus: Corpus, machine: Machine) -> Floats:
    """The logits of the rows' texts: (n, 1 or 2, heads)."""
    texts = [text for row in corpus.texts for text in row]
    model.eval()
    found = predict(
        model, texts, pad_id=machine.pad_id, device=machine.device, precision=machine.precision
    )
    logits = found.reshape(len(corpus), -1, found.shape[1])
    logits[:, :, 0] += corpus.offsets
    return logits


def standardise(corpus: Corpus, centers: Sequence[float], scales: Sequence[float]) -> Corpus:
    """The rows with targets and offsets as the heads should say them, in units of `scales`."""
    if corpus.has_pairs:
        return corpus
    return replace(
        corpus,
        targets=(corpus.targets - np.array(centers)) / np.array(scales),
        offsets=corpus.offsets / scales[0],
    )


def _start(
    model: Any, optimizer: Any, scaler: Any, fingerprint: str, work_dir: Path, tracker: Tracker
) -> tuple[Progress, Weights]:
    """The state to go on from: a checkpoint's, or a fresh one."""
    checkpoint = find_checkpoint(work_dir, tracker.log)
    if checkpoint is None:
        return Progress(fingerprint), Weights()
    if read_fingerprint(checkpoint.path) != fingerprint:
        tracker.log("The checkpoint is of other rows or parameters: training starts anew.")
        return Progress(fingerprint), Weights()
    found = read_state(checkpoint.path, model, optimizer, scaler)
    tracker.log(f"Resumed from the checkpoint of step {checkpoint.step}.")
    return found


def _average(
    model: Any, kept: Weights, progress: Progress, total: int, params: TransformerParams
) -> None:
    """Add the weights to the sums, now and then in the last part of the run."""
    begin = params.average_from * total
    every = max(1, round((total - begin) / NUM_AVERAGED))
    if params.average_from >= 1.0 or progress.step <= begin or progress.step % every:
        return
    if not kept.sums:
        kept.sums = copy_weights(trained_weights(model))
    else:
        for name, value in trained_weights(model).items():
            kept.sums[name] += value.detach()
    progress.num_averaged += 1


def _tell(
    tracker: Tracker,
    progress: Progress,
    total: int,
    first_step: int,
    a_epoch: int,
    seconds: float,
    loss: float,
    norm: float,
    rate: float,
    params: TransformerParams,
) -> None:
    """Report a step."""
    left_s = seconds / (progress.step - first_step) * (total - progress.step)
    epoch = (progress.step - 1) // a_epoch + 1
    tracker.progress(
        0.02 + 0.93 * progress.step / total,
        f"Epoch {epoch} of {params.epochs}, step {progress.step} of {total}, "
        f"about {max(1, round(left_s / 60))} min left",
    )
    tracker.metrics(
        progress.step, {"loss": loss, "gradient_norm": norm, "learning_rate": params.lr * rate}
    )


def _end_epoch(
    model: Any,
    held: Corpus,
    progress: Progress,
    kept: Weights,
    params: TransformerParams,
    machine: Machine,
    tracker: Tracker,
    a_epoch: int,
) -> None:
    """Test on the held-out rows; keep the weights if they are the best; end if none got better."""
    epoch = progress.step // a_epoch
    loss = held_out_loss(predict_rows(model, held, machine), held)
    train_loss = progress.loss_sum / max(1, progress.num_summed)
    progress.loss_sum, progress.num_summed = 0.0, 0
    progress.history.append(
        {"epoch": float(epoch), "train_loss": train_loss, "held_out_loss": loss}
    )
    tracker.metrics(progress.step, {"epoch_train_loss": train_loss, "held_out_loss": loss})
    tracker.log(f"Epoch {epoch}: loss {train_loss:.4f}, on held-out prompts {loss:.4f}.")
    if progress.best_loss is None or loss <= progress.best_loss:
        progress.best_loss, progress.best_epoch = loss, epoch
        kept.best = copy_weights(trained_weights(model))
    elif params.patience and epoch - progress.best_epoch >= params.patience:
        progress.has_ended = True
        tracker.log(f"No better epoch since {progress.best_epoch}: the run ends here.")


def _choose_best(
    model: Any, held: Corpus, progress: Progress, kept: Weights, machine: Machine
) -> tuple[str, float, Floats]:
    """Put the better of best epoch and average into the model: (which, held-out loss, logits)."""
    candidates = {f"epoch {progress.best_epoch}": kept.best}
    if progress.num_averaged > 1:
        count = progress.num_averaged
        candidates["average"] = {name: value / count for name, value in kept.sums.items()}
    tested = {}
    for name, weights in candidates.items():
        put_weights(model, weights)
        logits = predict_rows(model, held, machine)
        tested[name] = (held_out_loss(logits, held), logits)
    chosen = min(tested, key=lambda name: tested[name][0])
    put_weights(model, candidates[chosen])
    return chosen, *tested[chosen]
