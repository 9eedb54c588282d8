"""Training over HTTP: start runs, follow them, end them."""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.api.auth import needs
from rlhf_core.api.idempotency import Answer, KeyHeader, answer_once, respond
from rlhf_core.api.schemas import REFUSALS, Out
from rlhf_core.demo.marks import find_marks
from rlhf_core.errors import InvalidInput
from rlhf_core.jobs import service
from rlhf_core.jobs.evaluate import enqueue_evaluate
from rlhf_core.jobs.evaluate_policy import enqueue_evaluate_policy
from rlhf_core.jobs.policy_checks import check_policy, estimate_policy, recommend_policy
from rlhf_core.jobs.policy_params import TrainPolicyParams, parse_policy_params
from rlhf_core.jobs.reward_advice import recommend_reward
from rlhf_core.jobs.samples import list_samples
from rlhf_core.jobs.service import JobView
from rlhf_core.jobs.train_params import parse_train_params
from rlhf_core.jobs.train_policy import enqueue_train_policy
from rlhf_core.jobs.train_reward import enqueue_train_reward
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import JobKind, JobState, ModelKind, Resource

router = APIRouter(responses=REFUSALS)

MAX_NUMBER = 2**31 - 1
NO_NUL = r"^[^\x00]*$"
Trainer = Annotated[Actor, needs(Permission.RUN_JOBS)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=NO_NUL)]
Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]


class StrictIn(BaseModel):
    """A body without fields of other names."""

    model_config = ConfigDict(extra="forbid")


class RunIn(StrictIn):
    """A training run. `params`: the fields of a job of that kind, as its `params` show them.

    Without `learner` among the `params` of a reward model, the feedback chooses it.
    """

    params: dict[str, Any] = Field(default_factory=dict)
    resource: Resource | None = None
    priority: Annotated[int, Field(ge=1, le=1_000)] = 10


class ExaminationIn(StrictIn):
    """An examination of a version. `judge` is of policies only."""

    model: Name
    number: Number
    dataset: Name
    dataset_number: Number | None = None
    split: Annotated[str, Field(max_length=20, pattern=NO_NUL)] = "test"
    judge: Name | None = None


class JobOut(Out):
    """A job. `progress` 0..1; `message` is the sentence for people."""

    id: uuid.UUID
    kind: JobKind
    state: JobState
    resource: Resource
    priority: int
    params: dict[str, Any]
    progress: float
    message: str | None
    result: dict[str, Any] | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class MarkedJobOut(JobOut):
    """A job as it is read. `is_demo`: rows of the demo world are what it worked on."""

    is_demo: bool


class JobsOut(Out):
    """Jobs, newest first."""

    jobs: list[MarkedJobOut]


class MetricOut(Out):
    """One number of a run at one step."""

    name: str
    step: int
    value: float


class SampleOut(Out):
    """An answer of a policy at a step, beside its reference's."""

    step: int
    prompt: str
    completion: str
    reference: str
    reward: float | None


class CurvesOut(Out):
    """All numbers of a run, and the answers that it showed."""

    metrics: list[MetricOut]
    samples: list[SampleOut]


class EstimateOut(Out):
    """About what a run takes; `wait` says what it will wait for."""

    took_s: float
    memory_mb: float
    device: str
    fits: bool
    sentence: str
    cost: float | None
    wait: str | None


class CheckOut(Out):
    """`obstacles`: what stands against the run, each a sentence; empty where it may start."""

    obstacles: list[str]
    estimate: EstimateOut


class AdviceOut(Out):
    """What to train with the feedback that is there; `learner` null: nothing yet, and why."""

    learner: JobKind | None
    why: str


@router.post(
    "/v1/training/rewards",
    status_code=202,
    response_model=JobOut,
    summary="Train a reward model",
)
async def post_reward_run(
    request: Request, run: RunIn, actor: Trainer, idempotency_key: KeyHeader = None
) -> JSONResponse:
    """Queue the run. It freezes its rows, trains, examines and registers; it promotes nothing."""
    plain = await run_in_threadpool(_choose_learner, actor, run.params)
    params = parse_train_params(plain)

    def work(db: Session) -> JobView:
        return enqueue_train_reward(
            db, actor=actor, params=params, resource=run.resource, priority=run.priority
        )

    return await queue_job(request, work, actor, idempotency_key, "POST /v1/training/rewards", run)


@router.post(
    "/v1/training/policies", status_code=202, response_model=JobOut, summary="Train a policy"
)
async def post_policy_run(
    request: Request, run: RunIn, actor: Trainer, idempotency_key: KeyHeader = None
) -> JSONResponse:
    """Queue the run where nothing stands against it."""
    params = parse_policy_params(run.params)
    obstacles = await run_in_threadpool(_find_obstacles, actor, params)
    if obstacles:
        raise InvalidInput(" ".join(obstacles))

    def work(db: Session) -> JobView:
        return enqueue_train_policy(
            db, actor=actor, params=params, resource=run.resource, priority=run.priority
        )

    return await queue_job(request, work, actor, idempotency_key, "POST /v1/training/policies", run)


@router.post(
    "/v1/training/policies/check",
    response_model=CheckOut,
    summary="What a policy's run takes, and what stands against it",
)
async def post_policy_check(run: RunIn, actor: Trainer) -> Any:
    """Start nothing. Also needs `manage_datasets`."""
    return await run_in_threadpool(_check, actor, parse_policy_params(run.params))


@router.get(
    "/v1/training/advice", response_model=AdviceOut, summary="How to train a policy now, and why"
)
async def get_advice(actor: Annotated[Actor, needs(Permission.MANAGE_DATASETS)]) -> Any:
    """The learner that suits the feedback that is there."""
    return await run_in_threadpool(_advise, actor)


@router.post(
    "/v1/training/examinations",
    status_code=202,
    response_model=JobOut,
    summary="Examine a version of a model",
)
async def post_examination(
    request: Request, wanted: ExaminationIn, actor: Trainer, idempotency_key: KeyHeader = None
) -> JSONResponse:
    """Queue it, on a part of a frozen dataset; `GET /v1/models/.../evaluations` has the result."""

    def work(db: Session) -> JobView:
        return _enqueue_examination(db, actor, wanted)

    route = "POST /v1/training/examinations"
    return await queue_job(request, work, actor, idempotency_key, route, wanted)


@router.get("/v1/jobs", response_model=JobsOut, summary="Background jobs, newest first")
async def get_jobs(
    actor: Trainer,
    state: Annotated[JobState | None, Query()] = None,
    kind: Annotated[JobKind | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
) -> Any:
    """All jobs, or those of a state or kind."""
    return await run_in_threadpool(_list_jobs, state, kind, limit)


@router.get("/v1/jobs/{job_id}", response_model=MarkedJobOut, summary="A job as it stands")
async def get_job(actor: Trainer, job_id: uuid.UUID) -> Any:
    """Its state, how far it is, and its result once it has one."""
    return await run_in_threadpool(_read_job, job_id)


@router.get("/v1/jobs/{job_id}/curves", response_model=CurvesOut, summary="What a run has measured")
async def get_curves(actor: Trainer, job_id: uuid.UUID) -> Any:
    """Numbers by name and step, and the answers of a policy by step. Also needs `read_models`."""
    return await run_in_threadpool(_read_curves, actor, job_id)


@router.post("/v1/jobs/{job_id}/cancel", response_model=JobOut, summary="Cancel a job")
async def post_cancel(request: Request, actor: Trainer, job_id: uuid.UUID) -> Any:
    """A queued one at once; a running one is asked to end, and killed after a moment."""
    return await _change(request, lambda db: service.cancel_job(db, job_id, actor=actor))


@router.post("/v1/jobs/{job_id}/retry", response_model=JobOut, summary="Start a job again")
async def post_retry(request: Request, actor: Trainer, job_id: uuid.UUID) -> Any:
    """A failed or canceled one, from its last checkpoint."""
    return await _change(request, lambda db: service.retry_job(db, job_id, actor=actor))


async def queue_job(
    request: Request,
    work: Callable[[Session], JobView],
    actor: Actor,
    key: str | None,
    route: str,
    body: BaseModel,
) -> JSONResponse:
    """Queue a job once for each idempotency key, and answer with it."""
    answer = await answer_once(
        request.app.state.writer,
        lambda db: Answer(202, _plain(work(db))),
        actor=actor,
        key=key,
        route=route,
        body=body,
    )
    return respond(answer)


async def _change(request: Request, work: Callable[[Session], JobView]) -> dict[str, Any]:
    changed: JobView = await request.app.state.writer.run(work)
    return vars(changed)


def _plain(job: JobView) -> dict[str, Any]:
    return JobOut.model_validate(vars(job)).model_dump(mode="json")


def _choose_learner(actor: Actor, params: Mapping[str, Any]) -> dict[str, Any]:
    if "learner" in params or "rows" in params:
        return dict(params)
    require(actor, Permission.MANAGE_DATASETS)
    with get_store().reading() as db:
        found = recommend_reward(db, actor=actor)
    purposes = {JobKind.TRAIN_STEPS: {"rows": {"purpose": "steps"}}}
    return {**purposes.get(found.learner, {}), **params, "learner": found.learner.value}


def _find_obstacles(actor: Actor, params: TrainPolicyParams) -> list[str]:
    with get_store().reading() as db:
        return check_policy(db, actor=actor, params=params)


def _check(actor: Actor, params: TrainPolicyParams) -> dict[str, Any]:
    from rlhf_core.dataset.readiness import check_readiness

    with get_store().reading() as db:
        have = check_readiness(db, actor=actor, params=params.rows).have
        estimate = estimate_policy(db, params, num_rows=have)
        return {
            "obstacles": check_policy(db, actor=actor, params=params),
            "estimate": vars(estimate),
        }


def _advise(actor: Actor) -> dict[str, Any]:
    with get_store().reading() as db:
        return vars(recommend_policy(db, actor=actor))


def _enqueue_examination(db: Session, actor: Actor, wanted: ExaminationIn) -> JobView:
    version = get_version_by_number(db, wanted.model, wanted.number, actor=actor)
    if version.kind is ModelKind.POLICY:
        return enqueue_evaluate_policy(
            db,
            actor=actor,
            version_id=version.id,
            dataset=wanted.dataset,
            number=wanted.dataset_number,
            judge=wanted.judge,
            split=wanted.split,
        )
    if wanted.judge is not None:
        raise InvalidInput(
            f"{version.name} is a reward model: leave judge out, it is of policies.", field="judge"
        )
    return enqueue_evaluate(
        db,
        actor=actor,
        version_id=version.id,
        dataset=wanted.dataset,
        number=wanted.dataset_number,
        split=wanted.split,
    )


def _list_jobs(state: JobState | None, kind: JobKind | None, limit: int) -> dict[str, Any]:
    with get_store().reading() as db:
        found = service.list_jobs(db, states=[state] if state else (), kind=kind, limit=limit)
        marked = find_marks(db).jobs
    return {"jobs": [{**vars(job), "is_demo": job.id in marked} for job in found]}


def _read_job(job_id: uuid.UUID) -> dict[str, Any]:
    with get_store().reading() as db:
        return {**vars(service.get_job(db, job_id)), "is_demo": job_id in find_marks(db).jobs}


def _read_curves(actor: Actor, job_id: uuid.UUID) -> dict[str, Any]:
    with get_store().reading() as db:
        service.get_job(db, job_id)
        return {
            "metrics": [vars(point) for point in service.list_metrics(db, job_id)],
            "samples": [vars(sample) for sample in list_samples(db, job_id, actor=actor)],
        }
