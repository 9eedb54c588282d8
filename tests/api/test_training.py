"""Training over HTTP: what starts, what is refused, and what can be followed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from rlhf_core.accounts.permissions import Permission
from rlhf_core.jobs import runs
from rlhf_core.jobs.tracker import JobTracker
from rlhf_core.store.engine import Store
from rlhf_core.training import Sample
from tests.core.jobs.conftest import base, reward_rules
from tests.core.jobs.trained_policies import add_prompts
from tests.core.serving.world import promote_reward_model

__all__ = ["base", "reward_rules"]

pytestmark = pytest.mark.usefixtures("reward_rules")
TRAINER = (Permission.RUN_JOBS, Permission.MANAGE_DATASETS, Permission.READ_MODELS)


def ppo(base: Path, **params: Any) -> dict[str, Any]:
    given = {"base": str(base), "rewards": [{"model": "rule:good"}], "options": {"updates": 2}}
    return {"params": {**given, **params}}


def test_trainer_starts_follows_and_cancels_a_run_of_a_policy(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]], base: Path
) -> None:
    with store.writing() as db:
        add_prompts(db, 60)
    trainer = bearer(*TRAINER)
    body = {**ppo(base), "priority": 3}
    checked = client.post("/api/v1/training/policies/check", headers=trainer, json=body).json()
    assert checked["obstacles"] == []
    assert "fits in" in checked["estimate"]["sentence"]

    once = {**trainer, "idempotency-key": "run-1"}
    started = client.post("/api/v1/training/policies", headers=once, json=body)
    assert started.status_code == 202
    job = started.json()
    assert (job["kind"], job["state"], job["priority"]) == ("train_ppo", "queued", 3)
    again = client.post("/api/v1/training/policies", headers=once, json=body)
    assert again.json()["id"] == job["id"]
    assert client.post("/api/v1/training/policies", headers=trainer, json=body).status_code == 409

    (listed,) = client.get("/api/v1/jobs?state=queued", headers=trainer).json()["jobs"]
    assert listed["id"] == job["id"]
    assert client.get(f"/api/v1/jobs/{job['id']}", headers=trainer).json()["params"]["base"] == str(
        base
    )
    canceled = client.post(f"/api/v1/jobs/{job['id']}/cancel", headers=trainer).json()
    assert canceled["state"] == "canceled"
    retried = client.post(f"/api/v1/jobs/{job['id']}/retry", headers=trainer).json()
    assert retried["state"] == "queued"


def test_curves_and_samples_of_a_run_are_read(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]], base: Path
) -> None:
    from rlhf_core.accounts.permissions import SYSTEM
    from rlhf_core.jobs.policy_params import parse_policy_params
    from rlhf_core.jobs.train_policy import enqueue_train_policy
    from rlhf_core.store.tables import Job

    with store.writing() as db:
        params = parse_policy_params(ppo(base)["params"])
        job = enqueue_train_policy(db, actor=SYSTEM, params=params)
        workflow = db.get_one(Job, job.id).workflow_id
    attempt = runs.claim_run(store, job.id, workflow, "test")
    tracker = JobTracker(store, job.id, attempt or 0)
    tracker.metrics(1, {"reward": 0.5})
    tracker.samples(1, [Sample("p", "first", "then", 0.5), Sample("p", "second", "then")])
    tracker.close()
    found = client.get(f"/api/v1/jobs/{job.id}/curves", headers=bearer(*TRAINER)).json()
    assert found["metrics"] == [{"name": "reward", "step": 1, "value": 0.5}]
    assert [one["completion"] for one in found["samples"]] == ["first", "second"]
    assert found["samples"][0]["reference"] == "then"


def test_what_stands_against_a_run_is_said_and_nothing_starts(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]], base: Path
) -> None:
    trainer = bearer(*TRAINER)
    refused = client.post("/api/v1/training/policies", headers=trainer, json=ppo(base))
    assert refused.status_code == 422
    assert "0 prompts, 50 more needed" in refused.text
    nobody = ppo(base, rewards=[{"model": "reward"}])
    assert (
        "no reward model 'reward'"
        in client.post("/api/v1/training/policies", headers=trainer, json=nobody).text
    )
    unknown = ppo(base, colour="red")
    assert "colour" in client.post("/api/v1/training/policies", headers=trainer, json=unknown).text
    assert client.get("/api/v1/jobs", headers=trainer).json() == {"jobs": []}
    reader = bearer(Permission.READ_MODELS)
    assert client.get("/api/v1/jobs", headers=reader).status_code == 403
    assert (
        client.post("/api/v1/training/policies", headers=reader, json=ppo(base)).status_code == 403
    )


def test_feedback_chooses_the_reward_model_and_few_labels_train_no_policy(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    trainer = bearer(*TRAINER)
    started = client.post("/api/v1/training/rewards", headers=trainer, json={"priority": 2})
    assert (started.status_code, started.json()["kind"]) == (202, "train_sbert")
    assert started.json()["priority"] == 2
    advice = client.get("/api/v1/training/advice", headers=trainer).json()
    assert advice["learner"] is None
    assert "rerank" in advice["why"]


def test_examination_of_a_reward_model_is_queued_and_takes_no_judge(
    store: Store, client: TestClient, bearer: Callable[..., dict[str, str]]
) -> None:
    with store.writing() as db:
        promote_reward_model(db)
    wanted = {"model": "reward", "number": 1, "dataset": "ratings"}
    trainer = bearer(*TRAINER)
    route = "/api/v1/training/examinations"
    assert client.post(route, headers=trainer, json=wanted).status_code == 404
    judged = client.post(route, headers=trainer, json={**wanted, "judge": "reward"})
    assert "leave judge out" in judged.text
