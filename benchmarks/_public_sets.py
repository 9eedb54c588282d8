"""Real public sets as training rows: read from a folder beside the repository, never copied."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_core.examples import PreferencePair, ScoredCompletion
from rlhf_core.feedback.drafts import prompt_hash

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PAIR_SETS = ("hh_rlhf_harmless_test", "pandalm", "tulu1")


def read_cohere(data: Path = DATA) -> list[ScoredCompletion]:
    """cohere_hf: the mean rating over raters, in the order of the file.

    Attention checks and empty completions are left out.
    """
    said: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for rating in _lines(data / "cohere_hf" / "ratings.jsonl"):
        if not rating["is_attention_check"]:
            said[rating["response_id"]][rating["rater"]].append(rating["rating"])
    rows = []
    for response in _lines(data / "cohere_hf" / "responses.jsonl"):
        by_rater = [statistics.mean(one) for one in said[response["response_id"]].values()]
        if by_rater and response["response"].strip():
            rows.append(
                ScoredCompletion(
                    prompt=response["prompt"],
                    completion=response["response"],
                    score=statistics.mean(by_rater),
                    num_ratings=len(by_rater),
                    group=prompt_hash(response["prompt"]),
                    interaction_id=response["response_id"],
                    spread=statistics.pstdev(by_rater),
                    segments={"source": response["source"], "model_name": response["model"]},
                )
            )
    return rows


def read_pairs(name: str, data: Path = DATA) -> list[PreferencePair]:
    """The pairs of one of `PAIR_SETS` that have a better side, both sides with text.

    pandalm: the majority of three raters, a margin of the votes it leads by; tulu1: a margin of 2
    for better, 1 for slightly better.
    """
    read = {
        "hh_rlhf_harmless_test": _read_harmless,
        "pandalm": _read_pandalm,
        "tulu1": _read_tulu,
    }
    pairs = list(read[name](data / name))
    return [pair for pair in pairs if pair.chosen.strip() and pair.rejected.strip()]


def measure_rater_agreement(data: Path = DATA, *, threshold: float = 4.0) -> float:
    """cohere_hf: how often one rater is on the same side of the threshold as the others' mean."""
    said: dict[str, list[int]] = defaultdict(list)
    for rating in _lines(data / "cohere_hf" / "ratings.jsonl"):
        if not rating["is_attention_check"]:
            said[rating["response_id"]].append(rating["rating"])
    agreed = [
        (one >= threshold) == ((sum(ratings) - one) / (len(ratings) - 1) >= threshold)
        for ratings in said.values()
        if len(ratings) > 1
        for one in ratings
    ]
    return sum(agreed) / len(agreed)


def _read_harmless(folder: Path) -> Iterator[PreferencePair]:
    for row in _lines(folder / "pairs.jsonl"):
        yield PreferencePair(
            prompt=row["prompt"],
            chosen=row["chosen_reply"],
            rejected=row["rejected_reply"],
            margin=1.0,
            group=row["group_id"],
            comparison_id=row["id"],
        )


def _read_pandalm(folder: Path) -> Iterator[PreferencePair]:
    for row in _lines(folder / "pairs.jsonl"):
        votes = Counter(row["votes"].values())
        lead = votes["a"] - votes["b"]
        if lead == 0 or votes["tie"] > max(votes["a"], votes["b"]):
            continue
        chosen, rejected = ("a", "b") if lead > 0 else ("b", "a")
        yield PreferencePair(
            prompt=f"{row['instruction']}\n\n{row['input']}".strip(),
            chosen=row[f"response_{chosen}"],
            rejected=row[f"response_{rejected}"],
            margin=float(abs(lead)),
            group=row["group_id"],
            num_votes=len(row["votes"]),
            comparison_id=row["id"],
        )


def _read_tulu(folder: Path) -> Iterator[PreferencePair]:
    for row in _lines(folder / "feedback.jsonl"):
        if row["preference"] == "tie":
            continue
        chosen, rejected = ("a", "b") if row["preference"].startswith("a") else ("b", "a")
        yield PreferencePair(
            prompt=row["prompt"],
            chosen=row[f"response_{chosen}"],
            rejected=row[f"response_{rejected}"],
            margin=1.0 if "slightly" in row["preference"] else 2.0,
            group=row["group_id"],
            comparison_id=row["id"],
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
