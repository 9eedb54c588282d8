"""The step model on real step labels: is the first mistake found, on prompts not seen?

    python benchmarks/rewards_steps.py [--data ../shared/data] [--sets NAME ...] [--seed 0]

Sets: `big_bench_mistake` (the rows labelled by people) and `mr_gsm8k_part` (all its solutions have
a mistake: F1 is the accuracy on those). 70 % of the prompts are trained on, a fifth of which is
held out for epoch, calibration and threshold; figures are of the other 30 %, intervals a bootstrap
by prompt. Beside the model: always the last step, always the first, and per-step logistic
regressions on place and length, also with the embedding of the step's text, also with whether its
arithmetic holds. Prints one JSON line last.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhf_core.encoder.cache import CachedEncoder  # noqa: E402
from rlhf_core.encoder.model import load_encoder  # noqa: E402
from rlhf_core.examples import SteppedCompletion  # noqa: E402
from rlhf_core.rewards.steps import (  # noqa: E402
    StepParams,
    examine_steps,
    load_step_model,
    train_steps,
)
from rlhf_core.rewards.steps_baselines import find_baseline_places, fit_baseline  # noqa: E402
from rlhf_core.rewards.steps_search import compute_first_error, know_errors  # noqa: E402
from rlhf_core.training import NoOpTracker  # noqa: E402

DATA = ROOT.parent / "shared" / "data"
SETS = ("big_bench_mistake", "mr_gsm8k_part")
TEST_SHARE = 0.3


class Printer(NoOpTracker):
    """Prints the log."""

    def log(self, text: str) -> None:
        """Print a line."""
        print(f"  {text}", flush=True)


def read_rows(folder: Path) -> list[SteppedCompletion]:
    """The solutions whose steps people judged, in the order of the file."""
    rows = []
    with (folder / "steps.jsonl").open(encoding="utf-8") as file:
        for line in file:
            solution = json.loads(line)
            if solution["label_source"] != "human":
                continue
            steps = solution["steps"]
            rows.append(
                SteppedCompletion(
                    prompt=solution["prompt"],
                    completions=tuple(step["text"] for step in steps),
                    labels=tuple(
                        None if step["label"] is None else step["label"] > 0 for step in steps
                    ),
                    group=solution["group_id"],
                    interaction_id=solution["id"],
                    segments={"action_type": solution.get("task") or solution["question_type"]},
                )
            )
    return rows


def split_rows(
    rows: list[SteppedCompletion], seed: int
) -> tuple[list[SteppedCompletion], list[SteppedCompletion]]:
    """(70 % to train on, 30 % to test on), by prompt."""
    groups = sorted({row.group for row in rows})
    np.random.default_rng(seed).shuffle(groups)
    test = set(groups[: round(len(groups) * TEST_SHARE)])
    return (
        [row for row in rows if row.group not in test],
        [row for row in rows if row.group in test],
    )


def measure_set(name: str, data: Path, seed: int, params: StepParams) -> dict[str, object]:
    """Train and examine on one set: its figures."""
    learned, tested = split_rows(read_rows(data / name), seed)
    print(f"\n{name}: {len(learned)} solutions to train on, {len(tested)} to test on", flush=True)
    started_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        out_dir, work_dir = Path(folder) / "model", Path(folder) / "work"
        out_dir.mkdir()
        report = train_steps(
            learned, params=params, out_dir=out_dir, work_dir=work_dir, tracker=Printer()
        )
        trained_s = time.perf_counter() - started_at
        encoder = CachedEncoder(load_encoder(), Path(folder) / "embeddings")
        model = load_step_model(out_dir)
        examination = examine_steps(model, tested, train_rows=learned, seed=seed)
        baselines = {
            "logistic_embeddings": fit_baseline(learned, encoder=encoder, seed=seed),
            "logistic_arithmetic": fit_baseline(learned, has_arithmetic=True, seed=seed),
            "logistic_all": fit_baseline(learned, encoder=encoder, has_arithmetic=True, seed=seed),
        }
        known = know_errors(tested)
        sure = [tested[row] for row in known.rows]
        beside = dict(examination.baselines["first_error_f1"])
        plain = dict(examination.baselines["first_error_accuracy"])
        for label, baseline in baselines.items():
            places = find_baseline_places(sure, baseline)["logistic"]
            figures = compute_first_error(places, known, np.ones((1, len(sure))))
            beside[label] = float(figures["first_error_f1"][0])
            plain[label] = float(figures["first_error_accuracy"][0])
    metrics = examination.metrics
    print(f"  {'':<24}{'first-error F1':>16}{'exactly found':>16}")
    low, high = examination.intervals["first_error_f1"]
    print(
        f"  {'step model':<24}{metrics['first_error_f1']:>16.3f}"
        f"{metrics['first_error_accuracy']:>16.3f}   (95 % by prompt {low:.3f}-{high:.3f})"
    )
    for label, value in beside.items():
        print(f"  {label.replace('_', ' '):<24}{value:>16.3f}{plain[label]:>16.3f}")
    print(
        f"  steps: AUC {metrics['auc']:.3f}, accuracy {metrics['accuracy']:.3f} (majority "
        f"{examination.baselines['accuracy']['majority']:.3f}), ECE {metrics['ece']:.3f}, "
        f"n = {sum(examination.confusion.values())}"
    )
    for part in examination.slices:
        found = part.metrics["first_error_accuracy"]
        print(f"    {part.segment} {part.value}: {found:.3f} of {part.num_rows}")
    three = ("always_last", "always_first", "logistic")
    return {
        "train_rows": len(learned),
        "test_rows": len(tested),
        "test_steps": sum(examination.confusion.values()),
        "train_s": round(trained_s, 1),
        "total_s": round(time.perf_counter() - started_at, 1),
        "metrics": {key: round(value, 4) for key, value in metrics.items()},
        "intervals": {key: list(bounds) for key, bounds in examination.intervals.items()},
        "baseline_f1": {key: round(value, 4) for key, value in beside.items()},
        "baseline_accuracy": {key: round(value, 4) for key, value in plain.items()},
        "beats_all_three": all(metrics["first_error_f1"] > beside[key] for key in three),
        "best_epoch": report.details["best_epoch"],
        "history": report.details["history"],
        "tokens_per_s": round(report.details["tokens_per_s"], 1),
        "rows": report.details["rows"],
        "params": asdict(params),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=StepParams.epochs)
    arguments = parser.parse_args()
    params = StepParams(seed=arguments.seed, epochs=arguments.epochs)
    result: dict[str, object] = {"seed": arguments.seed}
    for name in arguments.sets:
        result[name] = measure_set(name, arguments.data, arguments.seed, params)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
