"""The registry of models: which versions there are, and what examinations said of them."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.schemas import REFUSALS, Out
from rlhf_core.demo.marks import find_marks
from rlhf_core.registry.evaluations import list_evaluations
from rlhf_core.registry.service import get_version_by_number, list_versions
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import Alias, ModelKind

router = APIRouter(responses=REFUSALS)

MAX_NUMBER = 2**31 - 1
NO_NUL = r"^[^\x00]*$"
Name = Annotated[str, Path(max_length=200, pattern=NO_NUL)]
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]
Reader = Annotated[Actor, needs(Permission.READ_MODELS)]


class ModelVersionOut(Out):
    """A trained model. `metrics` are those of its training; `aliases` name it now.

    `is_demo`: rows of the demo world made it.
    """

    id: uuid.UUID
    model_name: str
    number: int
    kind: ModelKind
    aliases: list[Alias]
    dataset: str | None
    dataset_hash: str | None
    metrics: dict[str, float]
    num_bytes: int
    notes: str | None
    tags: list[str]
    created_by: str | None
    created_at: datetime
    is_demo: bool


class ModelsOut(Out):
    """The versions, newest first by model."""

    versions: list[ModelVersionOut]


class EvaluationOut(Out):
    """An examination. `examination` is all of it: intervals, slices, reliability, baselines."""

    id: uuid.UUID
    model_version_id: uuid.UUID
    dataset_version_id: uuid.UUID | None
    dataset: str | None
    split: str
    num_rows: int
    metrics: dict[str, float]
    examination: dict[str, Any]
    created_by: str | None
    created_at: datetime


class EvaluationsOut(Out):
    """The examinations of a version, the latest first."""

    evaluations: list[EvaluationOut]


@router.get("/v1/models", response_model=ModelsOut, summary="The versions of all models")
async def get_models(
    actor: Reader,
    model: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
    tag: Annotated[str | None, Query(max_length=100, pattern=NO_NUL)] = None,
) -> Any:
    """Every version that is not deleted, of all models or of one, with a tag or without."""
    return await run_in_threadpool(_list_versions, actor, model, tag)


@router.get(
    "/v1/models/{name}/{number}/evaluations",
    response_model=EvaluationsOut,
    summary="What examinations said of a version",
)
async def get_evaluations(actor: Reader, name: Name, number: Number) -> Any:
    """The figures with their intervals, beside baselines, by slice; the latest first."""
    return await run_in_threadpool(_list_evaluations, actor, name, number)


def _list_versions(actor: Actor, model: str | None, tag: str | None) -> dict[str, Any]:
    with get_store().reading() as db:
        versions = list_versions(db, actor=actor, model_name=model, tag=tag)
        marked = find_marks(db).model_versions
    return {"versions": [{**vars(one), "is_demo": one.id in marked} for one in versions]}


def _list_evaluations(actor: Actor, name: str, number: int) -> dict[str, Any]:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        found = list_evaluations(db, version.id, actor=actor)
    return {"evaluations": [vars(evaluation) for evaluation in found]}
