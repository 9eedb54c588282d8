from typing import Any

import pytest

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.clock import new_id
from rlhf_core.errors import Forbidden, NotFound
from rlhf_core.registry.evaluations import EvaluationView, list_evaluations, record_evaluation
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, Resource, Role
from tests.builders import make_actor
from tests.core.registry.world import make_version

EXAMINATION: dict[str, Any] = {
    "purpose": "scores",
    "num_rows": 40,
    "metrics": {"auc": 0.71, "spearman": float("nan")},
    "intervals": {"auc": (0.6, 0.8)},
    "baselines": {"auc": {"length_only": 0.55}},
    "slices": [{"segment": "language", "value": "en", "num_rows": 40}],
    "worst": [{"row": 3, "interaction_id": "x\0y", "error": 0.9}],
    "leakage": None,
}


def record(store: Store, version: ModelVersionView, **fields: Any) -> EvaluationView:
    defaults: dict[str, Any] = {
        "actor": SYSTEM,
        "version_id": version.id,
        "dataset_version_id": None,
        "job_id": None,
        "split": "test",
        "num_rows": 40,
        "examination_json": EXAMINATION,
    }
    with store.writing() as db:
        return record_evaluation(db, **(defaults | fields))


def add_version(store: Store) -> ModelVersionView:
    with store.writing() as db:
        return make_version(db)


def test_examination_comes_back_whole_and_the_latest_first(store: Store) -> None:
    version = add_version(store)
    first = record(store, version)
    second = record(store, version, split="all")
    with store.reading() as db:
        found = list_evaluations(db, version.id, actor=SYSTEM)
    assert found == [second, first]
    assert first.metrics == {"auc": 0.71}, "what is no number is left out"
    examination = first.examination
    assert examination["metrics"] == {"auc": 0.71}
    assert examination["intervals"] == {"auc": [0.6, 0.8]}
    assert examination["baselines"] == {"auc": {"length_only": 0.55}}
    assert examination["slices"] == EXAMINATION["slices"]
    assert examination["worst"][0]["interaction_id"] == "x\ufffdy"


def test_job_taken_up_again_keeps_one_examination(store: Store) -> None:
    version = add_version(store)
    job_id = new_id()
    with store.writing() as db:
        db.add(Job(id=job_id, kind=JobKind.EVALUATE, resource=Resource.CPU, params={}))
    first = record(store, version, job_id=job_id)
    assert record(store, version, job_id=job_id) == first
    assert record(store, version, job_id=job_id, split="all") != first
    with store.reading() as db:
        assert len(list_evaluations(db, version.id, actor=SYSTEM)) == 2


def test_analyst_reads_examinations_and_only_who_runs_jobs_writes_them(store: Store) -> None:
    version = add_version(store)
    with store.writing() as db:
        rater, analyst = make_actor(db, Role.RATER), make_actor(db, Role.ANALYST)
        trainer = make_actor(db, Role.TRAINER)
    with pytest.raises(Forbidden):
        record(store, version, actor=analyst)
    made = record(store, version, actor=trainer)
    assert made.created_by == trainer.name
    with store.reading() as db:
        assert list_evaluations(db, version.id, actor=analyst) == [made]
        with pytest.raises(Forbidden):
            list_evaluations(db, version.id, actor=rater)


def test_unknown_version_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="no model version"):
        record(store, add_version(store), version_id=new_id())
