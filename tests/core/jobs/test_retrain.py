"""Retraining: its parts are jobs of their own, which this process works off as a worker would."""

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from rlhf_core.accounts.permissions import SYSTEM
from rlhf_core.config import get_settings
from rlhf_core.errors import Conflict, InvalidInput, RlhfError
from rlhf_core.jobs import service
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.kinds import KINDS
from rlhf_core.jobs.retrain import RetrainParams, enqueue_retrain, run_retrain
from rlhf_core.jobs.runs import claim_run
from rlhf_core.jobs.service import JobView
from rlhf_core.jobs.tracker import JobTracker
from rlhf_core.registry.service import find_production, promote_version
from rlhf_core.store.engine import Store
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, JobState
from tests.core.jobs.trained import Log, add_ratings, list_models, work_dir_of
from tests.core.jobs.trained_policies import QUICK
from tests.core.jobs.world import until
from tests.core.policies.tiny_policies import make_policy
from tests.databases import only_sqlite, postgres_is_slow

FAST = {"options": {"folds": 2, "regularisation": [0.1]}}


def enqueue(store: Store, **fields: Any) -> JobView:
    with store.writing() as db:
        params = RetrainParams(**({"reward": FAST} | fields))
        return enqueue_retrain(db, actor=SYSTEM, params=params)


def claim(store: Store, job_id: uuid.UUID) -> int:
    with store.reading() as db:
        workflow_id = db.scalar(sa.select(Job.workflow_id).where(Job.id == job_id))
    attempt = claim_run(store, job_id, workflow_id or "", "test:cpu")
    assert attempt is not None
    return attempt


def context_of(store: Store, job: JobView, attempt: int, tracker: Any) -> JobContext:
    work_dir = work_dir_of(job)
    work_dir.mkdir(parents=True, exist_ok=True)
    return JobContext(
        job_id=job.id, attempt=attempt, params=job.params, actor=SYSTEM, tracker=tracker,
        store=store, work_dir=work_dir,
    )  # fmt: skip


class Attempt(threading.Thread):
    """One attempt of a retraining."""

    def __init__(self, store: Store, job: JobView) -> None:
        super().__init__(daemon=True)
        self.log = Log()
        self.result: dict[str, Any] = {}
        self.error: RlhfError | None = None
        self._context = context_of(store, job, claim(store, job.id), self.log)
        self.start()

    def run(self) -> None:
        try:
            self.result = run_retrain(self._context)
        except RlhfError as error:
            self.error = error


def find_queued(store: Store) -> JobView | None:
    with store.reading() as db:
        jobs = service.list_jobs(db, states=[JobState.QUEUED])
    return next((job for job in jobs if job.kind is not JobKind.RETRAIN), None)


def work_off(store: Store, job: JobView) -> None:
    """Run a part as its process would."""
    tracker = JobTracker(store, job.id, claim(store, job.id))
    try:
        result = KINDS[job.kind](context_of(store, job, 1, tracker))
    except RlhfError as error:
        tracker.finish(JobState.FAILED, str(error))
        return
    from rlhf_core.jobs.run import to_plain

    plain = to_plain(result)
    tracker.finish(JobState.SUCCEEDED, plain.pop("message"), result=plain)


def retrain(store: Store, work: Callable[[Store, JobView], None] = work_off, **fields: Any) -> Any:
    """Run a retraining to its end; returns the attempt with its result."""
    job = enqueue(store, **fields)
    attempt = Attempt(store, job)
    while attempt.is_alive():
        part = find_queued(store)
        if part is not None:
            work(store, part)
        attempt.join(0.05)
    with store.writing() as db:
        values = {"state": JobState.SUCCEEDED, "dedup_key": None}
        db.execute(sa.update(Job).where(Job.id == job.id).values(values))
    return attempt


@postgres_is_slow
def test_it_trains_examines_and_proposes_but_never_promotes(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 120)
    first = retrain(store).result
    (version,) = list_models(store)
    assert [c["version_id"] for c in first["candidates"]] == [str(version.id)]
    assert "Nothing was promoted" in first["message"]
    assert "Nothing serves" in first["message"]

    with store.writing() as db:
        promote_version(db, version.id, actor=SYSTEM, reason="first", expected_revision=0)
        add_ratings(db, 5, seed=1)
    second = retrain(store).result
    newest = list_models(store)[0]
    assert newest.number == 2
    with store.reading() as db:
        serving = find_production(db)
    assert serving is not None
    assert serving.number == 1, "it only proposes"
    assert "reward v1, which serves: AUC" in second["candidates"][0]["comparison"]


@only_sqlite
def test_policy_is_trained_with_the_reward_model_that_was_just_made(
    store: Store, tmp_path: Path
) -> None:
    with store.writing() as db:
        add_ratings(db, 60)
    policy = {
        "learner": "train_ppo", "base": str(make_policy(tmp_path / "base")),
        "options": {**QUICK, "updates": 1},
    }  # fmt: skip
    done = retrain(store, what="both", policy=policy)
    assert done.error is None, done.error
    reward, made = done.result["candidates"]
    assert (reward["model"], made["model"]) == ("reward", "assistant")
    by_name = {version.name: version for version in list_models(store)}
    assert [r["name"] for r in by_name["assistant v1"].details["rewards"]] == ["reward v1"]
    assert "reward-judge v1" in by_name, "rows enough: one is held out for the audit"
    assert done.result["version_id"] == made["version_id"]


@only_sqlite
def test_policy_waits_until_there_is_enough_to_learn_from(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 30)
    done = retrain(store, what="both")
    assert (
        "No policy was trained: 120 ratings and comparisons, 200 are needed"
        in (done.result["message"])
    )
    assert [c["model"] for c in done.result["candidates"]] == ["reward"]


@postgres_is_slow
def test_without_new_ratings_it_is_skipped_with_a_reason(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 30)
    retrain(store)
    skipped = retrain(store).result
    assert skipped["is_skipped"]
    assert "0 new ratings and comparisons since the newest version of reward" in skipped["message"]
    with store.writing() as db:
        add_ratings(db, 2, seed=1)
    assert "8 new ratings" in retrain(store, min_new=9).result["message"]
    assert not retrain(store, min_new=8).result["is_skipped"]
    assert len(list_models(store)) == 2


@only_sqlite
def test_too_little_data_is_a_reason_to_skip(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 10)
    skipped = retrain(store).result
    assert skipped["message"] == (
        "Skipped: 20 rated interactions, 30 more needed: rate or import more, then start again."
    )
    assert find_queued(store) is None


@postgres_is_slow
def test_second_one_is_refused_while_one_is_under_way(store: Store) -> None:
    job = enqueue(store)
    with pytest.raises(Conflict, match=str(job.id)):
        enqueue(store, reward={**FAST, "model": "other"})


@postgres_is_slow
def test_attempt_after_a_kill_finds_its_part_and_starts_no_second(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 30)
    job = enqueue(store)
    first = Attempt(store, job)
    part = until("the part is queued", lambda: find_queued(store))
    first.log._stop_after = "The reward model"  # this attempt ends; its part does not
    first.join(10)
    assert first.error is not None
    with store.writing() as db:
        db.execute(sa.update(Job).where(Job.id == job.id).values(state=JobState.QUEUED))
    work_off(store, part)
    second = Attempt(store, job)
    second.join(30)
    assert second.result["candidates"][0]["job_id"] == str(part.id)
    assert len(list_models(store)) == 1


@only_sqlite
def test_failed_part_fails_it_with_the_sentence_and_a_retry_repeats_it(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 30)

    def break_down(store: Store, part: JobView) -> None:
        tracker = JobTracker(store, part.id, claim(store, part.id))
        tracker.finish(JobState.FAILED, "The disk is full.")

    failed = retrain(store, break_down)
    assert "failed. The disk is full." in str(failed.error)
    with store.writing() as db:
        (job,) = service.list_jobs(db, kind=JobKind.RETRAIN)
        db.execute(sa.update(Job).where(Job.id == job.id).values(state=JobState.FAILED))
        service.retry_job(db, job.id, actor=SYSTEM)
    again = Attempt(store, job)
    work_off(store, until("the part is queued again", lambda: find_queued(store)))
    again.join(30)
    assert again.result["candidates"]


@postgres_is_slow
def test_cancel_takes_the_parts_with_it(store: Store) -> None:
    with store.writing() as db:
        add_ratings(db, 30)
    job = enqueue(store)
    attempt = Attempt(store, job)
    part = until("the part is queued", lambda: find_queued(store))
    with store.writing() as db:
        service.cancel_job(db, job.id, actor=SYSTEM)
        assert service.get_job(db, part.id).state is JobState.CANCELED
    attempt.join(10)
    assert "canceled" in str(attempt.error)


@postgres_is_slow
def test_run_that_somebody_started_is_waited_for_and_not_canceled_with_it(store: Store) -> None:
    from rlhf_core.jobs.train_reward import enqueue_train_reward

    with store.writing() as db:
        add_ratings(db, 30)
        theirs = enqueue_train_reward(
            db, actor=SYSTEM, params=RetrainParams(reward=FAST).reward_params()
        )
    job = enqueue(store)
    attempt = Attempt(store, job)
    until("it waits", lambda: any(str(theirs.id) in line for line in attempt.log.lines))
    with store.writing() as db:
        service.cancel_job(db, job.id, actor=SYSTEM)
        assert service.get_job(db, theirs.id).state is JobState.QUEUED
    attempt.log._stop_after = "The reward model"
    attempt.join(10)


@postgres_is_slow
def test_wrong_parameters_are_refused(store: Store) -> None:
    for wrong in ({"what": "all"}, {"min_new": -1}, {"reward": {"seeds": 0}}):
        with pytest.raises(InvalidInput):
            enqueue(store, **wrong)
    assert not (get_settings().data_dir / "work").exists()
