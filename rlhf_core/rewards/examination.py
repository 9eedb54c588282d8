"""How a reward model does on rows that it was not trained on: one answer for every kind of model.

Every figure stands beside what is had for nothing (the more frequent answer, lengths alone) and,
where known, beside how often raters agree with each other. Intervals (95 %) are a bootstrap by
prompt. Nothing of the texts is kept in the result, only the ids of their interactions.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rlhf_core.examples import Example
from rlhf_core.rewards import evaluate
from rlhf_core.rewards.base import RewardModel
from rlhf_core.rewards.cases import Mistake, judge_rows
from rlhf_core.rewards.leakage import find_near
from rlhf_core.rewards.logistic import one_thread
from rlhf_core.rewards.slices import Slice, cut_slices, score_lengths

CEILING = "rater_agreement"


@dataclass(frozen=True)
class Leakage:
    """How many of the prompts examined are among those trained on, or nearly alike to one."""

    num_prompts: int
    num_seen: int
    num_near: int

    @property
    def share(self) -> float:
        """Share (0..1) of the prompts that were seen, or nearly."""
        return (self.num_seen + self.num_near) / max(1, self.num_prompts)


@dataclass(frozen=True)
class Examination:
    """What the figures are, on which rows, and beside what.

    `purpose`: a `DatasetPurpose` value. `metrics` are finite numbers by name (`auc`, `accuracy`,
    `pair_accuracy`, `spearman`, `brier`, `ece` ...; one that is not defined on the rows is absent);
    `intervals` (low, high) by the same names. `baselines[metric][name]` is the metric of something
    simpler: `majority`, `length_only`, `base_rate`, and `rater_agreement`, which is no lower mark
    but the ceiling. `reliability`: for each bin its `mean_probability`, `share_good` and `n`.
    `confusion`: `true_good`, `false_good`, `true_bad`, `false_bad`.
    """

    purpose: str
    num_rows: int
    num_prompts: int
    threshold: float | None
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    baselines: dict[str, dict[str, float]]
    slices: tuple[Slice, ...] = ()
    reliability: tuple[dict[str, float], ...] = ()
    confusion: dict[str, int] = field(default_factory=dict)
    worst: tuple[Mistake, ...] = ()
    leakage: Leakage | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values, as they are stored and sent."""
        plain = asdict(self)
        for name in ("slices", "reliability", "worst", "notes"):
            plain[name] = list(plain[name])
        plain["intervals"] = {name: list(bounds) for name, bounds in self.intervals.items()}
        for part in plain["slices"]:
            part["intervals"] = {name: list(bounds) for name, bounds in part["intervals"].items()}
        if self.leakage is not None:
            plain["leakage"]["share"] = self.leakage.share
        return plain


def examine(
    model: RewardModel,
    rows: Sequence[Example],
    *,
    threshold: float,
    train_groups: Set[str] | None = None,
    train_prompts: Iterable[str] | None = None,
    agreement_ceiling: float | None = None,
    seed: int = 0,
) -> Examination:
    """The figures of the model on scored rows, pairs or thumbs (all rows of one kind).

    `threshold`: a score at or above it is good. `train_groups` and `train_prompts` are those that
    the model was trained on: given, `leakage` says how many come again. `agreement_ceiling` (0..1)
    is how often one rater agrees with the others.

    Raises NotEnoughData for no rows, InvalidInput for rows of another kind or of two kinds, and
    for a completion without text.
    """
    case = judge_rows(model, rows, threshold=threshold)
    with one_thread():
        weights = evaluate.resample_groups(case.groups, seed=seed)
        length_scores = score_lengths(case, seed=seed)
        measured = case.measure(weights, length_scores)
        slices = cut_slices(case, length_scores, seed=seed)
    baselines = measured.baselines
    if agreement_ceiling is not None:
        name = "pair_accuracy" if case.is_paired else "accuracy"
        baselines = {**baselines, name: {**baselines.get(name, {}), CEILING: agreement_ceiling}}
    told = case.told
    return Examination(
        purpose=case.purpose.value,
        num_rows=len(rows),
        num_prompts=len(set(case.groups)),
        threshold=None if case.is_paired else threshold,
        metrics=measured.metrics,
        intervals=measured.intervals,
        baselines=baselines,
        slices=slices,
        reliability=() if told is None else tuple(evaluate.reliability_table(*told)),
        confusion=case.count_confusion(),
        worst=case.find_worst(),
        leakage=_find_leakage(rows, train_groups, train_prompts),
        notes=case.notes,
    )


def _find_leakage(
    rows: Sequence[Example],
    train_groups: Set[str] | None,
    train_prompts: Iterable[str] | None,
) -> Leakage | None:
    if train_groups is None and train_prompts is None:
        return None
    known_groups = train_groups or frozenset()
    known_prompts = list(train_prompts or ())
    seen_texts = set(known_prompts)
    by_group = {row.group: row.prompt for row in rows}
    fresh = [
        prompt
        for group, prompt in by_group.items()
        if group not in known_groups and prompt not in seen_texts
    ]
    near = find_near(fresh, known_prompts) if known_prompts else np.zeros(0)
    return Leakage(
        num_prompts=len(by_group),
        num_seen=len(by_group) - len(fresh),
        num_near=int(near.sum()),
    )
