"""What a training of a reward model is said to take."""

from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.jobs import service
from rlhf_core.jobs.train_params import TrainRewardParams
from rlhf_core.jobs.train_reward import estimate_duration_s
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, JobState
from tests.core.jobs.trained import enqueue
from tests.databases import only_sqlite


def finish(store: Store, job: service.JobView, cost: dict[str, Any]) -> None:
    with store.writing() as db:
        done = {"state": JobState.SUCCEEDED, "result": {"cost": cost}}
        db.execute(sa.update(Job).where(Job.id == job.id).values(done))


def test_estimate_learns_from_earlier_runs(store: Store) -> None:
    params = TrainRewardParams()
    with store.reading() as db:
        cold = estimate_duration_s(db, params, num_rows=3_000, num_prompts=600)
    cost = {
        "encoder": "minilm", "num_rows": 2_000, "num_prompts": 400, "num_embedded": 2_400,
        "embedding_s": 60.0, "took_s": 70.0,
    }  # fmt: skip
    finish(store, enqueue(store), cost)
    with store.reading() as db:
        warm = estimate_duration_s(db, params, num_rows=3_000, num_prompts=600)
        nothing_new = estimate_duration_s(db, params, num_rows=2_000, num_prompts=400)
    assert nothing_new < warm < cold
    assert warm - nothing_new == pytest.approx(1_200 / 40, rel=0.2)


@only_sqlite
def test_estimate_of_a_tuned_model_is_by_rows_and_epochs(store: Store) -> None:
    params = TrainRewardParams(learner=JobKind.TRAIN_TRANSFORMER, options={"epochs": 2}, seeds=3)
    cost = {
        "encoder": "", "num_rows": 100, "num_prompts": 10, "num_embedded": 0, "embedding_s": 0.0,
        "took_s": 50.0, "base": "minilm", "row_epochs": 100,
    }  # fmt: skip
    finish(store, enqueue(store, learner=JobKind.TRAIN_TRANSFORMER), cost)
    with store.reading() as db:
        found = estimate_duration_s(db, params, num_rows=1_000, num_prompts=200)
    assert found == pytest.approx(3 * 2 * 1_000 * 0.5, rel=0.01)
