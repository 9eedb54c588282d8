"""How many labels the queue's mix saves: labels of real answers revealed in two orders.

    python benchmarks/active_ordering.py [--seeds 10] [--batch 50] [--cache FOLDER]

cohere_hf: an answer is good at a mean rating of 4 or more. Per seed 30 % of the prompts are kept
for the test; of the rest labels are revealed a batch at a time. "uniform" draws each batch at
random. "mix" draws it as a queue does, from what the model trained on the labels so far says: half
the uncertain ones, a fifth of the unlike, a fifth at random (known answers and repeats, the last
tenth, reveal nothing new). After each batch the same regression on the same embeddings is fitted,
and its AUC on the test taken. Printed: both curves, the labels at which the mean of each first
reaches the AUC that uniform order has at the end (and at half of the labels), the ratio, and its
spread over the seeds. Prints one JSON line last.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks._public_sets import DATA, read_cohere  # noqa: E402
from rlhf_core.encoder.cache import CachedEncoder  # noqa: E402
from rlhf_core.encoder.model import load_encoder  # noqa: E402
from rlhf_core.queues.selection import DIVERSE_SHARE, DOUBTFUL_SHARE, pick_unlike  # noqa: E402
from rlhf_core.rewards import features  # noqa: E402
from rlhf_core.rewards.evaluate import compute_auc  # noqa: E402
from rlhf_core.rewards.logistic import Basis, fit_line, one_thread, turn_to_axes  # noqa: E402

GOOD_FROM = 4.0
TEST_SHARE = 0.3
REGULARISATION = 0.03
"""What training chooses on these rows most often."""
ORDERS = ("uniform", "mix")

Floats = npt.NDArray[np.float64]


def prepare(cache: Path) -> tuple[Basis, npt.NDArray[np.float32], npt.NDArray[np.bool_], list[str]]:
    """(features, embeddings of the completions, labels, groups) of all rows."""
    rows = read_cohere(DATA)
    encoder = CachedEncoder(load_encoder(), cache)
    prompts = [row.prompt for row in rows]
    completions = [row.completion for row in rows]
    of_prompts, of_completions = encoder.encode(prompts), encoder.encode(completions)
    counts = features.count_texts(prompts, completions)
    texts = features.build_text_features(counts, features.measure_scale(counts))
    joint = features.build_joint_features(of_prompts, of_completions, texts.astype(np.float32))
    labels = np.array([row.score >= GOOD_FROM for row in rows])
    return turn_to_axes(joint), of_completions, labels, [row.group for row in rows]


class Simulation:
    """One seed: its test part, and the curve of each order."""

    def __init__(
        self,
        basis: Basis,
        embeddings: npt.NDArray[np.float32],
        labels: npt.NDArray[np.bool_],
        groups: list[str],
        seed: int,
    ) -> None:
        self._basis, self._labels = basis, labels
        prompts = sorted(set(groups))
        random.Random(seed).shuffle(prompts)
        kept = set(prompts[: round(TEST_SHARE * len(prompts))])
        is_test = np.array([group in kept for group in groups])
        self._test, self.pool = np.flatnonzero(is_test), np.flatnonzero(~is_test)
        self._ids = [uuid.UUID(int=place) for place in range(len(labels))]
        self._vectors = {self._ids[place]: embeddings[place] for place in self.pool}
        self._seed = seed

    def run(self, order: str, batch: int) -> list[float]:
        """The AUC on the test after each batch."""
        rng = random.Random(f"{self._seed}:{order}")
        known: list[int] = []
        scores: Floats = np.zeros(len(self._labels))
        curve = []
        while len(known) < len(self.pool):
            number = min(batch, len(self.pool) - len(known))
            known += self._choose(order if known else "uniform", set(known), number, scores, rng)
            scores = self._fit(np.array(known))
            curve.append(compute_auc(scores[self._test], self._labels[self._test]).item())
        return curve

    def _fit(self, part: npt.NDArray[np.int64]) -> Floats:
        if len(set(self._labels[part].tolist())) < 2:
            return np.zeros(len(self._labels))
        line = fit_line(
            self._basis, part, self._labels, np.ones(len(self._labels)),
            regularisation=REGULARISATION,
        )  # fmt: skip
        return line.score(self._basis.rows)

    def _choose(
        self, order: str, known: set[int], number: int, scores: Floats, rng: random.Random
    ) -> list[int]:
        open_places = [int(place) for place in self.pool if int(place) not in known]
        if order == "uniform":
            return rng.sample(open_places, number)
        num_doubtful, num_diverse = round(number * DOUBTFUL_SHARE), round(number * DIVERSE_SHARE)
        chosen = rng.sample(open_places, number - num_doubtful - num_diverse)
        rest = sorted(set(open_places) - set(chosen), key=lambda place: abs(scores[place]))
        chosen += rest[:num_doubtful]  # log odds near 0: P(good) near a half
        taken = {self._ids[place] for place in (*known, *chosen)}
        unlike = pick_unlike(self._vectors, number - len(chosen), taken, rng)
        return chosen + [one.int for one in unlike]


def first_at(curve: Floats, target: float, batch: int, pool: int) -> int | None:
    """The labels after which the curve first reaches the target."""
    reached = np.flatnonzero(curve >= target)
    return min(pool, (int(reached[0]) + 1) * batch) if len(reached) else None


def main() -> None:
    """Simulate, print the curves and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    started_at = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(given.cache or Path(folder))
    curves: dict[str, list[list[float]]] = {order: [] for order in ORDERS}
    pools = []
    with one_thread():
        for seed in range(given.seeds):
            simulation = Simulation(*prepared, seed)
            pools.append(len(simulation.pool))
            for order in ORDERS:
                curves[order].append(simulation.run(order, given.batch))
            print(f"seed {seed}: {len(simulation.pool)} labels", flush=True)
    length = min(len(curve) for order in ORDERS for curve in curves[order])
    pool = min(*pools, length * given.batch)
    tables = {order: np.array([one[:length] for one in curves[order]]) for order in ORDERS}
    means = {order: table.mean(axis=0) for order, table in tables.items()}
    print("labels  " + "  ".join(f"{order:>8}" for order in ORDERS))
    for step in range(length):
        print(
            f"{min(pool, (step + 1) * given.batch):6}  "
            + "  ".join(f"{means[order][step]:8.4f}" for order in ORDERS)
        )
    report: dict[str, object] = {"seeds": given.seeds, "batch": given.batch, "labels": pool}
    for name, place in (("end", length - 1), ("half", length // 2 - 1)):
        target = float(means["uniform"][place])
        needed = {order: first_at(means[order], target, given.batch, pool) for order in ORDERS}
        by_seed = [
            None if found is None else found / min(pool, (place + 1) * given.batch)
            for curve, base in zip(tables["mix"], tables["uniform"], strict=True)
            for found in [first_at(curve, float(base[place]), given.batch, pool)]
        ]
        reached = sorted(one for one in by_seed if one is not None)
        whole = min(pool, (place + 1) * given.batch)
        report[name] = {
            "auc_uniform": round(target, 4),
            "auc_mix": round(float(means["mix"][place]), 4),
            "labels_uniform": whole,
            "labels_first": needed,
            "ratio": None if needed["mix"] is None else round(needed["mix"] / whole, 3),
            "ratio_by_seed": [round(one, 3) for one in reached],
            "seeds_not_reached": len(by_seed) - len(reached),
        }
    report["curve"] = {order: [round(float(v), 4) for v in means[order]] for order in ORDERS}
    report["seconds"] = round(time.perf_counter() - started_at, 1)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
