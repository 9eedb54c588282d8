"""Training speed of the transformer reward model beside TRL's RewardTrainer and the textbook loop.

    python benchmarks/reward_training_speed.py [--peer ../shared/bench/peer_rm_trl.py] [--rounds 3]

Equal model (4.5 M Llama or BERT classifier with random weights), equal batch (8), pairs of the same
lengths (lognormal, 30 to 400 tokens), equal number of steps. Each loop runs in a process of its
own, one after the other, round by round; figures are medians over rounds. TRL runs as its default
(float32, no checkpointing of activations), with group_by_length, and the textbook loop in fixed
order. Peak memory is that of the whole process. The losses of 16 steps are compared with those of
the plain way: whole padded batches and TRL's formula. Prints one JSON line last.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhf_core.freed_memory import keep_freed_memory  # noqa: E402
from rlhf_core.rewards.base_model import choose_precision, float32_attention  # noqa: E402
from rlhf_core.rewards.batching import pad_rows, plan_batches  # noqa: E402
from rlhf_core.rewards.features import NUM_COUNTS  # noqa: E402
from rlhf_core.rewards.transformer_loop import Machine, backward_batch  # noqa: E402
from rlhf_core.rewards.transformer_optimizer import make_optimizer, make_step  # noqa: E402
from rlhf_core.rewards.transformer_params import TransformerParams  # noqa: E402
from rlhf_core.rewards.transformer_rows import Corpus  # noqa: E402
from rlhf_core.rewards.transformer_text import Tokens  # noqa: E402

PEER = ROOT.parent / "shared" / "bench" / "peer_rm_trl.py"
VOCABULARY, HIDDEN, LAYERS, BATCH, LR = 4_096, 256, 4, 8, 1e-4
COMPARED_STEPS = 16
WARM_UP_STEPS = 2


def draw_texts(number: int) -> tuple[list[Tokens], list[Tokens]]:
    """Both sides of pairs of random tokens, of the lengths that the peer has."""
    rng = np.random.default_rng(0)

    def draw_lengths() -> list[int]:
        found: list[int] = []
        while len(found) < number:
            drawn = rng.lognormal(np.log(90), 0.7, number).astype(int)
            found += [int(length) for length in drawn if 30 <= length <= 400]
        return found[:number]

    sides = [draw_lengths(), draw_lengths()]
    first, second = (
        [
            Tokens(rng.integers(3, VOCABULARY, length).tolist(), None, False, False)
            for length in side
        ]
        for side in sides
    )
    return first, second


def make_model(arch: str) -> Any:
    """The peer's model, with the same settings and seed."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        LlamaConfig,
        LlamaForSequenceClassification,
    )

    torch.manual_seed(0)
    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": HIDDEN // 64, "pad_token_id": 0, "max_position_embeddings": 1_024,
        "num_labels": 1,
    }  # fmt: skip
    if arch == "bert":
        config = BertConfig(
            **shared, intermediate_size=4 * HIDDEN,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        return BertForSequenceClassification(config).train()
    config = LlamaConfig(
        **shared, intermediate_size=3 * HIDDEN, num_key_value_heads=HIDDEN // 64,
        bos_token_id=1, eos_token_id=1, use_cache=False,
    )  # fmt: skip
    return LlamaForSequenceClassification(config).train()


def make_corpus(texts: list[tuple[Tokens, ...]]) -> Corpus:
    """Rows of one text (with a random target) or of two."""
    count = len(texts)
    targets = np.random.default_rng(1).random((count, 1))
    zeros, ones = np.zeros(count), np.ones(count)
    groups = [str(row) for row in range(count)]
    sides = len(texts[0])
    counts, offsets = np.zeros((count, sides, NUM_COUNTS)), np.zeros((count, sides))
    return Corpus(texts, targets, zeros, ones, groups, ("overall",), counts, offsets)


def time_ours(arch: str, pairs: int, kind: str, precision: str) -> dict[str, Any]:
    """One pass over the rows with the product's own step; `kind` is `pairs` or `samples`."""
    import torch

    first, second = draw_texts(pairs)
    texts: list[tuple[Tokens, ...]]
    texts = list(zip(first, second, strict=True)) if kind == "pairs" else [
        (text,) for text in [*first, *second]
    ]  # fmt: skip
    corpus = make_corpus(texts)
    params = TransformerParams(lr=LR, head_lr=LR, layer_decay=1.0, center_rewards=0.0)
    device = torch.device("cpu")
    machine = Machine(device, choose_precision(precision, device), 0)  # type: ignore[arg-type]
    model = make_model(arch)
    optimizer = make_optimizer(model, params)
    plan = plan_batches(corpus.lengths, BATCH, seed=0, epoch=0)
    with float32_attention(model, is_on=precision == "bf16"), keep_freed_memory():
        for places in plan[:WARM_UP_STEPS]:
            backward_batch(model, corpus.take(places), params=params, machine=machine)
        optimizer.zero_grad()
        wall, processor = time.perf_counter(), time.process_time()
        for places in plan:
            backward_batch(model, corpus.take(places), params=params, machine=machine)
            make_step(model, optimizer, None)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "rows_per_s": len(corpus) / wall,
        "rows_per_processor_s": len(corpus) / processor,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def compare_losses(arch: str) -> dict[str, float]:
    """The greatest relative difference of the loss to the plain way, over some steps."""
    import torch
    from torch.nn import functional

    corpus = make_corpus(list(zip(*draw_texts(BATCH * COMPARED_STEPS), strict=True)))
    plan = plan_batches(corpus.lengths, BATCH, seed=0, epoch=0)
    params = TransformerParams(lr=LR, head_lr=LR, layer_decay=1.0, center_rewards=0.0)
    device = torch.device("cpu")

    def run_plainly() -> list[float]:
        model = make_model(arch)
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=params.weight_decay)
        losses = []
        for places in plan:
            rows = [corpus.texts[place] for place in places]
            both = [row[side].ids for side in (0, 1) for row in rows]
            chosen, rejected = (
                model(**pad_rows(both, pad_id=0, device=device)).logits[:, 0].chunk(2)
            )
            loss = -functional.logsigmoid(chosen - rejected).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    def run_ours(precision: str) -> list[float]:
        model = make_model(arch)
        optimizer = make_optimizer(model, params)
        machine = Machine(device, choose_precision(precision, device), 0)  # type: ignore[arg-type]
        losses = []
        with float32_attention(model, is_on=precision == "bf16"):
            for places in plan:
                batch = corpus.take(places)
                losses.append(backward_batch(model, batch, params=params, machine=machine))
                make_step(model, optimizer, None)
        return losses

    plain = run_plainly()
    return {
        precision: max(abs(a - b) / a for a, b in zip(plain, run_ours(precision), strict=True))
        for precision in ("fp32", "bf16")
    }


def run_child(command: list[str]) -> dict[str, Any]:
    """The JSON line that a process prints last."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_round(arguments: argparse.Namespace) -> dict[str, float]:
    """Every loop once: rows/s and peak memory by name."""
    shape = ["--arch", arguments.arch, "--pairs", str(arguments.pairs)]
    peer = [str(arguments.peer), *shape, "--threads", str(arguments.threads),
            "--steps", str(arguments.pairs // BATCH), "--cap", "600"]  # fmt: skip
    ours = [__file__, *shape, "--threads", str(arguments.threads), "--worker"]
    found = {}
    for name, kind, precision in (
        ("ours_fp32", "pairs", "fp32"),
        ("ours_bf16", "pairs", "bf16"),
        ("ours_samples_fp32", "samples", "fp32"),
        ("ours_samples_bf16", "samples", "bf16"),
    ):
        told = run_child([*ours, kind, precision])
        found[name] = told["rows_per_s"]
        found[f"{name}_per_processor_s"] = told["rows_per_processor_s"]
        found[f"{name}_peak_mb"] = told["peak_rss_mb"]
    for name, extra in (("trl", []), ("trl_grouped", ["--group-by-length"])):
        told = run_child([*peer, "--only", "trl", *extra])
        found[name] = told["trl_pairs_per_s"]
        found[f"{name}_peak_mb"] = told["peak_rss_mb"]
        found[f"{name}_padding"] = told["trl_padding_share"]
    told = run_child([*peer, "--only", "naive"])
    found["textbook"] = told["naive_samples_per_s"]
    found["textbook_peak_mb"] = told["peak_rss_mb"]
    return found


def main() -> None:
    """Run all loops and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, default=PEER)
    parser.add_argument("--arch", choices=["llama", "bert"], default="llama")
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "PRECISION"),
                        help="one loop of our own: pairs or samples, fp32 or bf16")  # fmt: skip
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    if arguments.worker == ["compare", "losses"]:
        print(json.dumps(compare_losses(arguments.arch)))
        return
    if arguments.worker:
        print(json.dumps(time_ours(arguments.arch, arguments.pairs, *arguments.worker)))
        return
    # in a process of its own: Linux counts the peak of a parent as one of its children
    differences = run_child([__file__, "--arch", arguments.arch, "--threads",
                             str(arguments.threads), "--worker", "compare", "losses"])  # fmt: skip
    rounds = [run_round(arguments) for _ in range(arguments.rounds)]
    median = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    pairs_of = {
        "fp32 beside TRL's default": ("ours_fp32", "trl"),
        "fp32 beside TRL with group_by_length": ("ours_fp32", "trl_grouped"),
        "bf16 beside TRL with group_by_length": ("ours_bf16", "trl_grouped"),
        "fp32 beside the textbook loop": ("ours_samples_fp32", "textbook"),
        "bf16 beside the textbook loop": ("ours_samples_bf16", "textbook"),
    }
    for words, (ours, peer) in pairs_of.items():
        ratios = sorted(one[ours] / one[peer] for one in rounds)
        print(
            f"{words:<40} {median[ours]:7.1f} / {median[peer]:6.1f} rows/s = "
            f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        )
        median[f"ratio_{ours}_{peer}"] = statistics.median(ratios)
    for name in ("ours_fp32", "ours_bf16", "ours_samples_fp32", "ours_samples_bf16", "trl",
                 "trl_grouped", "textbook"):  # fmt: skip
        print(f"peak memory {name:<28} {median[f'{name}_peak_mb']:7.0f} MB")
    print(f"greatest relative difference of the loss over {COMPARED_STEPS} steps: {differences}")
    rounded = {
        name: round(value, 4 if abs(value) < 10 else 1)
        for name, value in median.items()
        if math.isfinite(value)
    }
    print(json.dumps({"arch": arguments.arch, "pairs": arguments.pairs, "threads":
                      arguments.threads, "rounds": arguments.rounds,
                      "loss_difference": differences, **rounded}))  # fmt: skip


if __name__ == "__main__":
    main()
