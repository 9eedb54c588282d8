"""The job that trains a policy: find base, rewards and rows, train, examine, register.

The policy and its examination are registered in one transaction at the end of the run. A run that
fails leaves every earlier version in its place. A starter that a run makes to begin from is a
version of its own, registered as soon as it is there: the next run begins from it too.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.dataset.service import DatasetVersionView, get_version
from rlhf_core.errors import InvalidInput, TrainingFailed
from rlhf_core.examples import PromptOnly
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.learners import PartTracker
from rlhf_core.jobs.model_files import (
    clean_up,
    find_registered,
    make_kept,
    model_dir,
    publish_kept,
    remove_unregistered,
)
from rlhf_core.jobs.policy_bases import PolicyBase, base_of_version, find_policy_base
from rlhf_core.jobs.policy_examining import (
    ExaminingTracker,
    choose_options,
    describe_policy,
    examine_policy,
)
from rlhf_core.jobs.policy_leaks import find_all_learned, leave_out_learned
from rlhf_core.jobs.policy_learners import PolicyWork, learn, suggest_rates
from rlhf_core.jobs.policy_machines import dismiss_machines, learn_on_machines
from rlhf_core.jobs.policy_params import (
    POLICY_LEARNERS,
    TrainPolicyParams,
    parse_policy_params,
)
from rlhf_core.jobs.policy_plan import Plan, find_plan, keep_plan, note_plan
from rlhf_core.jobs.policy_ranks import learn_together
from rlhf_core.jobs.policy_rows import PolicyRows, find_all_texts, find_policy_rows, hash_texts
from rlhf_core.jobs.policy_speed import count_cost
from rlhf_core.jobs.service import JobView, enqueue_job
from rlhf_core.registry.evaluations import list_evaluations, record_evaluation
from rlhf_core.registry.service import REWARD_MODEL, find_production, register_version
from rlhf_core.registry.views import ModelVersionView, load_versions
from rlhf_core.store.tables import Model, ModelVersion
from rlhf_core.training import Tracker, TrainReport
from rlhf_core.vocabulary import JobKind, ModelKind, Resource, Split

__all__ = [
    "POLICY_LEARNERS",
    "TrainPolicyParams",
    "enqueue_train_policy",
    "parse_policy_params",
    "run_train_policy",
]

TRAINED_AT = 0.9  # of the run's progress; the examination takes the rest
STARTER_SHARE = 0.3  # of a run that makes its starter first


def enqueue_train_policy(
    db: Session,
    *,
    actor: Actor,
    params: TrainPolicyParams,
    resource: Resource | None = None,
    priority: int = 10,
) -> JobView:
    """Queue a run; `resource` chooses another queue than that of the GPUs.

    Raises:
        Conflict: an equal one is queued or running.
        NotFound: there is no such base, reward model, judge or frozen version.
        InvalidInput: one of them is of the wrong kind, the model's name is a reward model's, or a
            run on several machines is to wait in the queue of the CPU.
    """
    if params.num_machines > 1 and resource is Resource.CPU:
        raise InvalidInput(
            "A run on several machines waits in the GPU's queue, of which each worker, with a GPU "
            "or without, takes one job at a time: choose that queue.",
            field="resource",
        )
    find_plan(db, params)
    check_model_name(db, params.model)
    if params.number is not None:
        _check_purpose(params, get_version(db, params.dataset, params.number, actor=actor))
    return enqueue_job(
        db,
        actor=actor,
        kind=params.learner,
        params=params.to_json(),
        dedup_key=params.dedup_key(),
        resource=resource,
        priority=priority,
    )


def check_model_name(db: Session, name: str) -> None:
    """Raise InvalidInput where the name is that of reward models: one name serves one purpose."""
    name = name.strip()
    found = load_versions(db, Model.name == name, ModelVersion.deleted_at.is_(None))
    is_judge = any(one.kind not in (ModelKind.POLICY, ModelKind.POLICY_REMOTE) for one in found)
    if is_judge or name == REWARD_MODEL:
        raise InvalidInput(
            f"{name!r} is the name of a reward model: give the policy another one.", field="model"
        )


def run_train_policy(context: JobContext) -> dict[str, Any]:
    """Run it. A job registers one version, also when it is taken up again after a kill."""
    params = parse_policy_params(context.params)
    registered = find_registered(context)
    if registered is not None:
        return _tell(context, registered)
    plan = keep_plan(context, params)
    remove_unregistered(context)
    try:
        begin = 0.0
        if plan.base is not None and plan.base.is_missing:
            begin = STARTER_SHARE
            plan = replace(plan, base=_make_starter(context, params))
            note_plan(context, plan)
        rows = find_policy_rows(context, params)
        if rows.dataset is not None:
            _check_purpose(params, rows.dataset)
        started_at = time.monotonic()
        report = _train(context, params, plan, rows, begin=begin)
        took_s = time.monotonic() - started_at
        version = _finish(context, params, plan, rows, report)
    except BaseException:
        clean_up(context)
        raise
    context.tracker.log(
        f"Registered as {version.name}. Promote it on the page Models to let it answer."
    )
    told = _tell(context, version)
    if context.attempt == 1:  # of a run that was taken up again the speed is not known
        cost = count_cost(report, params, num_rows=len(rows.rows), took_s=took_s)
        told["cost"] = asdict(cost)
    return told


def _make_starter(context: JobContext, params: TrainPolicyParams) -> PolicyBase:
    """Make the starter that the run begins from, and register it."""
    starter = TrainPolicyParams(
        learner=JobKind.TRAIN_STARTER, model=params.model, rows=params.rows, options={}
    )
    with context.store.reading() as db:
        known = find_policy_base(db, params.base, model=params.model)
    if not known.is_missing:  # another run, or an attempt of this one, has made it meanwhile
        return known
    context.tracker.log("There is no starter policy yet: one is made of all interactions first.")
    texts = find_all_texts(context, params.rows)
    rows = PolicyRows(texts, (), None, hash_texts(texts))
    plan = Plan(None, None, (), None)
    report = _train(context, starter, plan, rows, begin=0.0, end=STARTER_SHARE, role="starter")
    artifact = publish_kept(context.work_dir / "starter", model_dir(context, "starter"))
    with context.store.writing() as db:
        version = register_version(
            db,
            actor=context.actor,
            model_name=params.model,
            kind=ModelKind.POLICY,
            report=_describe(report, starter, plan, rows),
            artifact=artifact,
            dataset_hash=rows.content_hash,
        )
    context.tracker.log(f"The starter is registered as {version.name}.")
    return base_of_version(version)


def _train(
    context: JobContext,
    params: TrainPolicyParams,
    plan: Plan,
    rows: PolicyRows,
    *,
    begin: float,
    end: float = TRAINED_AT,
    role: str = "policy",
) -> TrainReport:
    """Train the policy, or find the one that an earlier attempt finished, in the work folder."""
    kept = context.work_dir / role
    label = "" if role == "policy" else role
    tracker = PartTracker(context.tracker, begin=begin, end=end, label=label)
    known: dict[str, Any] = {}
    for name, found in (("base", plan.base), ("teacher", plan.teacher)):
        if found is not None:
            known[name] = found.open()
    if plan.base is not None:
        rates = suggest_rates(params, Path(known["base"]))
        known |= rates
        for name, rate in rates.items():
            context.tracker.log(f"The base is small: {name} {rate:g}, as none was asked for.")
    learner_params = params.learner_params(**known)
    checkpoints = kept / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    is_made: list[bool] = []

    def make(folder: Path) -> TrainReport:
        work = PolicyWork(
            learner=params.learner,
            params=learner_params,
            rows=rows.rows,
            out_dir=folder,
            work_dir=checkpoints,
            rewards=plan.rewards,
            judge=plan.judge,
        )
        is_made.append(True)
        report = _choose_way(context, params)(work, tracker)
        if tracker.should_stop():  # what a learner returns then may be half a policy
            raise TrainingFailed("Stopped on request; the run goes on from its last checkpoint.")
        return report

    report = make_kept(kept, make, label=f"The {role}", log=context.tracker.log)
    if params.num_machines > 1 and not is_made:
        dismiss_machines(context)  # an earlier attempt had finished: nobody calls them
    return report


def _choose_way(
    context: JobContext, params: TrainPolicyParams
) -> Callable[[PolicyWork, Tracker], TrainReport]:
    if params.num_machines > 1:
        return lambda work, tracker: learn_on_machines(
            context, work, tracker, num_machines=params.num_machines, count=params.num_processes
        )
    if params.num_processes == 1:
        return learn
    return lambda work, tracker: learn_together(work, tracker, count=params.num_processes)


def _finish(
    context: JobContext,
    params: TrainPolicyParams,
    plan: Plan,
    rows: PolicyRows,
    report: TrainReport,
) -> ModelVersionView:
    """Examine the policy and register it with what was found."""
    examination = _examine(context, params, plan, rows, report)
    artifact = publish_kept(context.work_dir / "policy", model_dir(context, "policy"))
    dataset = rows.dataset
    with context.store.writing() as db:
        check_model_name(db, params.model)
        version = register_version(
            db,
            actor=context.actor,
            model_name=params.model,
            kind=ModelKind.POLICY,
            report=_describe(report, params, plan, rows),
            artifact=artifact,
            job_id=context.job_id,
            dataset_version_id=None if dataset is None else dataset.id,
            dataset_hash=rows.content_hash,
        )
        if examination is not None and dataset is not None:
            record_evaluation(
                db,
                actor=context.actor,
                version_id=version.id,
                dataset_version_id=dataset.id,
                job_id=context.job_id,
                split=Split.TEST.value,
                num_rows=int(examination["num_rows"]),
                examination_json=examination,
            )
    return version


def _examine(
    context: JobContext,
    params: TrainPolicyParams,
    plan: Plan,
    rows: PolicyRows,
    report: TrainReport,
) -> dict[str, Any] | None:
    """What the prompts that were kept back say; None where there are none, or nobody judges."""
    judge = plan.judge or (plan.rewards[0] if plan.rewards else None)
    if plan.base is None or judge is None or not rows.test:
        return None
    prompts = _leave_out_known(context, plan, rows)
    if not prompts:
        context.tracker.log("The policy is not examined: who judges knows all test prompts.")
        return None
    context.tracker.progress(TRAINED_AT, f"Examining on {len(prompts)} prompts")
    tracker = ExaminingTracker(context.tracker, begin=TRAINED_AT, end=1.0, label="")
    try:
        return examine_policy(
            report.artifact_dir,
            base=plan.base,
            production=_find_serving(context, params.model),
            prompts=prompts,
            judge=judge,
            seed=params.seed,
            tracker=tracker,
            options=choose_options(report.params),
        )
    except (TrainingFailed, InvalidInput) as error:
        if tracker.should_stop():
            raise
        context.tracker.log(f"The policy is not examined: {error}")  # no reason to throw it away
        return None


def _leave_out_known(context: JobContext, plan: Plan, rows: PolicyRows) -> list[PromptOnly]:
    """The test prompts that neither a reward model of the run nor its judge learned from.

    Parts are dealt by prompt, but near duplicates stay together: more data may move some.
    """
    sources = [*plan.rewards, *([plan.judge] if plan.judge else [])]
    with context.store.reading() as db:
        learned = find_all_learned(db, context.actor, sources)
    unseen = leave_out_learned(rows.test, learned)
    if told := unseen.describe():
        context.tracker.log(f"Of the test prompts {told}.")
    return unseen.prompts


def _find_serving(context: JobContext, model: str) -> PolicyBase | None:
    with context.store.reading() as db:
        serving = find_production(db, model)
    return None if serving is None else base_of_version(serving)


def _describe(
    report: TrainReport, params: TrainPolicyParams, plan: Plan, rows: PolicyRows
) -> TrainReport:
    """The report with the names of what the policy was made of, in place of folders."""
    own = dict(report.params)
    named: dict[str, Any] = {"learner": params.learner.value, "role": "policy"}
    if rows.is_demo:
        named["is_demo"] = True  # it goes when the demo world is cleared
    for name, found in (("base", plan.base), ("teacher", plan.teacher)):
        if found is not None:
            own[name] = found.name
            named[name] = {"name": found.name, "version_id": found.version_id}
    if plan.rewards:
        named["rewards"] = [
            {"name": source.name, "version_id": source.version_id, "weight": source.part.weight}
            for source in plan.rewards
        ]
    if plan.judge is not None:
        named["held_out"] = {"name": plan.judge.name, "version_id": plan.judge.version_id}
    return replace(report, params=own, details={**report.details, **named})


def _check_purpose(params: TrainPolicyParams, version: DatasetVersionView) -> None:
    wanted = POLICY_LEARNERS[params.learner]
    if version.purpose is not wanted:
        raise InvalidInput(
            f"The learner {params.learner.value} learns from {wanted.value}, {version.name} holds "
            f"{version.purpose.value}: choose other rows, or another learner.",
            field="dataset",
        )


def _tell(context: JobContext, version: ModelVersionView) -> dict[str, Any]:
    with context.store.reading() as db:
        examined = list_evaluations(db, version.id, actor=context.actor)
    metrics = examined[0].metrics if examined else None
    return {
        "message": describe_policy(version, metrics),
        "model": version.model_name,
        "version": version.number,
        "version_id": str(version.id),
        "dataset": version.dataset,
        "metrics": version.metrics,
        "examination": metrics,
        "base": (version.details.get("base") or {}).get("name"),
        "judge": (version.details.get("held_out") or {}).get("name"),
    }
