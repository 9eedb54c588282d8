"""The job that trains a reward model: freeze the rows, train, examine, register.

All that comes out of a run (the version, its judge, their examinations) is registered in one
transaction at its end. A run that fails leaves every earlier version in its place.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import get_settings
from rlhf_core.dataset.readiness import MIN_ROWS
from rlhf_core.dataset.service import DatasetVersionView, get_version, load_rows
from rlhf_core.errors import InvalidInput, NotEnoughData
from rlhf_core.examples import Example
from rlhf_core.jobs.context import JobContext
from rlhf_core.jobs.durations import RunCost, base_of, count_row_epochs, estimate_duration_s
from rlhf_core.jobs.examining import describe, examine_model
from rlhf_core.jobs.frozen_rows import find_rows
from rlhf_core.jobs.learners import Assignment, Trained, Trainer
from rlhf_core.jobs.model_files import clean_up, find_registered, remove_unregistered
from rlhf_core.jobs.service import JobView, enqueue_job
from rlhf_core.jobs.train_params import (
    JUDGE_SUFFIX,
    LEARNERS,
    TrainRewardParams,
    describe_misfit,
    parse_train_params,
)
from rlhf_core.registry.evaluations import list_evaluations, record_evaluation
from rlhf_core.registry.service import register_version
from rlhf_core.registry.views import ModelVersionView
from rlhf_core.serving.loader import open_model
from rlhf_core.training import TrainReport
from rlhf_core.vocabulary import ModelKind, Resource, Split

__all__ = [
    "LEARNERS",
    "TrainRewardParams",
    "enqueue_train_reward",
    "estimate_duration_s",
    "parse_train_params",
    "run_train_reward",
]

TRAINING_SHARE = 0.9  # of the run's progress; the examination takes the rest


@dataclass(frozen=True)
class _Made:
    """A model of the run with its examination (None where no rows are kept for one)."""

    trained: Trained
    examination: dict[str, Any] | None


def enqueue_train_reward(
    db: Session,
    *,
    actor: Actor,
    params: TrainRewardParams,
    resource: Resource | None = None,
    priority: int = 10,
) -> JobView:
    """Queue a run; `resource` chooses another queue than the learner's own.

    Raises:
        Conflict: an equal one is queued or running.
        NotFound: there is no such frozen version.
        InvalidInput: it holds rows that the learner cannot learn from.
    """
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


def run_train_reward(context: JobContext) -> dict[str, Any]:
    """Run it. A job registers one version, also when it is taken up again after a kill."""
    params = parse_train_params(context.params)
    registered = find_registered(context)
    if registered is not None:
        return _tell(context, registered)
    dataset = _find_rows(context, params)
    trainer = Trainer(context, params)
    remove_unregistered(context)
    try:
        made = _make_models(context, params, dataset, trainer)
        version = _register(context, params, dataset, made)
    except BaseException:
        clean_up(context)
        raise
    context.tracker.log(
        f"Registered as {version.name}. Promote it on the page Models to let it serve."
    )
    cost = _count_cost(
        params, dataset, list(made.values()), trainer, is_resumed=context.attempt > 1
    )
    return {**_tell(context, version), "cost": asdict(cost)}


def _find_rows(context: JobContext, params: TrainRewardParams) -> DatasetVersionView:
    """The frozen version to learn from."""
    version = find_rows(
        context,
        name=params.dataset_name,
        number=params.number,
        rows=params.rows,
        test_percent=params.test_percent,
    )
    _check_purpose(params, version)
    return version


def _make_models(
    context: JobContext, params: TrainRewardParams, dataset: DatasetVersionView, trainer: Trainer
) -> dict[str, _Made]:
    """The models of the run by role."""
    # A learner keeps rows of its own to choose by: all that is not for the examination is for it.
    learned = [
        row for part in (Split.TRAIN, Split.VALIDATION) for row in load_rows(dataset, split=part)
    ]
    kept = load_rows(dataset, split=Split.TEST)
    roles = _deal_rows(params, learned, need=MIN_ROWS[dataset.purpose])
    trained: dict[str, Trained] = {}
    for number, (role, rows) in enumerate(roles.items()):
        work = Assignment(
            role=role,
            rows=rows,
            begin=TRAINING_SHARE * number / len(roles),
            end=TRAINING_SHARE * (number + 1) / len(roles),
        )
        trained[role] = trainer.train(work)
        context.tracker.log(f"The {role} was trained in {trained[role].took_s:.1f} s.")
    if not kept:
        context.tracker.log(
            f"{dataset.name} keeps no rows for an examination; the figures are those of the "
            "training run."
        )
    return {
        role: _Made(found, _examine(context, params, dataset, found, roles[role], kept, role))
        for role, found in trained.items()
    }


def _deal_rows(
    params: TrainRewardParams, rows: Sequence[Example], *, need: int
) -> dict[str, Sequence[Example]]:
    """Which model learns from which rows: with a judge, halves that share no prompt."""
    if not params.with_judge:
        return {"model": rows}
    if len(rows) < 2 * need:
        raise NotEnoughData(
            have=len(rows), need=2 * need, what="rows for a model and a judge on halves of them"
        )
    from rlhf_core.rewards.ensemble import halve_by_prompt

    first, second = halve_by_prompt(rows, params.seed)
    return {"model": first, "judge": second}


def _examine(
    context: JobContext,
    params: TrainRewardParams,
    dataset: DatasetVersionView,
    found: Trained,
    learned: Sequence[Example],
    rows: Sequence[Example],
    role: str,
) -> dict[str, Any] | None:
    if not rows:
        return None
    context.tracker.progress(TRAINING_SHARE, f"Examining the {role} on {len(rows)} rows")
    model = open_model(params.model_kind, found.artifact.path, is_caching=True)
    try:
        examination = examine_model(
            model,
            rows,
            dataset=dataset,
            train_rows=learned,
            threshold=params.threshold,
            seed=params.seed,
        )
    except NotEnoughData as error:  # all of them ties: no reason to throw the model away
        context.tracker.log(f"The {role} is not examined on the {len(rows)} test rows: {error}")
        return None
    context.tracker.log(
        f"The {role} on {len(rows)} test rows: {describe(examination.get('metrics', {}))}."
    )
    return examination


def _register(
    context: JobContext,
    params: TrainRewardParams,
    dataset: DatasetVersionView,
    made: dict[str, _Made],
) -> ModelVersionView:
    with context.store.writing() as db:
        details: dict[str, Any] = {}
        if "judge" in made:
            judge = _register_one(context, db, params, dataset, made["judge"], role="judge")
            details = {"judge": judge.name, "judge_version_id": str(judge.id)}
        return _register_one(
            context, db, params, dataset, made["model"], role="model", details=details
        )


def _register_one(
    context: JobContext,
    db: Session,
    params: TrainRewardParams,
    dataset: DatasetVersionView,
    made: _Made,
    *,
    role: str,
    details: dict[str, Any] | None = None,
) -> ModelVersionView:
    is_model = role == "model"
    report = made.trained.report
    named = {"learner": params.learner.value, "role": role, **(details or {})}
    version = register_version(
        db,
        actor=context.actor,
        model_name=params.model if is_model else params.model + JUDGE_SUFFIX,
        kind=params.model_kind,
        report=replace(report, details={**report.details, **named}),
        artifact=made.trained.artifact,
        job_id=context.job_id if is_model else None,
        dataset_version_id=dataset.id,
        dataset_hash=dataset.content_hash,
    )
    if made.examination is not None:
        record_evaluation(
            db,
            actor=context.actor,
            version_id=version.id,
            dataset_version_id=dataset.id,
            job_id=context.job_id,
            split=Split.TEST.value,
            num_rows=int(made.examination["num_rows"]),
            examination_json=made.examination,
        )
    return version


def _check_purpose(params: TrainRewardParams, version: DatasetVersionView) -> None:
    if version.purpose not in LEARNERS[params.learner]:
        raise InvalidInput(describe_misfit(params.learner, version.purpose), field="dataset")


def _count_cost(
    params: TrainRewardParams,
    dataset: DatasetVersionView,
    made: Sequence[_Made],
    trainer: Trainer,
    *,
    is_resumed: bool,
) -> RunCost:
    """Of a run that was taken up again only the last attempt was timed: its speed is not known."""
    reports: list[TrainReport] = [each.trained.report for each in made]
    seconds = [report.details.get("seconds") for report in reports]
    embedding_s = [part.get("embedding", 0.0) for part in seconds if isinstance(part, dict)]
    return RunCost(
        encoder=get_settings().encoder if trainer.has_encoder else "",
        num_rows=dataset.num_rows,
        num_prompts=dataset.num_groups,
        num_embedded=trainer.num_embedded,
        embedding_s=float(sum(embedding_s)),
        took_s=sum(each.trained.took_s for each in made),
        base=base_of(params),
        row_epochs=0 if is_resumed else count_row_epochs(params, dataset.num_rows),
        num_models=params.seeds * len(made),
    )


def _tell(context: JobContext, version: ModelVersionView) -> dict[str, Any]:
    with context.store.reading() as db:
        examined = list_evaluations(db, version.id, actor=context.actor)
    metrics = version.metrics
    message = f"Trained {version.name}"
    if version.kind is ModelKind.REWARD_ENSEMBLE:
        message += f" of {int(metrics.get('num_members', 0))} members"
    if examined:
        message += f": {describe(examined[0].metrics)} on {examined[0].num_rows} test rows"
    elif "auc" in metrics:
        message += f": AUC {metrics['auc']:.3f} on prompts not seen"
        if "length_only_auc" in metrics:
            message += f", {metrics['length_only_auc']:.3f} by length alone"
    return {
        "message": message + ".",
        "model": version.model_name,
        "version": version.number,
        "version_id": str(version.id),
        "dataset": version.dataset,
        "metrics": metrics,
        "examination": examined[0].metrics if examined else None,
        "judge": version.details.get("judge"),
    }
