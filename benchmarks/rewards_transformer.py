"""The transformer reward model on real feedback: one stratified split by prompt, 70 % to train.

    python benchmarks/rewards_transformer.py [--data cohere_hf|hh|pandalm|tulu1] [--seed 0]

`cohere_hf`: regression on mean ratings, good is 4 or more; error flags are heads of their own.
Answers to other prompts (the raters' attention checks) are left out; `--checks` learns from them
too. `hh`, `pandalm`, `tulu1`: preference pairs. Intervals (95 %) are a bootstrap by prompt; beside
the model stands what lengths alone can do, learned on the same rows. Options `--set lr=2e-5` change
the learner's parameters. Prints one JSON line last.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from _public_sets import DATA, read_cohere, read_pairs  # noqa: E402

from rlhf_core.examples import PreferencePair, ScoredCompletion  # noqa: E402
from rlhf_core.feedback.drafts import prompt_hash  # noqa: E402
from rlhf_core.rewards import evaluate  # noqa: E402
from rlhf_core.rewards.base import Floats, RewardModel  # noqa: E402
from rlhf_core.rewards.logistic import balance_weights, fit_line, turn_to_axes  # noqa: E402
from rlhf_core.rewards.transformer import (  # noqa: E402
    TransformerParams,
    load_transformer,
    train_transformer,
)
from rlhf_core.training import NoOpTracker  # noqa: E402

TEST_SHARE = 0.3
LENGTH_C = 1.0


class Printer(NoOpTracker):
    """Prints what a run logs, and now and then how far it is."""

    def __init__(self) -> None:
        self.told_at = 0.0

    def log(self, text: str) -> None:
        """Print the line."""
        print(f"  {text}", flush=True)

    def progress(self, fraction: float, message: str = "") -> None:
        """Print every half minute."""
        if time.monotonic() - self.told_at > 30:
            self.told_at = time.monotonic()
            print(f"  {fraction:4.0%} {message}", flush=True)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def read_aspects_and_checks() -> tuple[dict[str, dict[str, float]], list[ScoredCompletion]]:
    """Of cohere_hf: what raters flagged, as aspects 1..5 by response; their attention checks."""
    said: dict[str, list[int]] = defaultdict(list)
    flags: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for rating in read_lines(DATA / "cohere_hf" / "ratings.jsonl"):
        said[rating["response_id"]].append(rating["rating"])
        for name, is_flagged in (rating["flags"] or {}).items():
            flags[rating["response_id"]][name].append(bool(is_flagged))
    aspects = {
        response: {f"no_{name}": 5.0 - 4.0 * statistics.mean(one) for name, one in found.items()}
        for response, found in flags.items()
    }
    checks = [
        ScoredCompletion(
            prompt=response["prompt"],
            completion=response["response"],
            score=statistics.mean(said[response["response_id"]]),
            num_ratings=len(said[response["response_id"]]),
            group=prompt_hash(response["prompt"]),
            interaction_id=response["response_id"],
        )
        for response in read_lines(DATA / "cohere_hf" / "responses.jsonl")
        if response["is_attention_check"] and response["response_id"] in said
    ]
    return aspects, [row for row in checks if row.completion.strip()]


def split(rows: list[Any], seed: int) -> tuple[list[int], list[int]]:
    """(train, test) places; no prompt in both, and both alike in the mean rating of their prompts.

    Of prompts in the order of their mean rating, every so manieth is drawn for the test.
    """
    said: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        said[row.group].append(getattr(row, "score", 0.0))
    rng = np.random.default_rng(seed)
    names = np.array(sorted(said))[rng.permutation(len(said))]
    level = np.array([statistics.mean(said[name]) for name in names])
    names = names[np.argsort(level, kind="stable")]
    step = 1 / TEST_SHARE
    places = (rng.random() * step + step * np.arange(int(len(names) / step))).astype(int)
    tested = set(names[np.minimum(places, len(names) - 1)])
    return (
        [place for place, row in enumerate(rows) if row.group not in tested],
        [place for place, row in enumerate(rows) if row.group in tested],
    )


def count_lengths(prompts: list[str], sides: list[str]) -> Floats:
    """Logs of both lengths, their squares and their product: (n, 5)."""
    logs = [(len(prompt), len(side)) for prompt, side in zip(prompts, sides, strict=True)]
    unit = (np.log1p(np.array(logs, dtype=np.float64)) - 5.5) / 1.5
    return np.hstack([unit, unit**2, unit[:, :1] * unit[:, 1:]])


def measure_cohere(
    model: RewardModel, train: list[ScoredCompletion], test: list[ScoredCompletion]
) -> dict[str, Any]:
    """Figures on the test rows, and of lengths alone."""
    prompts, sides = [row.prompt for row in test], [row.completion for row in test]
    probabilities = model.score(prompts, sides)
    ratings = np.array([row.score for row in test])
    labels = ratings >= 4.0
    trained = [row.score >= 4.0 for row in train]
    texts = [row.prompt for row in train], [row.completion for row in train]
    basis = turn_to_axes(count_lengths(*texts))
    weights = balance_weights(np.array(trained), np.sqrt([float(row.num_ratings) for row in train]))
    line = fit_line(
        basis, np.arange(len(train)), np.array(trained), weights, regularisation=LENGTH_C
    )
    by_length = count_lengths(prompts, sides) @ basis.axes @ line.coefficients
    drawn = evaluate.resample_groups([row.group for row in test], seed=0)
    found = {
        "auc": lambda w: evaluate.compute_auc(probabilities, labels, w),
        "length_only_auc": lambda w: evaluate.compute_auc(by_length, labels, w),
        "spearman": lambda w: evaluate.compute_spearman(probabilities, ratings, w),
        "length_only_spearman": lambda w: evaluate.compute_spearman(by_length, ratings, w),
        "accuracy": lambda w: evaluate.compute_accuracy(probabilities, labels, w),
        "brier": lambda w: evaluate.compute_brier(probabilities, labels, w),
        "ece": lambda w: evaluate.compute_ece(probabilities, labels, w),
    }
    order = evaluate.count_ordered_pairs(probabilities, ratings, [row.group for row in test])
    result = _measure(found, drawn)
    share = float(labels.mean())
    result["majority_accuracy"] = round(max(share, 1 - share), 4)
    result["pair_accuracy"] = round(order.num_right / order.num_pairs, 4)
    return result


def measure_pairs(
    model: RewardModel, train: list[PreferencePair], test: list[PreferencePair]
) -> dict[str, Any]:
    """Figures on the test pairs, and of lengths alone."""
    prompts = [row.prompt for row in test]
    logits = [
        _log_odds(model.score(prompts, sides))
        for sides in ([row.chosen for row in test], [row.rejected for row in test])
    ]
    gaps = logits[0] - logits[1]
    hits = np.where(gaps == 0, 0.5, gaps > 0)

    def gaps_of(rows: list[PreferencePair]) -> Floats:
        asked = [row.prompt for row in rows]
        sides = [row.chosen for row in rows], [row.rejected for row in rows]
        first, second = (count_lengths(asked, side) for side in sides)
        return first - second

    turned = np.vstack([gaps_of(train), -gaps_of(train)])
    labels = np.arange(len(turned)) < len(train)
    basis = turn_to_axes(turned)
    line = fit_line(
        basis, np.arange(len(turned)), labels, np.ones(len(turned)), regularisation=LENGTH_C
    )
    by_length = gaps_of(test) @ basis.axes @ line.coefficients
    length_hits = np.where(by_length == 0, 0.5, by_length > 0)
    seen = 1.0 / (1.0 + np.exp(-np.concatenate([gaps, -gaps])))  # each pair from both sides
    labels = np.repeat([True, False], len(gaps))
    found = {
        "pair_accuracy": lambda w: (w @ hits) / w.sum(axis=1),
        "length_only_pair_accuracy": lambda w: (w @ length_hits) / w.sum(axis=1),
        "brier": lambda w: evaluate.compute_brier(seen, labels, np.tile(w, 2)),
        "ece": lambda w: evaluate.compute_ece(seen, labels, np.tile(w, 2)),
    }
    return _measure(found, evaluate.resample_groups([row.group for row in test], seed=0))


def _measure(found: dict[str, Callable[[Floats], Floats]], drawn: Floats) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, statistic in found.items():
        value, interval = evaluate.measure(statistic, drawn)
        result[name] = round(value, 4)
        result[f"{name}_interval"] = [round(bound, 4) for bound in interval or ()]
    return result


def _log_odds(probabilities: Floats) -> Floats:
    kept = np.clip(probabilities, 1e-12, 1 - 1e-12)
    odds: Floats = np.log(kept / (1 - kept))
    return odds


def read_options(given: list[str]) -> dict[str, Any]:
    """`name=value` texts as parameters of the learner."""
    kinds = {field.name: type(field.default) for field in fields(TransformerParams)}
    found: dict[str, Any] = {}
    for text in given:
        name, value = text.split("=", 1)
        kind = kinds[name]
        found[name] = value == "True" if kind is bool else float(value) if (
            kind is type(None)
        ) else kind(value)  # fmt: skip
    return found


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["cohere_hf", "hh", "pandalm", "tulu1"],
                        default="cohere_hf")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--checks", action="store_true", help="learn from attention checks too")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        import torch

        torch.set_num_threads(arguments.threads)
    rows: list[Any]
    extra: list[ScoredCompletion] = []
    if arguments.data == "cohere_hf":
        aspects, extra = read_aspects_and_checks()
        rows = [replace(row, aspects=aspects.get(row.interaction_id, {})) for row in read_cohere()]
    else:
        rows = list(
            read_pairs("hh_rlhf_harmless_test" if arguments.data == "hh" else arguments.data)
        )
    learned, tested = split(rows, arguments.seed)
    train, test = [rows[place] for place in learned], [rows[place] for place in tested]
    if arguments.checks:
        groups = {row.group for row in test}
        train += [row for row in extra if row.group not in groups]
    params = TransformerParams(seed=arguments.seed, **read_options(arguments.set))
    print(f"{arguments.data}: {len(train)} rows to train, {len(test)} to test", flush=True)
    with tempfile.TemporaryDirectory() as folder_name:
        out_dir = Path(folder_name) / "model"
        out_dir.mkdir()
        wall, processor = time.perf_counter(), time.process_time()
        report = train_transformer(
            train,
            params=params,
            out_dir=out_dir,
            work_dir=Path(folder_name) / "work",
            tracker=Printer(),
        )
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        model = load_transformer(out_dir)
        measure = measure_cohere if arguments.data == "cohere_hf" else measure_pairs
        result = measure(model, train, test)  # type: ignore[operator]
    for name, value in result.items():
        if not name.endswith("_interval"):
            bounds = result.get(f"{name}_interval")
            text = f"  (95 % by prompt {bounds[0]:.3f}-{bounds[1]:.3f})" if bounds else ""
            print(f"  {name.replace('_', ' '):<28} {value:.3f}{text}")
    print(f"  trained in {wall:.0f} s ({processor:.0f} s of processor time)")
    line = {
        "data": arguments.data,
        "train": len(train),
        "test": len(test),
        "seed": arguments.seed,
        "options": arguments.set,
        "wall_s": round(wall, 1),
        "processor_s": round(processor, 1),
        "tokens_per_s": round(report.details["tokens_per_s"]),
        "peak_memory_mb": round(report.details["peak_memory_mb"]),
        "chosen": report.details["chosen"],
        "history": report.details["history"],
        "held_out": {name: round(value, 4) for name, value in report.metrics.items()},
        **result,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
