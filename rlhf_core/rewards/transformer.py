"""A reward model that reads prompt and completion together: a fine-tuned transformer.

It learns ratings and thumbs by regression, or pairs by Bradley-Terry, from any base model that
transformers can put a classifier's head on: the bundled MiniLM, a folder, or a hub id; all weights
or LoRA adapters, which are merged into the weights in the end. Its figures are of held-out
prompts, which told the best epoch and the calibration: `examination.examine` tells what it does
on a test split.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.checkpoints import is_disk_error, remove_checkpoints
from rlhf_core.errors import InvalidInput, TrainingFailed, Unavailable
from rlhf_core.examples import PreferencePair, ScoredCompletion, UnpairedPreference
from rlhf_core.freed_memory import keep_freed_memory
from rlhf_core.rewards.base_model import (
    add_lora,
    choose_device,
    choose_precision,
    find_max_positions,
    float32_attention,
    load_base,
    load_tokenizer,
    merge_lora,
    open_base,
    set_dropout,
)
from rlhf_core.rewards.transformer_loop import Fit, Machine, fit, standardise
from rlhf_core.rewards.transformer_manner import fit_manner, put_offsets
from rlhf_core.rewards.transformer_model import (
    TransformerRewardModel,
    TransformerSpec,
    load_transformer,
    save_transformer,
)
from rlhf_core.rewards.transformer_params import TransformerParams
from rlhf_core.rewards.transformer_report import calibrate, measure_held_out
from rlhf_core.rewards.transformer_rows import (
    Corpus,
    Row,
    RowReport,
    build_corpus,
    check_rows,
    drop_ties,
    hold_out,
)
from rlhf_core.rewards.transformer_text import TextEncoder
from rlhf_core.training import Tracker, TrainReport, installed_versions, seed_everything

__all__ = [
    "TransformerParams",
    "TransformerRewardModel",
    "load_transformer",
    "train_transformer",
]


def train_transformer(
    rows: Sequence[ScoredCompletion | UnpairedPreference] | Sequence[PreferencePair],
    *,
    params: TransformerParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train on the rows and write the model into `out_dir` (which exists).

    Checkpoints lie in `work_dir`, which this run alone uses: called again with the same rows and
    parameters, it goes on from the newest sound one, on a CPU with the same result to the bit.

    Raises NotEnoughData where there are too few rows; TrainingFailed where the rows, the base
    model or the disk do not allow it, or `tracker` asked to stop; InvalidInput for a row without
    text.
    """
    decided = drop_ties(rows, tracker)
    check_rows(decided, params)
    tracker.progress(0.0, "Opening the base model")
    start = _prepare(decided, params, tracker)
    corpus, machine = start.corpus, start.machine
    learned, held = hold_out(corpus, params)
    centers, scales = _scale_of(learned)
    manner = None
    if params.manner:
        manner, learned = fit_manner(learned, params.seed)
        held = put_offsets(held, manner)
    tracker.log(
        f"{len(learned)} rows to learn from, {len(held)} held out by prompt; base {params.base} "
        f"on {machine.device.type} in {machine.precision.name}, seed {params.seed}."
    )
    found = _fit_or_fail(
        start.model,
        standardise(learned, centers, scales),
        standardise(held, centers, scales),
        params=params,
        machine=machine,
        fingerprint=_fingerprint(corpus, params, start.base),
        work_dir=work_dir,
        tracker=tracker,
    )
    tracker.progress(0.96, "Calibrating and measuring on held-out prompts")
    offset = 0.0 if corpus.has_pairs else params.threshold  # good is above 0
    logits = found.logits * np.array(scales) + np.array(centers) - offset
    spec = TransformerSpec(
        objective="preference" if corpus.has_pairs else "regression",
        heads=corpus.heads,
        calibrations=calibrate(logits, held, params.threshold),
        centers=tuple(center - offset for center in centers),
        scales=scales,
        max_tokens=params.max_tokens,
        threshold=params.threshold,
        manner=manner,
    )
    _save_or_fail(start, spec, out_dir, params)
    metrics, details = measure_held_out(logits, held, learned, params)
    metrics |= {"num_dropped_too_long": float(start.report.num_dropped)}
    details |= {
        "rows": asdict(start.report),
        "heads": list(corpus.heads),
        "device": machine.device.type,
        "precision": machine.precision.name,
        "peak_memory_mb": _peak_memory_mb(),
    }
    for name in ("history", "chosen", "num_steps", "seconds", "tokens_per_s"):
        details[name] = getattr(found, name)
    _say_end(tracker, metrics, found, len(held))
    remove_checkpoints(work_dir)
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics,
        params=asdict(params),
        seed=params.seed,
        num_rows=len(corpus),
        details=details,
        library_versions=installed_versions("torch", "transformers", "peft", "numpy", "scipy"),
    )


@dataclass(frozen=True)
class _Start:
    """What a run begins with: the base's folder, the model on its device, the rows in tokens."""

    base: Path
    model: Any
    encoder: TextEncoder
    machine: Machine
    corpus: Corpus
    report: RowReport


def _prepare(rows: Sequence[Row], params: TransformerParams, tracker: Tracker) -> _Start:
    """Open the base model and turn the rows into tokens."""
    try:
        base = open_base(params.base)
        tokenizer = load_tokenizer(base)
        seed_everything(params.seed)
        device = choose_device()
        precision = choose_precision(params.precision, device)
        encoder = TextEncoder(tokenizer, params.max_tokens)
        corpus, report = build_corpus(rows, encoder, params, tracker)
        model = load_base(base, num_labels=len(corpus.heads), seed=params.seed)
    except (InvalidInput, Unavailable) as error:
        if isinstance(error, InvalidInput) and error.field not in (None, "base"):
            raise
        raise TrainingFailed(str(error)) from error
    positions = find_max_positions(model, tokenizer)
    if params.max_tokens > positions:
        raise TrainingFailed(
            f"max_tokens {params.max_tokens}: the base model reads at most {positions} tokens; "
            "choose no more, or another base model."
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    set_dropout(model, hidden=params.hidden_dropout, attention=0.0)
    if params.lora_rank:
        model = add_lora(model, rank=params.lora_rank, head="sequence", seed=params.seed)
    machine = Machine(device, precision, tokenizer.pad_token_id)
    return _Start(base, model.to(device), encoder, machine, corpus, report)


def _save_or_fail(
    start: _Start, spec: TransformerSpec, out_dir: Path, params: TransformerParams
) -> None:
    try:
        save_transformer(merge_lora(start.model), start.encoder, spec, out_dir, asdict(params))
    except Exception as error:
        if not is_disk_error(error):
            raise
        raise TrainingFailed(
            f"The model could not be written to {out_dir} ({error}): make room, then start again; "
            "the run goes on from its last checkpoint."
        ) from error


def _fit_or_fail(model: Any, learned: Corpus, held: Corpus, **options: Any) -> Fit:
    """`fit`, with a sentence for what the machine refuses."""
    import torch

    machine: Machine = options["machine"]
    is_slow = machine.device.type == "cpu" and machine.precision.dtype != torch.float32
    try:
        with float32_attention(model, is_on=is_slow), keep_freed_memory():
            return fit(model, learned, held, **options)
    except Unavailable as error:
        raise TrainingFailed(str(error)) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingFailed(
            "There is not enough memory: choose a smaller batch_size or max_tokens, LoRA "
            "(lora_rank), or a smaller base model."
        ) from error


def _scale_of(learned: Corpus) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weighted mean and standard deviation of each head's ratings; 0 and 1 of pairs."""
    if learned.has_pairs:
        return (0.0,), (1.0,)
    centers, scales = [], []
    for column in learned.targets.T:
        known = ~np.isnan(column)
        values, weights = column[known], learned.weights[known]
        if not known.any():  # all its rows are held out
            values, weights = np.array([3.0]), np.array([1.0])
        center = float(np.average(values, weights=weights))
        spread = float(np.sqrt(np.average((values - center) ** 2, weights=weights)))
        centers.append(center)
        scales.append(spread if spread > 1e-6 else 1.0)
    return tuple(centers), tuple(scales)


def _fingerprint(corpus: Corpus, params: TransformerParams, base: Path) -> str:
    """A hash of all that decides the result: rows, parameters, base weights, versions."""
    digest = hashlib.sha256(corpus.digest().encode())
    settings = {name: value for name, value in asdict(params).items() if name != "checkpoint_every"}
    versions = installed_versions("torch", "transformers")
    digest.update(json.dumps([settings, versions], sort_keys=True).encode())
    for file in sorted(base.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _say_end(tracker: Tracker, metrics: dict[str, float], found: Fit, num_held: int) -> None:
    names = {"auc": "AUC", "spearman": "Spearman", "pair_accuracy": "accuracy", "ece": "ECE"}
    figures = ", ".join(
        f"{words} {metrics[name]:.3f}" for name, words in names.items() if name in metrics
    )
    tracker.log(f"Kept the weights of {found.chosen}. On {num_held} held-out rows: {figures}.")
    tracker.progress(1.0, "Trained")


def _peak_memory_mb() -> float:
    """The most memory this process ever held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
