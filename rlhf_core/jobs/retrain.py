"""The job that trains anew what has new feedback: dataset, reward model, examination, policy.

It computes nothing itself. Each part is a job of its own with its curves, its place in the queue
and its checkpoints; this one starts them in turn and waits. What comes out is registered and
proposed, never promoted.
"""

import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.params import DatasetParams, parse_params
from rlhf_core.dataset.readiness import check_readiness
from rlhf_core.errors import Conflict, InvalidInput, NotEnoughData, NotFound, TrainingFailed
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.evaluate import enqueue_evaluate
from rlhf_core.jobs.examining import SHOWN
from rlhf_core.jobs.frozen_rows import MIN_ROWS_TO_SPLIT
from rlhf_core.jobs.heartbeats import find_worker_trouble
from rlhf_core.jobs.policy_params import POLICY_LEARNERS
from rlhf_core.jobs.retrain_params import (
    RetrainParams,
    count_new_feedback,
    find_last_learned,
    parse_retrain_params,
)
from rlhf_core.jobs.reward_advice import recommend_reward
from rlhf_core.jobs.service import JobView, enqueue_job, find_unfinished, get_job, retry_job
from rlhf_core.jobs.train_params import LEARNERS, TrainRewardParams, parse_train_params
from rlhf_core.jobs.train_reward import enqueue_train_reward
from rlhf_core.registry.service import find_production, get_version
from rlhf_core.store.tables import Job
from rlhf_core.vocabulary import JobKind, JobState

__all__ = ["RetrainParams", "enqueue_retrain", "parse_retrain_params", "run_retrain"]

DEDUP_KEY = JobKind.RETRAIN.value
"""One for all: of two at once each would hold a place in the queue that the other's parts need."""
LOOK_EVERY_S = 0.5
JUDGED_FROM = 2.2  # times the rows that one model needs: halves by prompt are not quite equal
Start = Callable[[Session], JobView]
Find = Callable[[Session], JobView | None]


def enqueue_retrain(
    db: Session, *, actor: Actor, params: RetrainParams, priority: int = 10
) -> JobView:
    """Queue a retraining. Conflict while another one, of whatever models, is under way."""
    return enqueue_job(
        db,
        actor=actor,
        kind=JobKind.RETRAIN,
        params=params.to_json(),
        dedup_key=DEDUP_KEY,
        priority=priority,
    )


def run_retrain(context: JobContext) -> dict[str, Any]:
    """Run it. Taken up again, it finds the parts that it started before."""
    params = parse_retrain_params(context.params)
    run = _Retraining(context, params)
    reason = run.find_nothing_to_do()
    if reason is not None:
        context.tracker.log(f"Skipped: {reason}")
        return {"message": f"Skipped: {reason}", "is_skipped": True, "candidates": []}
    if params.trains_reward:
        run.train_reward()
    if params.trains_policy:
        run.train_policy()
    return run.tell()


@dataclass
class _Retraining:
    """One attempt: the parts, and what has come of them."""

    context: JobContext
    params: RetrainParams
    candidates: list[dict[str, Any]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    def find_nothing_to_do(self) -> str | None:
        """Why nothing is trained; None where something is, or was begun by an earlier attempt."""
        with self.context.store.reading() as db:
            if _find_parts(db, self.context.job_id):
                return None
            model = self.params.model
            since = find_last_learned(db, model)
            num_new = count_new_feedback(db, since)
            self.context.tracker.log(
                f"{num_new:,} new ratings and comparisons"
                + (f" since {since:%Y-%m-%d %H:%M} UTC." if since else ".")
            )
            if num_new < self.params.min_new and not self._has_new_reward(db, since):
                newest = f" since the newest version of {model}" if since else ""
                return (
                    f"{num_new:,} new ratings and comparisons{newest}, it waits for "
                    f"{self.params.min_new:,}."
                )
            if not self.params.trains_reward:
                return None
            try:
                choose_reward(db, self.params, actor=self.context.actor)
            except (NotEnoughData, TrainingFailed) as error:
                return str(error)
            return None

    def train_reward(self) -> None:
        """Train the reward model, and examine what serves now on the same rows."""
        end = 0.4 if self.params.trains_policy else 0.9
        with self.context.store.reading() as db:
            wanted = choose_reward(db, self.params, actor=self.context.actor)
        job = self._run_part(
            "The reward model",
            LEARNERS,
            lambda db: enqueue_train_reward(db, actor=self.context.actor, params=wanted),
            find_same=lambda db: find_unfinished(db, wanted.dedup_key()),
            begin=0.02,
            end=end,
        )
        self._propose(job, self._compare_with_production(job, begin=end, end=end + 0.05))

    def train_policy(self) -> None:
        """Train the policy, with the reward model that was just made where one was."""
        from rlhf_core.jobs.train_policy import enqueue_train_policy

        wanted = self._choose_policy()
        if wanted is None:
            return

        job = self._run_part(
            "The policy",
            POLICY_LEARNERS,
            lambda db: enqueue_train_policy(db, actor=self.context.actor, params=wanted),
            find_same=lambda db: find_unfinished(db, wanted.dedup_key()),
            begin=0.5 if self.params.trains_reward else 0.02,
            end=0.95,
        )
        self._propose(job, "")

    def tell(self) -> dict[str, Any]:
        """The result of the job."""
        told = " ".join(self.sentences)
        if self.candidates:
            told += " Nothing was promoted: look at it in Models, then promote it."
        result: dict[str, Any] = {
            "message": told,
            "is_skipped": not self.candidates,
            "candidates": self.candidates,
        }
        if self.candidates:
            result["version_id"] = self.candidates[-1]["version_id"]
        return result

    def _choose_policy(self) -> Any:
        """The parameters of the policy's run; None where the data say that none should run."""
        from rlhf_core.jobs.policy_checks import recommend_policy

        made = self.candidates[-1] if self.candidates else None
        reward = f"{made['model']}@{made['version']}" if made else None
        if (self.params.policy or {}).get("learner"):
            return self.params.policy_params(reward=reward)
        with self.context.store.reading() as db:
            advice = recommend_policy(db, actor=self.context.actor)
        self.context.tracker.log(advice.why)
        if advice.learner is None:
            self.sentences.append(f"No policy was trained: {advice.why}")
            return None
        return self.params.policy_params(learner=advice.learner, reward=reward)

    def _has_new_reward(self, db: Session, since: Any) -> bool:
        """Whether a policy alone is retrained and its reward model is newer than it."""
        if self.params.trains_reward or since is None:
            return False
        read_at = find_last_learned(db, self.params.reward_params().model)
        return read_at is not None and read_at > since

    def _run_part(
        self,
        name: str,
        kinds: Collection[JobKind],
        start: Start,
        *,
        begin: float,
        end: float,
        find_same: Find = lambda _: None,
    ) -> JobView:
        """Start the part, or find the one that an earlier attempt started; wait for its success."""
        job = self._find_or_start(kinds, start, find_same)
        tracker = self.context.tracker
        tracker.log(f"{name}: run {job.id}.")
        job = self._wait(job, name, begin=begin, end=end)
        if job.state is not JobState.SUCCEEDED:
            said = job.message or "it says no reason"
            raise TrainingFailed(f"{name}: its run {job.id} {job.state.value}. {said}")
        tracker.log(f"{name}: {job.message}")
        return job

    def _find_or_start(self, kinds: Collection[JobKind], start: Start, find_same: Find) -> JobView:
        with self.context.store.writing() as db:
            self._hold(db)
            found = [job for job in _find_parts(db, self.context.job_id) if job.kind in kinds]
            if found and found[0].state in (JobState.FAILED, JobState.CANCELED):
                return retry_job(db, found[0].id, actor=self.context.actor)
            if found:
                return found[0]
            try:
                job = start(db)
            except Conflict:
                same = find_same(db)
                if same is None:
                    raise
                return same  # somebody's own run of the same: waited for, never canceled with us
            db.execute(
                sa.update(Job).where(Job.id == job.id).values(parent_job_id=self.context.job_id)
            )
            return job

    def _hold(self, db: Session) -> None:
        """Keep a cancel waiting until the part is there to be canceled with this job."""
        query = sa.select(Job.id).where(
            Job.id == self.context.job_id,
            Job.attempt == self.context.attempt,
            Job.state == JobState.RUNNING,
            Job.cancel_requested_at.is_(None),
        )
        if db.execute(query.with_for_update()).one_or_none() is None:
            raise TrainingFailed("The retraining was asked to end.")

    def _wait(self, job: JobView, name: str, *, begin: float, end: float) -> JobView:
        told = ""
        while not job.state.is_final:
            if self.context.tracker.should_stop():
                raise TrainingFailed("Stopped on request; the runs that were started go on.")
            time.sleep(LOOK_EVERY_S)
            with self.context.store.reading() as db:
                job = get_job(db, job.id)
                trouble = None
                if job.state is JobState.QUEUED:
                    trouble = find_worker_trouble(db, job.resource)
            said = trouble or job.message or job.state.value
            self.context.tracker.progress(
                begin + (end - begin) * job.progress, f"{name}: {said}" if said != told else ""
            )
            told = said
        return job

    def _compare_with_production(self, job: JobView, *, begin: float, end: float) -> str:
        """Examine what serves on the rows that the candidate was examined on; say who is better."""
        result = job.result or {}
        dataset, _, number = str(result.get("dataset") or "").rpartition(" v")
        with self.context.store.reading() as db:
            serving = find_production(db, str(result["model"]))
        if serving is None:
            return "Nothing serves under this name yet."
        if str(serving.id) == result["version_id"] or not result.get("examination"):
            return f"{serving.name} serves; there were no test rows to compare the two on."

        def start(db: Session) -> JobView:
            return enqueue_evaluate(
                db,
                actor=self.context.actor,
                version_id=serving.id,
                dataset=dataset,
                number=int(number),
            )

        try:
            examined = self._run_part(serving.name, [JobKind.EVALUATE], start, begin=begin, end=end)
        except (Conflict, InvalidInput, NotEnoughData, NotFound, TrainingFailed) as error:
            if self.context.tracker.should_stop():
                raise
            self.context.tracker.log(f"{serving.name} could not be examined beside it: {error}")
            return f"{serving.name} serves; it could not be examined on the same rows."
        return _tell_apart(
            serving.name, result["examination"], (examined.result or {}).get("metrics") or {}
        )

    def _propose(self, job: JobView, comparison: str) -> None:
        result = job.result or {}
        with self.context.store.reading() as db:
            version = get_version(
                db, uuid.UUID(str(result["version_id"])), actor=self.context.actor
            )
        self.candidates.append(
            {
                "model": version.model_name,
                "version": version.number,
                "version_id": str(version.id),
                "job_id": str(job.id),
                "comparison": comparison or None,
            }
        )
        self.sentences.append(f"Proposed: {version.name}. {job.message} {comparison}".strip())


def choose_reward(db: Session, params: RetrainParams, *, actor: Actor) -> TrainRewardParams:
    """The run of the reward model: what the retraining says, the rest as the data have it.

    Before a policy it is trained with a judge where there are rows enough for the two of them.
    Raises NotEnoughData or TrainingFailed where the rows cannot train it.
    """
    plain = dict(params.reward)
    if "learner" not in plain:
        learner = recommend_reward(db, actor=actor).learner
        if learner is JobKind.TRAIN_STEPS and params.trains_policy:
            learner = JobKind.TRAIN_SBERT
        plain["learner"] = learner.value
    learner = JobKind(plain["learner"])
    if plain.get("number") is not None or learner not in LEARNERS:
        return parse_train_params(plain)
    rows = parse_params(plain.get("rows") or DatasetParams(LEARNERS[learner][0]).to_json())
    purposes = [rows.purpose] if "rows" in plain else LEARNERS[learner]
    tried = [
        check_readiness(db, actor=actor, params=replace(rows, purpose=purpose))
        for purpose in purposes
    ]
    ready = next((each for each in tried if each.is_ready), tried[0])
    if ready.have < ready.need:
        raise NotEnoughData(have=ready.have, need=ready.need, what=ready.what)
    if ready.obstacle:
        raise TrainingFailed(ready.obstacle)
    wanted = parse_train_params({**plain, "rows": replace(rows, purpose=ready.purpose).to_json()})
    if "with_judge" not in plain and params.trains_policy:
        kept = wanted.test_percent / 100 if ready.have >= MIN_ROWS_TO_SPLIT else 0.0
        return replace(wanted, with_judge=ready.have * (1 - kept) >= JUDGED_FROM * ready.need)
    return wanted


def _find_parts(db: Session, job_id: uuid.UUID) -> list[JobView]:
    """The jobs that this one started, newest first."""
    query = sa.select(Job.id).where(Job.parent_job_id == job_id).order_by(Job.created_at.desc())
    return [get_job(db, part) for part in db.scalars(query)]


def _tell_apart(serving: str, new: dict[str, Any], old: dict[str, Any]) -> str:
    """Which of the two is better by the first figure that both have."""
    for name in SHOWN:
        if name in new and name in old and new[name] is not None and old[name] is not None:
            gap = new[name] - old[name]
            verdict = "better than" if gap > 0 else "no better than"
            return (
                f"On the same test rows it is {verdict} {serving}, which serves: "
                f"{SHOWN[name]} {new[name]:.3f} against {old[name]:.3f}."
            )
    return f"{serving} serves; no figure tells the two apart."
