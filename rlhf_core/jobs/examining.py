"""Examines a reward model as it will serve: loaded from its files, on frozen rows."""

from collections.abc import Sequence
from typing import Any, cast

from rlhf_core.dataset.service import DatasetVersionView
from rlhf_core.errors import InvalidInput
from rlhf_core.examples import Example, SteppedCompletion
from rlhf_core.rewards.base import RewardModel
from rlhf_core.vocabulary import DatasetPurpose, ModelKind, PairOrigin

JUDGED = (DatasetPurpose.SCORES, DatasetPurpose.PREFERENCES, DatasetPurpose.UNPAIRED)
SHOWN = {  # in this order, and what they are called in a sentence
    "first_error_f1": "first-error F1",
    "auc": "AUC",
    "pair_accuracy": "pair accuracy",
    "accuracy": "accuracy",
    "spearman": "Spearman",
    "ece": "calibration error",
}


def check_fit(kind: ModelKind, purpose: DatasetPurpose) -> None:
    """Raise InvalidInput where such a model cannot be examined on such rows."""
    if purpose is DatasetPurpose.STEPS and kind is not ModelKind.REWARD_STEPS:
        raise InvalidInput("Only a step model can be examined on step labels: choose other rows.")
    if purpose not in (*JUDGED, DatasetPurpose.STEPS):
        wanted = ", ".join(fit.value for fit in (*JUDGED, DatasetPurpose.STEPS))
        raise InvalidInput(
            f"Rows of purpose {purpose.value} say nothing of good and bad: choose one of {wanted}."
        )


def examine_model(
    model: RewardModel,
    rows: Sequence[Example],
    *,
    dataset: DatasetVersionView,
    train_rows: Sequence[Example],
    threshold: float,
    seed: int = 0,
) -> dict[str, Any]:
    """The examination as JSON. `train_rows` are those learned from, for the check of leakage."""
    if dataset.purpose is DatasetPurpose.STEPS:
        return _examine_steps(model, rows, train_rows)
    from rlhf_core.rewards.examination import examine
    from rlhf_core.rewards.sycophancy import probe_sycophancy

    examination = examine(
        model,
        rows,
        threshold=threshold,
        train_groups={row.group for row in train_rows},
        train_prompts=list(dict.fromkeys(row.prompt for row in train_rows)),
        agreement_ceiling=find_ceiling(dataset),
        seed=seed,
    ).to_json()
    return {**examination, "sycophancy": probe_sycophancy(model).to_json()}


def find_ceiling(dataset: DatasetVersionView) -> float | None:
    """How often two raters agree on good or bad by the data card; None where it cannot say.

    Of pairs made of ratings the card knows how often two raters give the same rating. Who says 5
    over 1 and who says 4 over 2 agree on the pair: that is no ceiling.
    """
    found = dataset.card.get("agreement") or {}
    origins = (dataset.card.get("labels") or {}).get("counts") or {}
    if dataset.purpose is DatasetPurpose.PREFERENCES and PairOrigin.RATINGS.value in origins:
        return None
    value = found.get("good_or_bad", found.get("raw"))
    return None if value is None else float(value)


def describe(metrics: dict[str, float]) -> str:
    """The figures that matter most, in a few words."""
    words = [f"{word} {metrics[name]:.3f}" for name, word in SHOWN.items() if name in metrics]
    return ", ".join(words[:3]) or "no figure is defined on them"


def _examine_steps(
    model: RewardModel, rows: Sequence[Example], train_rows: Sequence[Example]
) -> dict[str, Any]:
    from rlhf_core.rewards.steps import examine_steps

    wanted = cast(Sequence[SteppedCompletion], rows)
    learned = cast(Sequence[SteppedCompletion], train_rows)
    found: dict[str, Any] = examine_steps(model, wanted, train_rows=learned).to_json()
    return found
