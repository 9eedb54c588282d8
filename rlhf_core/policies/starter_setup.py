"""All that the making of a starter works with, made ready; and its checkpoints."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_core.checkpoints import find_checkpoint, save_checkpoint
from rlhf_core.errors import InvalidInput, TrainingFailed, Unavailable
from rlhf_core.examples import SftExample
from rlhf_core.policies.conversations import (
    Conversations,
    encode_conversations,
    keep_texts,
    split_groups,
)
from rlhf_core.policies.lean_trunk import LeanTrunk, make_lean
from rlhf_core.policies.optimizer import MasterAdamW
from rlhf_core.policies.ppo_state import read_fingerprint, read_tensors, write_state
from rlhf_core.policies.processes import Processes
from rlhf_core.policies.starter_optimizer import MasterMuon
from rlhf_core.policies.starter_params import StarterParams
from rlhf_core.policies.starter_tokenizer import train_tokenizer
from rlhf_core.pretrained import Precision, choose_device, choose_precision, quiet_transformers
from rlhf_core.training import Tracker, installed_versions, seed_everything

CHARACTERS_A_TOKEN = 3  # of long texts; fewer make more tokens, which max_tokens bounds anyway
MAX_TOKENIZER_TEXTS = 50_000
MAX_HELD_OUT = 256
NUM_SAMPLES = 4
FEW_ROWS = 50


@dataclass
class StarterProgress:
    """Where a run stands, after `step` steps. `history` has an entry an evaluation."""

    fingerprint: str
    step: int = 0
    loss: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Setup:
    """What a run works with. `num_steps` is all of its steps, `lean` a quicker way through."""

    params: StarterParams
    tracker: Tracker
    tokenizer: Any
    model: Any
    optimizer: MasterAdamW
    processes: Processes
    precision: Precision
    learned: Conversations
    held_out: Conversations
    shown: tuple[SftExample, ...]
    num_steps: int
    fingerprint: str
    lean: LeanTrunk | None


def prepare(rows: Sequence[SftExample], params: StarterParams, tracker: Tracker) -> Setup:
    """Make the tokenizer and the untrained model, and encode the rows."""
    import torch

    tracker.progress(0.0, "Making the tokenizer")
    device = choose_device()
    try:
        precision = choose_precision(params.precision, device)
    except InvalidInput as error:
        raise TrainingFailed(str(error)) from error
    found = _bound(keep_texts(rows), params)
    learned, held_out = split_groups(
        found, percent=params.held_out_percent, at_most=MAX_HELD_OUT, seed=params.seed
    )
    positions = params.prompt_tokens + params.response_tokens
    texts = [text for row in learned[:MAX_TOKENIZER_TEXTS] for text in (row.prompt, row.completion)]
    tokenizer = train_tokenizer(texts, vocab_size=params.vocab_size, positions=positions)
    limits = {
        "prompt_tokens": params.prompt_tokens,
        "response_tokens": params.response_tokens,
        "positions": positions,
    }
    encoded = encode_conversations(learned, tokenizer, **limits)
    encoded.require_some()
    judged = encode_conversations(held_out, tokenizer, **limits)
    seed_everything(params.seed)
    model = _make_model(params, tokenizer, positions).to(device=device, dtype=precision.dtype)
    hidden = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.ndim == 2 and weight is not model.get_input_embeddings().weight
    }
    optimizer = MasterMuon(
        hidden,
        {name: weight for name, weight in model.named_parameters() if name not in hidden},
        matrix_lr=params.matrix_lr,
        lr=params.lr,
        weight_decay=params.weight_decay,
        dtype=precision.dtype if precision.name == "bf16" else torch.float32,
        scaler=torch.amp.GradScaler(device.type) if precision.needs_scaler else None,
    )
    num_steps = _count_steps(encoded, params)
    num_weights = sum(weight.numel() for weight in model.parameters())
    tracker.log(
        f"{len(encoded)} interactions, {encoded.num_tokens:,} tokens of {len(tokenizer):,} kinds"
        f"{_left_out(encoded)}; {num_weights:,} weights on {device.type} in {precision.name}, "
        f"{num_steps} steps, seed {params.seed}."
    )
    if len(encoded) < FEW_ROWS:
        tracker.log(
            f"{len(encoded)} interactions teach no language: expect broken answers, collect more, "
            "or start from a pretrained model."
        )
    return Setup(
        params=params,
        tracker=tracker,
        tokenizer=tokenizer,
        model=model,
        optimizer=optimizer,
        processes=Processes(0, 1, device),
        precision=precision,
        learned=encoded,
        held_out=judged,
        shown=tuple((held_out or learned)[:NUM_SAMPLES]),
        num_steps=num_steps,
        fingerprint=_fingerprint(encoded, judged, params, precision),
        lean=make_lean(model.base_model) if device.type == "cpu" else None,
    )


def _bound(rows: list[SftExample], params: StarterParams) -> list[SftExample]:
    """The rows; where even once through is more than max_tokens, a part of them by the seed."""
    total = sum(len(row.prompt) + len(row.completion) for row in rows)
    share = params.max_tokens * CHARACTERS_A_TOKEN / max(1, total)
    if share >= 1.0:
        return rows
    places = np.random.default_rng([params.seed, 2]).permutation(len(rows))
    return [rows[place] for place in sorted(places[: max(1, round(share * len(rows)))].tolist())]


def _count_steps(rows: Conversations, params: StarterParams) -> int:
    epochs = min(params.epochs, params.max_tokens / rows.num_tokens)
    return max(1, round(epochs * math.ceil(len(rows) / params.batch_size)))


def _left_out(rows: Conversations) -> str:
    """What a reader should know of the rows that did not fit."""
    told = [
        f"{rows.num_too_long} prompts too long and left out" if rows.num_too_long else "",
        f"{rows.num_cut} completions cut" if rows.num_cut else "",
    ]
    return "".join(f", {one}" for one in told if one)


def _make_model(params: StarterParams, tokenizer: Any, positions: int) -> Any:
    """A fresh Llama of the asked size, without dropout."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=params.hidden_size,
        intermediate_size=_round_up(params.hidden_size * 8 // 3, 32),
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        num_key_value_heads=params.heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with quiet_transformers():
        model = LlamaForCausalLM(config)
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data.zero_()  # each layer begins as if it were not there: learns much sooner
    return model


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def _fingerprint(
    learned: Conversations,
    held_out: Conversations,
    params: StarterParams,
    precision: Precision,
) -> str:
    """A hash of all that decides the result."""
    settings = {name: value for name, value in asdict(params).items() if name != "checkpoint_every"}
    versions = installed_versions("torch", "transformers", "tokenizers")
    parts = [learned.digest(), held_out.digest(), settings, precision.name, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def open_run(setup: Setup, work_dir: Path) -> StarterProgress:
    """The state to go on from: the newest sound checkpoint's of this run, or a fresh one."""
    log = setup.tracker.log
    checkpoint = find_checkpoint(work_dir, log)
    if checkpoint is None:
        return StarterProgress(setup.fingerprint)
    if read_fingerprint(checkpoint.path) != setup.fingerprint:
        log("The checkpoint is of other interactions or parameters: training starts anew.")
        return StarterProgress(setup.fingerprint)
    log(f"Resumed from the checkpoint of step {checkpoint.step}.")
    return StarterProgress(**read_tensors(checkpoint.path, setup.optimizer))


def keep(setup: Setup, progress: StarterProgress, work_dir: Path) -> None:
    try:
        save_checkpoint(
            work_dir, progress.step, lambda path: write_state(path, progress, setup.optimizer)
        )
    except Unavailable as error:
        raise TrainingFailed(str(error)) from error
