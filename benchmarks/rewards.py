"""Reward models on real feedback: figures on prompts not seen, with intervals, and seconds.

    python benchmarks/rewards.py [--parts embeddings | all] [--cache FOLDER] [--skip-times]

Embeddings: every figure is out of fold, five folds, no prompt in two; beside it lengths alone, in
the same folds, and what the more frequent answer gives. cohere_hf: completions are good at a mean
rating of 4 or more; the other sets are pairs. Times are those of `train` on 200 and 2,000 rows,
with nothing embedded yet and with everything. `--parts all` then runs `rewards_transformer.py` and
`rewards_steps.py` in processes of their own. Prints one JSON line last.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._public_sets import (  # noqa: E402
    DATA,
    PAIR_SETS,
    measure_rater_agreement,
    read_cohere,
    read_pairs,
)
from rlhf_core.encoder.cache import CachedEncoder  # noqa: E402
from rlhf_core.encoder.model import SentenceEncoder, load_encoder  # noqa: E402
from rlhf_core.examples import ScoredCompletion  # noqa: E402
from rlhf_core.rewards import evaluate, sbert  # noqa: E402
from rlhf_core.rewards.crossval import score_out_of_fold  # noqa: E402
from rlhf_core.rewards.folds import assign_folds  # noqa: E402
from rlhf_core.rewards.logistic import turn_to_axes  # noqa: E402
from rlhf_core.rewards.sbert_rows import TrainingRow  # noqa: E402
from rlhf_core.training import NoOpTracker, TrainReport  # noqa: E402

SEEDS = (0, 1, 2)
REPEATS_WARM = 5
TARGETS = {"cohere_hf": 0.70, "hh_rlhf_harmless_test": 0.62}
MAX_ECE = 0.05
MIN_ROWS_FOR_ECE = 400
OTHER_PARTS = ("rewards_transformer.py", "rewards_steps.py")


def train(
    rows: Sequence[TrainingRow], encoder: SentenceEncoder, seed: int = 0
) -> tuple[float, TrainReport]:
    """Seconds of one training, and its report."""
    with tempfile.TemporaryDirectory() as folder:
        started_at = time.perf_counter()
        report = sbert.train(
            rows,
            params=sbert.SbertParams(seed=seed),
            encoder=encoder,
            out_dir=Path(folder),
            tracker=NoOpTracker(),
        )
        return time.perf_counter() - started_at, report


def measure_concatenated(
    rows: Sequence[ScoredCompletion], encoder: SentenceEncoder, seed: int = 0
) -> float:
    """AUC of the textbook form, one embedding of both texts joined, in the folds of `train`."""
    params = sbert.SbertParams(seed=seed)
    labels = np.array([row.score >= params.threshold for row in rows])
    weights = np.sqrt([float(row.num_ratings) for row in rows])
    folds = assign_folds(labels, [row.group for row in rows], num_folds=params.folds, seed=seed)
    joined = encoder.encode([f"{row.prompt}\n{row.completion}" for row in rows])
    tested = score_out_of_fold(turn_to_axes(joined), labels, weights, folds, params.regularisation)
    return float(evaluate.compute_auc(tested.log_odds, labels)[0])


def measure_set(
    name: str, rows: Sequence[TrainingRow], encoder: SentenceEncoder
) -> dict[str, object]:
    """Print and return the figures of one set."""
    reports = [train(rows, encoder, seed)[1] for seed in SEEDS]
    first = reports[0]
    main = "auc" if "auc" in first.metrics else "pair_accuracy"
    intervals = first.details["intervals"]
    n = first.details["n"]
    print(f"\n{name}: {n} rows of {first.details['num_prompts']} prompts")
    names = [main, "brier", "ece", "uncalibrated_ece", f"gain_over_length_{main}"]
    if main == "auc":
        names += ["accuracy", "spearman", "pair_accuracy"]
    for metric in names:
        low, high = intervals[metric]
        beside = [
            f"{kind.replace('_', ' ')} {first.metrics[f'{kind}_{metric}']:.3f}"
            for kind in ("length_only", "majority", "base_rate")
            if f"{kind}_{metric}" in first.metrics
        ]
        print(
            f"  {metric.replace('_', ' '):<28} {first.metrics[metric]:.3f}  (95 % by prompt "
            f"{low:.3f} to {high:.3f})  {'; '.join(beside)}"
        )
    by_seed = [round(report.metrics[main], 4) for report in reports]
    ece_by_seed = [round(report.metrics["ece"], 4) for report in reports]
    print(f"  {main.replace('_', ' ')} by seed {by_seed}, ece by seed {ece_by_seed}")
    if name in TARGETS:
        _say_target(f"{main} of {name}", first.metrics[main], at_least=TARGETS[name])
    if n >= MIN_ROWS_FOR_ECE:
        _say_target(f"ece of {name}", first.metrics["ece"], at_most=MAX_ECE)
    return {
        "n": n,
        "metrics": {metric: round(value, 4) for metric, value in first.metrics.items()},
        "intervals": intervals,
        f"{main}_by_seed": by_seed,
        "ece_by_seed": ece_by_seed,
    }


def measure_times(rows: Sequence[ScoredCompletion], plain: SentenceEncoder) -> dict[str, float]:
    """Seconds of `train` in a warm process, with a cold and with a warm cache."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        train(rows[-60:], CachedEncoder(plain, Path(folder) / "warm-up"))  # imports SciPy, skops
        for count in (200, 2_000):
            encoder = CachedEncoder(plain, Path(folder) / str(count))
            cold_s, _ = train(rows[:count], encoder)
            num_texts = encoder.num_computed
            warm_s = statistics.median(train(rows[:count], encoder)[0] for _ in range(REPEATS_WARM))
            found |= {f"cold_s_{count}": round(cold_s, 3), f"warm_s_{count}": round(warm_s, 3)}
            print(
                f"{count:>5} rows: {cold_s:6.2f} s, {num_texts} texts to embed; {warm_s:.2f} s "
                "with all embeddings known"
            )
    _say_target("seconds of 200 rows, cold cache", found["cold_s_200"], at_most=3.0)
    _say_target("seconds of 200 rows, warm cache", found["warm_s_200"], at_most=0.3)
    return found


def measure_embeddings(cache: Path, *, has_times: bool) -> dict[str, object]:
    """All figures of the sentence-embedding model."""
    plain = load_encoder()
    plain.encode(["a first text, so that loading is not counted"] * 4)
    encoder = CachedEncoder(plain, cache)
    rows = read_cohere()
    result: dict[str, object] = {}
    if has_times:
        result["times"] = measure_times(rows, plain)
    result["cohere_hf"] = measure_set("cohere_hf", rows, encoder)
    concatenated = measure_concatenated(rows, encoder)
    agreement = measure_rater_agreement()
    print(
        f"  auc of one embedding of both texts joined: {concatenated:.3f}; one rater agrees with "
        f"the others' mean in {agreement:.3f}"
    )
    result |= {
        "auc_concatenated": round(concatenated, 4),
        "rater_agreement": round(agreement, 4),
    }
    for name in PAIR_SETS:
        result[name] = measure_set(name, read_pairs(name), encoder)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", choices=["embeddings", "all"], default="embeddings")
    parser.add_argument("--cache", type=Path, help="keep embeddings here from run to run")
    parser.add_argument("--skip-times", action="store_true")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"No real feedback data at {DATA}: nothing to measure.")
    with tempfile.TemporaryDirectory() as folder:
        result = measure_embeddings(
            arguments.cache or Path(folder), has_times=not arguments.skip_times
        )
    print(json.dumps({"benchmark": "rewards, embeddings", **result}))
    if arguments.parts == "all":
        for name in OTHER_PARTS:
            subprocess.run([sys.executable, str(ROOT / "benchmarks" / name)], check=True)


def _say_target(
    what: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> None:
    met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    wanted = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
    print(f"  {'met' if met else 'MISSED'}: {what} {value:.3f}, wanted {wanted}")


if __name__ == "__main__":
    main()
