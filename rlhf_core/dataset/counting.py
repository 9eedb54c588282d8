"""What rows are, in numbers: what decides whether they can train a model."""

from collections import Counter
from collections.abc import Iterator
from typing import assert_never

from rlhf_core.dataset.params import DatasetParams
from rlhf_core.examples import (
    Example,
    PreferencePair,
    PromptOnly,
    ScoredCompletion,
    SftExample,
    SteppedCompletion,
    UnpairedPreference,
)
from rlhf_core.vocabulary import DatasetPurpose, PairOrigin

_NAMES = {
    DatasetPurpose.SCORES: ("ratings", "good", "prompts_good", "prompts_bad", "lowest", "highest"),
    DatasetPurpose.UNPAIRED: ("good", "prompts_good", "prompts_bad"),
    DatasetPurpose.PREFERENCES: (*(origin.value for origin in PairOrigin), "ties"),
    DatasetPurpose.STEPS: ("steps", "right", "wrong"),
    DatasetPurpose.SFT: ("corrections",),
    DatasetPurpose.PROMPTS: (),
}


def count_rows(rows: Iterator[Example], params: DatasetParams) -> dict[str, float]:
    """Named numbers of the rows, as `Readiness.counts` explains them, 0 where there is nothing."""
    counts: dict[str, float] = dict.fromkeys(("rows", "prompts", *_NAMES[params.purpose]), 0)
    prompts: dict[str, set[str]] = {"all": set(), "good": set(), "bad": set()}
    seen: Counter[str] = Counter()
    scores: set[float] = set()
    for row in rows:
        seen["rows"] += 1
        prompts["all"].add(row.group)
        match row:
            case ScoredCompletion():
                seen["ratings"] += row.num_ratings
                scores.add(row.score)
                _count_class(seen, prompts, row.score >= params.threshold, row.group)
            case UnpairedPreference():
                _count_class(seen, prompts, row.label, row.group)
            case PreferencePair():
                seen[row.origin] += 1
                seen["ties"] += row.margin == 0
            case SteppedCompletion():
                seen["steps"] += len(row.completions)
                seen["right"] += row.labels.count(True)
                seen["wrong"] += row.labels.count(False)
            case SftExample():
                seen["corrections"] += row.is_correction
            case PromptOnly():
                pass
            case _:
                assert_never(row)
    counts |= {name: seen[name] for name in counts if name in seen}
    counts["prompts"] = len(prompts["all"])
    if "prompts_good" in counts:
        counts |= {f"prompts_{kind}": len(prompts[kind]) for kind in ("good", "bad")}
    if scores:
        counts |= {"lowest": min(scores), "highest": max(scores)}
    return counts


def _count_class(
    seen: Counter[str], prompts: dict[str, set[str]], is_good: bool, group: str
) -> None:
    seen["good"] += is_good
    prompts["good" if is_good else "bad"].add(group)
