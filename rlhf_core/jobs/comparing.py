"""Compares versions on frozen rows as they will serve: each loaded from its verified files."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_core.errors import TrainingFailed
from rlhf_core.examples import Example, PromptOnly
from rlhf_core.jobs.examining import SHOWN
from rlhf_core.jobs.policy_bases import base_of_version
from rlhf_core.jobs.policy_examining import MAX_PROMPTS, NUM_KEPT, choose_options
from rlhf_core.jobs.policy_rewards import RewardSource, open_reward
from rlhf_core.registry.comparisons import POLICY_PURPOSE
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.loader import load_version
from rlhf_core.training import Tracker
from rlhf_core.vocabulary import DatasetPurpose

STOPPED = "Stopped on request: nothing is kept of a comparison."
GAIN = "reward_gain"
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Compared:
    """The result as it is kept, versions named by id; and the rows that go into a file."""

    result: dict[str, Any]
    rows: Sequence[dict[str, Any]] = field(default=(), repr=False)


def compare_rewards(
    versions: Sequence[ModelVersionView],
    rows: Sequence[Example],
    *,
    purpose: DatasetPurpose,
    threshold: float,
    tracker: Tracker,
) -> Compared:
    """Let reward models judge the same rows; the first one is what the others are compared with.

    Raises TrainingFailed where it is asked to stop.
    """
    from rlhf_core.rewards.paired import Sheet, compare_sheets
    from rlhf_core.rewards.paired_sheets import judge_sheet

    sheets: dict[str, Sheet] = {}
    for number, version in enumerate(versions):
        _check_stop(tracker)
        share = 0.05 + 0.85 * number / len(versions)
        tracker.progress(share, f"{version.name} judges {len(rows):,} rows")
        model = load_version(version, is_caching=True).model
        sheets[str(version.id)] = judge_sheet(model, rows, threshold=threshold)
        del model  # one at a time is in memory
    _check_stop(tracker)
    tracker.progress(0.92, "Measuring the differences")
    paired = compare_sheets(sheets, baseline=str(versions[0].id))
    return Compared(
        paired.to_json() | {"purpose": purpose.value, "threshold": threshold},
        [vars(row) for row in paired.rows],
    )


def compare_policies(
    versions: Sequence[ModelVersionView],
    prompts: Sequence[PromptOnly],
    *,
    judge: RewardSource,
    tracker: Tracker,
    options: Mapping[str, Any],
) -> Compared:
    """Let policies answer the same prompts with the same random numbers; `judge` rewards them.

    Only the first `MAX_PROMPTS` prompts are asked. Raises as `policies.evaluate.evaluate_policy`.
    """
    from rlhf_core.policies.evaluate import EvaluatePolicyParams, evaluate_policy

    asked = list(prompts)[:MAX_PROMPTS]
    first = versions[0]
    ids = {version.name: str(version.id) for version in versions}
    given = {"num_samples": MAX_PROMPTS, **choose_options(first.params), **options}
    examined = evaluate_policy(
        {version.name: Path(base_of_version(version).open()) for version in versions},
        asked,
        judge=open_reward([judge]),
        baseline=first.name,
        params=EvaluatePolicyParams(**given),
        tracker=tracker,
    ).to_json()
    samples = [
        {
            "prompt": sample["prompt"],
            "answers": {ids[name]: text for name, text in sample["answers"].items()},
            "rewards": {ids[name]: reward for name, reward in sample["rewards"].items()},
        }
        for sample in examined["samples"]
    ]
    rows = {row.prompt: row for row in asked}
    known = [rows[sample["prompt"]] for sample in samples]
    figures = {ids[name]: found for name, found in examined["policies"].items()}
    if not _are_enough(known):
        figures = {key: _without_ends(found) for key, found in figures.items()}
    baseline = str(first.id)
    return Compared(
        {
            "purpose": POLICY_PURPOSE,
            "baseline": baseline,
            "num_prompts": examined["num_prompts"],
            "deciding": "reward",
            "versions": figures,
            "differences": _subtract(figures, samples, known, baseline),
            "slices": _cut_slices(samples, known, baseline),
            "samples": sorted(samples, key=_spread_of, reverse=True)[:NUM_KEPT],
            "judge": {"name": judge.name, "version_id": judge.version_id},
            "params": examined["params"],
            "notes": examined["notes"],
        }
    )


def tell(versions: Sequence[ModelVersionView], result: Mapping[str, Any], where: str) -> str:
    """What came out, in a sentence: each version beside the first, by the figure that decides."""
    from rlhf_core.rewards.paired import is_better

    first, others = versions[0], versions[1:]
    metric = result["deciding"]
    said = []
    for version in others:
        difference = result["differences"][str(version.id)].get(metric or "")
        if metric is None or difference is None:
            said.append(f"{version.name}: no figure is defined on these rows")
            continue
        own = result["versions"][str(version.id)][metric]["value"]
        its = result["versions"][str(first.id)][metric]["value"]
        better = is_better(metric, difference)
        verdict = {True: "better", False: "worse", None: "that may be chance"}[better]
        span = ""
        if "low" in difference:
            span = f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
        word = SHOWN.get(metric, metric.replace("_", " "))
        said.append(
            f"{version.name} {word} {own:.3f} against {its:.3f}, "
            f"{difference['value']:+.3f}{span}: {verdict}"
        )
    return f"Against {first.name} on {where}: {'; '.join(said)}."


def clocked(work: Callable[[], Compared]) -> tuple[Compared, float]:
    """What the work returned, and how many seconds it took."""
    started = time.monotonic()
    return work(), time.monotonic() - started


def _check_stop(tracker: Tracker) -> None:
    if tracker.should_stop():
        raise TrainingFailed(STOPPED)


def _spread_of(sample: Mapping[str, Any]) -> float:
    rewards = list(sample["rewards"].values())
    return float(max(rewards) - min(rewards))


def _subtract(
    figures: Mapping[str, Figures],
    samples: Sequence[Mapping[str, Any]],
    rows: Sequence[PromptOnly],
    baseline: str,
) -> dict[str, Figures]:
    """The reward that each gained, and by how many words its answers are longer."""
    others = [key for key in figures if key != baseline]
    found = _measure_samples(samples, rows, baseline)[1]
    for key in others:
        if GAIN in figures[key]:  # of all answers, where a prompt has several
            found[key]["reward"] = figures[key][GAIN]
    return found


def _cut_slices(
    samples: Sequence[Mapping[str, Any]], rows: Sequence[PromptOnly], baseline: str
) -> list[dict[str, Any]]:
    from rlhf_core.rewards.slices import cut_segments

    slices = []
    for segment, value, places in cut_segments([row.segments for row in rows]):
        part = [rows[place] for place in places]
        versions, differences = _measure_samples(
            [samples[place] for place in places], part, baseline
        )
        slices.append(
            {
                "segment": segment,
                "value": value,
                "num_rows": len(part),
                "num_prompts": len({row.group for row in part}),
                "versions": versions,
                "differences": differences,
            }
        )
    return slices


def _are_enough(rows: Sequence[PromptOnly]) -> bool:
    """Whether there are so many prompts that an interval says something."""
    from rlhf_core.rewards.paired import MIN_PROMPTS

    return len({row.group or row.prompt for row in rows}) >= MIN_PROMPTS


def _without_ends(figures: Figures) -> Figures:
    return {name: {"value": figure["value"]} for name, figure in figures.items()}


def _measure_samples(
    samples: Sequence[Mapping[str, Any]], rows: Sequence[PromptOnly], baseline: str
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    """Reward and words of each version's answers, and those less the baseline's."""
    from rlhf_core.policies.estimates import PromptBootstrap

    bootstrap = PromptBootstrap([row.group or row.prompt for row in rows], seed=0)
    is_enough = _are_enough(rows)

    def mean(values: list[float]) -> dict[str, float]:
        figure = bootstrap.mean(values).to_json()
        return figure if is_enough else {"value": figure["value"]}

    def measure(key: str) -> dict[str, list[float]]:
        return {
            "reward": [float(sample["rewards"][key]) for sample in samples],
            "words": [float(len(sample["answers"][key].split())) for sample in samples],
        }

    by_version = {key: measure(key) for key in samples[0]["rewards"]}
    versions = {
        key: {name: mean(values) for name, values in found.items()}
        for key, found in by_version.items()
    }
    differences = {
        key: {
            name: mean(
                [own - other for own, other in zip(values, by_version[baseline][name], strict=True)]
            )
            for name, values in found.items()
        }
        for key, found in by_version.items()
        if key != baseline
    }
    return versions, differences
