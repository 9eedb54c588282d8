"""The sentence-embedding reward model on real ratings: AUC on prompts not seen, and seconds.

    python benchmarks/rewards_sbert.py [--data ../shared/data/cohere_hf]

Reads `responses.jsonl` and `ratings.jsonl`; attention checks are left out, and so are empty
completions; a completion is good if its mean rating over raters is 4 or more. All figures are out
of fold, five folds, no prompt in two. Beside the model, in the same folds and with the same choice
of regularisation: lengths alone (the two logs, and with their squares and product as the model
has them) and the textbook form, one embedding of prompt and completion joined. Prints one JSON
line last.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhf_core.encoder.cache import CachedEncoder  # noqa: E402
from rlhf_core.encoder.model import load_encoder  # noqa: E402
from rlhf_core.examples import ScoredCompletion  # noqa: E402
from rlhf_core.feedback.drafts import prompt_hash  # noqa: E402
from rlhf_core.rewards import evaluate, features, sbert  # noqa: E402
from rlhf_core.rewards.crossval import score_out_of_fold  # noqa: E402
from rlhf_core.rewards.folds import assign_folds  # noqa: E402
from rlhf_core.rewards.logistic import turn_to_axes  # noqa: E402
from rlhf_core.training import NoOpTracker, TrainReport  # noqa: E402

DATA = ROOT.parent / "shared" / "data" / "cohere_hf"
REPEATS_WARM = 5


def read_rows(folder: Path) -> list[ScoredCompletion]:
    """The rated completions, in the order of the file."""
    said: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "ratings.jsonl").open(encoding="utf-8") as file:
        for line in file:
            rating = json.loads(line)
            if not rating["is_attention_check"]:
                said[rating["response_id"]][rating["rater"]].append(rating["rating"])
    rows = []
    with (folder / "responses.jsonl").open(encoding="utf-8") as file:
        for line in file:
            response = json.loads(line)
            by_rater = said.get(response["response_id"])
            if not by_rater or not response["response"].strip():
                continue
            rows.append(
                ScoredCompletion(
                    prompt=response["prompt"],
                    completion=response["response"],
                    score=statistics.mean(statistics.mean(one) for one in by_rater.values()),
                    num_ratings=len(by_rater),
                    group=prompt_hash(response["prompt"]),
                    interaction_id=response["response_id"],
                )
            )
    return rows


def train(
    rows: list[ScoredCompletion], encoder: CachedEncoder, seed: int = 0
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


def measure_baselines(
    rows: list[ScoredCompletion], encoder: CachedEncoder, seed: int = 0
) -> dict[str, float]:
    """AUC of the other forms, in the folds that `train` uses with this seed."""
    params = sbert.SbertParams(seed=seed)
    labels = np.array([row.score >= params.threshold for row in rows])
    weights = np.sqrt([float(row.num_ratings) for row in rows])
    groups = [row.group for row in rows]
    folds = assign_folds(labels, groups, num_folds=params.folds, seed=seed)
    logs = features.count_characters([row.prompt for row in rows], [row.completion for row in rows])
    lengths = features.build_length_features(logs, features.measure_lengths(logs))
    forms = {
        "auc_two_log_lengths": lengths[:, :2],
        "auc_length_only": lengths,
        "auc_concatenated": encoder.encode([f"{row.prompt}\n{row.completion}" for row in rows]),
    }
    found = {}
    for name, table in forms.items():
        tested = score_out_of_fold(
            turn_to_axes(table), labels, weights, folds, params.regularisation
        )
        found[name] = float(evaluate.compute_auc(tested.log_odds, labels)[0])
    return found


def time_training(rows: list[ScoredCompletion], encoder: CachedEncoder) -> dict[str, float]:
    """Seconds with nothing embedded yet, and with everything."""
    before = encoder.num_computed
    cold_s, _ = train(rows, encoder)
    num_texts = encoder.num_computed - before
    warm_s = min(train(rows, encoder)[0] for _ in range(REPEATS_WARM))
    return {"cold_s": cold_s, "warm_s": warm_s, "texts": num_texts}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    arguments = parser.parse_args()
    rows = read_rows(arguments.data)
    plain = load_encoder()
    plain.encode(["a first text, so that loading is not counted"] * 4)
    result: dict[str, object] = {"rows": len(rows), "prompts": len({row.group for row in rows})}
    with tempfile.TemporaryDirectory() as folder:
        warm_up = CachedEncoder(plain, Path(folder) / "warm-up")
        train(rows[-60:], warm_up)  # imports scikit-learn, SciPy and skops
        for count in (200, 2_000):
            encoder = CachedEncoder(plain, Path(folder) / str(count))
            timing = time_training(rows[:count], encoder)
            result |= {f"{name}_{count}": round(value, 3) for name, value in timing.items()}
            print(
                f"{count:>5} rows: {timing['cold_s']:6.2f} s, {timing['texts']} texts to embed; "
                f"{timing['warm_s']:.2f} s with all embeddings known"
            )
        reports = [train(rows, encoder, seed)[1] for seed in (0, 1, 2)]
        baselines = measure_baselines(rows, encoder)
    report = reports[0]
    low, high = report.details["intervals"]["auc"]
    print(f"\n{len(rows)} completions, {report.metrics['share_good']:.0%} good")
    print(
        f"AUC, prompts not seen    {report.metrics['auc']:.3f}  "
        f"(95 % by prompt {low:.3f}-{high:.3f})"
    )
    for name, value in baselines.items():
        print(f"  {name.removeprefix('auc_').replace('_', ' '):<22} {value:.3f}")
    names = ["accuracy", "majority_accuracy", "brier", "uncalibrated_ece", "ece", "pair_accuracy"]
    for name in [*names, "length_only_pair_accuracy"]:
        print(f"  {name.replace('_', ' '):<26} {report.metrics[name]:.3f}")
    result |= {name: round(report.metrics[name], 4) for name in ["auc", *names]}
    result |= {name: round(value, 4) for name, value in baselines.items()}
    result["auc_interval"] = [low, high]
    result["auc_by_seed"] = [round(one.metrics["auc"], 4) for one in reports]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
