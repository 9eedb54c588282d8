"""Versions of a model side by side on the same frozen rows."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.idempotency import KeyHeader
from rlhf_core.api.routes.training import (
    NO_NUL,
    JobOut,
    Name,
    Number,
    StrictIn,
    Trainer,
    queue_job,
)
from rlhf_core.api.schemas import REFUSALS, Out
from rlhf_core.jobs.compare_versions import MAX_VERSIONS, enqueue_compare_versions
from rlhf_core.jobs.service import JobView
from rlhf_core.queues.reward_pairs import PeopleVerdict, create_version_queue, list_people
from rlhf_core.registry.comparisons import ComparisonHead, get_comparison, list_comparisons
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import QueueSubject

router = APIRouter(responses=REFUSALS)

PATH = "/v1/version-comparisons"
Reader = Annotated[Actor, needs(Permission.READ_MODELS)]
Overlap = Annotated[int, Field(ge=1, le=100)]


class VersionComparisonIn(StrictIn):
    """Which versions on which frozen rows; the first one is what the others are compared with.

    Prompts that one of them learned from are left out, unless `with_learned`. `judge` (a reward
    model, name@number) is of policies only.
    """

    model: Name
    numbers: Annotated[list[Number], Field(min_length=2, max_length=MAX_VERSIONS)]
    dataset: Name
    dataset_number: Number | None = None
    split: Annotated[str, Field(max_length=20, pattern=NO_NUL)] = "test"
    judge: Name | None = None
    with_learned: bool = False


class VersionQueueIn(StrictIn):
    """Which version people judge beside `other_number` (null: the first one compared)."""

    number: Number
    other_number: Number | None = None
    overlap: Overlap = 1


class VersionQueueOut(Out):
    """A blind queue of what two versions disagree on."""

    queue_id: uuid.UUID
    name: str
    subject: QueueSubject
    num_items: int


class PeopleOut(Out):
    """With whom people side: `win_rate` is of `version`, with its 95 % interval."""

    queue_id: uuid.UUID
    version: str
    other: str
    subject: QueueSubject
    is_open: bool
    num_items: int
    num_judged: int
    win_rate: float | None
    low: float | None
    high: float | None


class VersionComparisonHeadOut(Out):
    """Which versions were compared on what, and what people said of them."""

    id: uuid.UUID
    model_name: str
    version_ids: list[uuid.UUID]
    dataset: str | None
    split: str
    num_rows: int
    people: list[PeopleOut]
    job_id: uuid.UUID | None
    created_by: str | None
    created_at: datetime


class VersionComparisonOut(VersionComparisonHeadOut):
    """A comparison. `result` is all of it: figures and paired differences with intervals."""

    result: dict[str, Any]


class VersionComparisonsOut(Out):
    """The newest comparisons, the latest first."""

    comparisons: list[VersionComparisonHeadOut]


@router.post(
    PATH,
    status_code=202,
    response_model=JobOut,
    summary="Compare versions of a model on the same frozen rows",
)
async def post_version_comparison(
    request: Request,
    wanted: VersionComparisonIn,
    actor: Trainer,
    idempotency_key: KeyHeader = None,
) -> JSONResponse:
    """Queue it; its result names the comparison. Also needs `read_models`, `manage_datasets`."""

    def work(db: Session) -> JobView:
        versions = [
            get_version_by_number(db, wanted.model, number, actor=actor)
            for number in wanted.numbers
        ]
        return enqueue_compare_versions(
            db,
            actor=actor,
            version_ids=[version.id for version in versions],
            dataset=wanted.dataset,
            number=wanted.dataset_number,
            split=wanted.split,
            judge=wanted.judge,
            with_learned=wanted.with_learned,
        )

    return await queue_job(request, work, actor, idempotency_key, f"POST {PATH}", wanted)


@router.get(PATH, response_model=VersionComparisonsOut, summary="Comparisons of versions")
async def get_version_comparisons(
    actor: Reader,
    model: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
) -> Any:
    """Of all models or of one, with what people said of them so far; one by one, what was found."""
    return await run_in_threadpool(_list, actor, model)


@router.get(
    f"{PATH}/{{comparison_id}}", response_model=VersionComparisonOut, summary="One comparison"
)
async def get_version_comparison(actor: Reader, comparison_id: uuid.UUID) -> Any:
    """All that it found, and what people said so far."""
    return await run_in_threadpool(_get, actor, comparison_id)


@router.post(
    f"{PATH}/{{comparison_id}}/queue",
    status_code=201,
    response_model=VersionQueueOut,
    summary="Let people judge, blind, what two versions disagree on",
)
async def post_version_queue(
    request: Request,
    comparison_id: uuid.UUID,
    wanted: VersionQueueIn,
    actor: Annotated[Actor, needs(Permission.MANAGE_QUEUES)],
) -> Any:
    """The result enters the comparison. Also needs `read_models`; policies `write_interactions`."""

    def work(db: Session) -> dict[str, Any]:
        model = get_comparison(db, comparison_id, actor=actor).model_name
        version = get_version_by_number(db, model, wanted.number, actor=actor)
        other = None
        if wanted.other_number is not None:
            other = get_version_by_number(db, model, wanted.other_number, actor=actor).id
        queue = create_version_queue(
            db,
            actor=actor,
            comparison_id=comparison_id,
            version_id=version.id,
            other_id=other,
            overlap=wanted.overlap,
        )
        return {**vars(queue), "queue_id": queue.id}

    return await request.app.state.writer.run(work)


def _list(actor: Actor, model: str | None) -> dict[str, Any]:
    with get_store().reading() as db:
        found = list_comparisons(db, actor=actor, model_name=model)
        return {"comparisons": _describe(db, found, actor)}


def _get(actor: Actor, comparison_id: uuid.UUID) -> dict[str, Any]:
    with get_store().reading() as db:
        return _describe(db, [get_comparison(db, comparison_id, actor=actor)], actor)[0]


def _describe(db: Session, found: Sequence[ComparisonHead], actor: Actor) -> list[dict[str, Any]]:
    said = defaultdict(list)
    for people in list_people(db, actor=actor, comparison_ids=[one.id for one in found]):
        said[people.comparison_id].append(_tell(people))
    return [{**vars(one), "people": said[one.id]} for one in found]


def _tell(people: PeopleVerdict) -> dict[str, Any]:
    verdict = people.verdict
    rate = verdict.win_rate
    return {
        "queue_id": verdict.queue_id,
        "version": people.version,
        "other": verdict.other,
        "subject": people.subject,
        "is_open": verdict.is_open,
        "num_items": verdict.num_pairs,
        "num_judged": verdict.num_compared,
        "win_rate": None if rate is None else rate.value,
        "low": None if rate is None else rate.low,
        "high": None if rate is None else rate.high,
    }
