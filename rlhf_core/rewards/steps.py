"""A process reward model: says of each step of a solution whether it is right.

A token classifier with one separator a step, trained on step labels, on top of a line on what is
known of a step without a language model: its place, its length, and whether its arithmetic holds.
The figures of a report are of held-out prompts, which told the best epoch, the calibration and the
threshold: `examine_steps` tells what it does on a test split.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.checkpoints import remove_checkpoints
from rlhf_core.errors import InvalidInput, TrainingFailed, Unavailable
from rlhf_core.examples import SteppedCompletion
from rlhf_core.rewards import evaluate
from rlhf_core.rewards.base import Floats
from rlhf_core.rewards.base_model import (
    add_lora,
    choose_device,
    choose_precision,
    find_max_positions,
    load_base,
    load_tokenizer,
    merge_lora,
    open_base,
    set_dropout,
)
from rlhf_core.rewards.calibration import Calibration, calibrate_across_folds, fit_calibration
from rlhf_core.rewards.folds import assign_folds
from rlhf_core.rewards.logistic import one_thread
from rlhf_core.rewards.measures import measure_labelled
from rlhf_core.rewards.steps_examination import examine_steps
from rlhf_core.rewards.steps_facts import FactScale, StepLine, fit_step_line
from rlhf_core.rewards.steps_loop import Fit, Machine, compute_log_loss, fit
from rlhf_core.rewards.steps_model import (
    StepRewardModel,
    StepSpec,
    load_step_model,
    save_step_model,
)
from rlhf_core.rewards.steps_network import Reading, build_network, find_reading, silence_head
from rlhf_core.rewards.steps_params import StepParams
from rlhf_core.rewards.steps_rows import (
    RowReport,
    Solutions,
    check_rows,
    describe_rows,
    digest_rows,
    flatten,
    flatten_labels,
    hold_out,
    read_rows,
)
from rlhf_core.rewards.steps_search import (
    choose_threshold,
    compute_first_error,
    find_places,
    know_errors,
)
from rlhf_core.rewards.steps_text import Cuts, StepReader
from rlhf_core.training import Tracker, TrainReport, installed_versions, seed_everything

__all__ = [
    "StepParams",
    "StepRewardModel",
    "examine_steps",
    "load_step_model",
    "train_steps",
]


@dataclass(frozen=True)
class _Prepared:
    network: Any
    reader: StepReader
    line: StepLine
    learned: Solutions
    held: Solutions
    machine: Machine
    cuts: Cuts
    fingerprint: str


def train_steps(
    rows: Sequence[SteppedCompletion],
    *,
    params: StepParams,
    out_dir: Path,
    work_dir: Path,
    tracker: Tracker,
) -> TrainReport:
    """Train on the rows and write the model into `out_dir` (which exists).

    Checkpoints lie in `work_dir`, which this run alone uses: called again with the same rows and
    parameters, it goes on from the newest sound one, on a CPU with the same result to the bit.

    Raises NotEnoughData where there are too few solutions with judged steps; TrainingFailed where
    the rows, the base model or the disk do not allow it, or `tracker` asked to stop; InvalidInput
    for a row without steps.
    """
    kept, report = check_rows(rows)
    tracker.progress(0.0, "Opening the base model")
    try:
        prepared = _prepare(kept, params, tracker)
    except (InvalidInput, Unavailable) as error:
        raise TrainingFailed(str(error)) from error
    report = replace(report, cuts=prepared.cuts)
    _say_rows(report, prepared, params, tracker)
    found = _fit_or_fail(prepared, params, work_dir, tracker)
    tracker.progress(0.96, "Calibrating and measuring on held-out prompts")
    with one_thread():
        spec, metrics, details = _measure(found, prepared, params)
    _save_or_fail(prepared, spec, out_dir, params)
    details |= {
        "rows": asdict(report),
        "history": found.history,
        "best_epoch": found.best_epoch,
        "reading": prepared.machine.reading.value,
        "device": prepared.machine.device.type,
        "precision": prepared.machine.precision.name,
        "num_steps": found.num_steps,
        "seconds": found.seconds,
        "tokens_per_s": found.tokens_per_s,
    }
    tracker.metrics(found.num_steps, metrics)
    tracker.log(
        f"Kept epoch {found.best_epoch}. On {len(prepared.held.rows)} held-out solutions: AUC "
        f"{metrics['auc']:.3f}, log loss {metrics['log_loss']:.3f} (without the language model "
        f"{metrics['line_log_loss']:.3f}), calibration error {metrics['ece']:.3f}."
    )
    tracker.progress(1.0, "Trained")
    remove_checkpoints(work_dir)
    return TrainReport(
        artifact_dir=out_dir,
        metrics=metrics,
        params=asdict(params),
        seed=params.seed,
        num_rows=report.num_rows,
        details=details,
        library_versions=installed_versions("torch", "transformers", "peft", "numpy", "scipy"),
    )


def _prepare(rows: list[SteppedCompletion], params: StepParams, tracker: Tracker) -> _Prepared:
    """Everything that a run needs before its first step."""
    base = open_base(params.base)
    tokenizer = load_tokenizer(base)
    seed_everything(params.seed)
    device = choose_device()
    precision = choose_precision(params.precision, device)
    if precision.needs_scaler:  # the loop scales no losses
        precision = choose_precision("fp32", device)
    reader = StepReader(tokenizer, params.max_tokens)
    classifier = load_base(base, head="token", num_labels=1, seed=params.seed)
    positions = find_max_positions(classifier, tokenizer)
    if params.max_tokens > positions:
        raise InvalidInput(
            f"max_tokens {params.max_tokens}: the base model reads at most {positions} tokens; "
            "choose no more, or another base model.",
            field="max_tokens",
        )
    classifier.config.pad_token_id = tokenizer.pad_token_id
    reading = find_reading(classifier)
    silence_head(classifier)
    set_dropout(classifier, attention=0.0)
    if params.lora_rank:
        classifier = add_lora(classifier, rank=params.lora_rank, head="token", seed=params.seed)

    tracker.progress(0.01, "Reading the solutions")
    rows_learned, rows_held = hold_out(rows, percent=params.held_out_percent, seed=params.seed)
    raw = describe_rows(rows_learned)
    with one_thread():
        line = fit_step_line(flatten(raw, rows_learned), flatten_labels(rows_learned)[0])
    parts, cuts = [], Cuts()
    for part, tables in ((rows_learned, raw), (rows_held, describe_rows(rows_held))):
        facts = [line.scale.apply(table) for table in tables]
        solutions, cut = read_rows(part, facts, reader, is_forward=reading.is_forward)
        parts.append(solutions)
        cuts += cut
    seed_everything(params.seed)
    return _Prepared(
        network=build_network(classifier, line).to(device),
        reader=reader,
        line=line,
        learned=parts[0],
        held=parts[1],
        machine=Machine(device, precision, reading, int(tokenizer.pad_token_id)),
        cuts=cuts,
        fingerprint=_fingerprint(rows, params, base),
    )


def _fit_or_fail(prepared: _Prepared, params: StepParams, work_dir: Path, tracker: Tracker) -> Fit:
    """`fit`, with a sentence for what the machine refuses."""
    import torch

    try:
        return fit(
            prepared.network,
            prepared.learned,
            prepared.held,
            params=params,
            machine=prepared.machine,
            fingerprint=prepared.fingerprint,
            work_dir=work_dir,
            tracker=tracker,
        )
    except Unavailable as error:
        raise TrainingFailed(str(error)) from error
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingFailed(
            "There is not enough memory: choose a smaller batch_size or max_tokens, LoRA "
            "(lora_rank), or a smaller base model."
        ) from error


def _save_or_fail(prepared: _Prepared, spec: StepSpec, out_dir: Path, params: StepParams) -> None:
    """`save_step_model`, with a sentence for a full disk."""
    from safetensors import SafetensorError

    network = prepared.network
    network["classifier"] = merge_lora(network["classifier"])
    try:
        save_step_model(network, prepared.reader, spec, out_dir, asdict(params))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingFailed(
            f"The model could not be written to {out_dir} ({reason}): make room, then start "
            "again; the run goes on from its last checkpoint."
        ) from error


def _measure(
    found: Fit, prepared: _Prepared, params: StepParams
) -> tuple[StepSpec, dict[str, float], dict[str, Any]]:
    """Calibration, threshold, and the figures on held-out prompts."""
    rows = prepared.held.rows
    labels, of_row = flatten_labels(rows)
    log_odds = flatten(found.scores, rows)
    groups = [rows[row].group for row in of_row]
    calibration = fit_calibration(log_odds, labels)
    probabilities = [calibration.apply(of_steps) for of_steps in found.scores]
    known = know_errors(rows)
    located = [probabilities[row] for row in known.rows]
    threshold = choose_threshold(located, known, seed=params.seed) if located else 1.0
    spec = StepSpec(
        line=_read_line(prepared.network, prepared.line.scale),
        calibration=calibration,
        threshold=threshold,
        aggregate=params.aggregate,
        reading=prepared.machine.reading,
        max_tokens=params.max_tokens,
    )
    measured = measure_labelled(
        log_odds,
        labels,
        groups,
        weights=evaluate.resample_groups(groups, seed=params.seed),
        probabilities=_calibrate_apart(log_odds, labels, groups, calibration, params.seed),
    )
    metrics = dict(measured.metrics)
    if located:
        figures = compute_first_error(
            find_places(located, threshold), known, np.ones((1, len(located)))
        )
        metrics |= {name: float(values[0]) for name, values in figures.items()}
    line = flatten([prepared.line.score(table) for table in describe_rows(rows)], rows)
    metrics |= {
        "log_loss": compute_log_loss(log_odds, labels),
        "line_log_loss": compute_log_loss(line, labels),
        "threshold": threshold,
        "temperature": calibration.temperature,
    }
    details = {
        "n": len(rows),
        "num_judged_steps": len(labels),
        "num_learned": len(prepared.learned.rows),
        "num_known_errors": len(known.rows),
        "num_faultless": int(known.is_faultless.sum()),
        "calibration": asdict(calibration),
        "intervals": {name: list(bounds) for name, bounds in measured.intervals.items()},
        "baselines": measured.baselines,
    }
    return spec, metrics, details


def _calibrate_apart(
    log_odds: Floats, labels: np.typing.NDArray[np.bool_], groups: list[str],
    calibration: Calibration, seed: int,
) -> Floats:  # fmt: skip
    """P(right) by calibrations that have not seen the step's prompt, where there are enough."""
    kinds = [{group for group, label in zip(groups, labels, strict=True) if label == kind}
             for kind in (True, False)]  # fmt: skip
    if min(len(kind) for kind in kinds) < 4:
        return calibration.apply(log_odds)
    folds = assign_folds(labels, groups, num_folds=5, seed=seed)
    return calibrate_across_folds(log_odds, labels, folds)


def _read_line(network: Any, scale: FactScale) -> StepLine:
    """The line as training left it."""
    facts = network["facts"]
    coefficients: list[float] = facts.weight.detach().cpu()[0].tolist()
    return StepLine(
        scale=scale,
        coefficients=tuple(coefficients),
        intercept=float(facts.bias.detach().cpu()[0]),
    )


def _fingerprint(rows: Sequence[SteppedCompletion], params: StepParams, base: Path) -> str:
    """A hash of all that decides the result: rows, parameters, base weights, versions."""
    digest = hashlib.sha256(digest_rows(rows).encode())
    settings = {name: value for name, value in asdict(params).items() if name != "checkpoint_every"}
    versions = installed_versions("torch", "transformers")
    digest.update(json.dumps([settings, versions], sort_keys=True).encode())
    for file in sorted(base.glob("*.safetensors")):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


def _say_rows(report: RowReport, prepared: _Prepared, params: StepParams, tracker: Tracker) -> None:
    machine, cuts = prepared.machine, report.cuts
    tracker.log(
        f"{report.num_rows} solutions, {report.num_right} steps right and {report.num_wrong} "
        f"wrong; {report.num_unjudged} rows without a judged step are left out, "
        f"{report.num_empty_steps} empty steps are not learned from."
    )
    tracker.log(
        f"{cuts.num_windowed} solutions are read in several windows of {params.max_tokens} tokens; "
        f"{cuts.num_prompts} prompts and {cuts.num_steps} steps are cut in their middle."
    )
    reads = {
        Reading.CAUSAL: "which reads forward",
        Reading.BLOCKS: "with each step seeing those before it",
        Reading.WHOLE: "which reads solutions whole",
    }
    tracker.log(
        f"{len(prepared.learned.rows)} solutions to learn from, {len(prepared.held.rows)} held out "
        f"by prompt; base {params.base} ({reads[machine.reading]}) on {machine.device.type} in "
        f"{machine.precision.name}, seed {params.seed}."
    )
