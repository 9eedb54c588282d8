"""About how long a training run takes, from what earlier runs cost on this machine."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.config import get_settings
from rlhf_core.jobs.service import list_jobs
from rlhf_core.jobs.train_params import TrainRewardParams
from rlhf_core.vocabulary import JobKind, JobState

START_S = 5.0  # a process, and the encoder in it
TEXTS_A_SECOND = 30.0  # long texts on two busy cores, before a run has measured it
MEANINGFUL_TEXTS = 100  # embedded by a run, for its speed to say anything
FIT_S_A_ROW = 0.004
TUNED_S_A_ROW = 0.35  # an epoch of the bundled encoder on two cores, before a run has measured it


@dataclass(frozen=True)
class RunCost:
    """What a run cost, kept in its result: the next one's duration is estimated from it.

    `num_models` counts ensemble members and the judge's; `row_epochs` rows times epochs of all, 0
    where `took_s` does not say how long those took.
    """

    encoder: str
    num_rows: int
    num_prompts: int
    num_embedded: int
    embedding_s: float
    took_s: float
    base: str = ""
    row_epochs: int = 0
    num_models: int = 1


def estimate_duration_s(
    db: Session, params: TrainRewardParams, *, num_rows: int, num_prompts: int
) -> float:
    """About how many seconds a run with these parameters takes on so many rows."""
    jobs = list_jobs(db, states=[JobState.SUCCEEDED], kind=params.learner, limit=50)
    costs = [_parse(job.result) for job in jobs]
    known = [cost for cost in costs if cost is not None]
    if params.learner is JobKind.TRAIN_SBERT:
        return _estimate_embedding(params, known, num_rows=num_rows, num_prompts=num_prompts)
    row_epochs = count_row_epochs(params, num_rows)
    speeds = [
        cost.took_s / cost.row_epochs
        for cost in known
        if cost.row_epochs and cost.base == base_of(params)
    ]
    return START_S + row_epochs * (speeds[0] if speeds else TUNED_S_A_ROW)


def count_row_epochs(params: TrainRewardParams, num_rows: int) -> int:
    """Rows times epochs of all models of a run; with a judge each model sees half of the rows."""
    learner = params.learner_params()
    return int(getattr(learner, "epochs", 1) * num_rows * params.seeds)


def base_of(params: TrainRewardParams) -> str:
    """The model that is tuned, where one is."""
    learner = params.learner_params()
    return str(getattr(learner, "base", ""))


def _estimate_embedding(
    params: TrainRewardParams, costs: list[RunCost], *, num_rows: int, num_prompts: int
) -> float:
    """Texts that an earlier run embedded are known; the rest takes as long as it took then."""
    costs = [cost for cost in costs if cost.encoder == get_settings().encoder]
    known_rows = max((cost.num_rows for cost in costs), default=0)
    known_prompts = max((cost.num_prompts for cost in costs), default=0)
    speed = next(
        (
            cost.num_embedded / cost.embedding_s
            for cost in costs
            if cost.num_embedded >= MEANINGFUL_TEXTS and cost.embedding_s > 0
        ),
        TEXTS_A_SECOND,
    )
    fresh = max(0, num_rows - known_rows) + max(0, num_prompts - known_prompts)
    return START_S + fresh / speed + num_rows * FIT_S_A_ROW * params.seeds


def _parse(result: dict[str, Any] | None) -> RunCost | None:
    cost = (result or {}).get("cost")
    return RunCost(**cost) if cost else None
