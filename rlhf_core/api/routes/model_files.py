"""One version: its record, card, lineage and files, and what is written on it.

Behind the routes with fixed last words in the app's list: `/{number}` would take them as numbers.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.routes.models import ModelVersionOut, Name, Number, Reader
from rlhf_core.api.schemas import REFUSALS, Out
from rlhf_core.demo.marks import find_marks
from rlhf_core.jobs.model_exchange import read_card
from rlhf_core.registry.deletion import delete_version, remove_deleted_files
from rlhf_core.registry.files import (
    begin_download,
    check_files,
    file_stem,
    get_storage,
    stream_zip,
)
from rlhf_core.registry.labels import MAX_NOTES_CHARS, MAX_TAGS, set_notes, set_tags
from rlhf_core.registry.lineage import (
    LineageDataset,
    LineageRun,
    Relative,
    find_trained_on,
    get_lineage,
    list_lineage_rows,
)
from rlhf_core.registry.lineage_raters import list_lineage_raters
from rlhf_core.registry.reasons import MAX_REASON_CHARS
from rlhf_core.registry.service import get_version_by_number
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetPurpose, JobKind, JobState, RaterKind, Split

router = APIRouter(responses=REFUSALS)

PATH = "/v1/models/{name}/{number}"
MAX_ROWS = 1_000
Promoter = Annotated[Actor, needs(Permission.PROMOTE_MODELS)]
Exporter = Annotated[Actor, needs(Permission.EXPORT_DATA)]


class VersionOut(ModelVersionOut):
    """All that is recorded of a version."""

    job_id: uuid.UUID | None
    dataset_version_id: uuid.UUID | None
    manifest_sha256: str
    params: dict[str, Any]
    details: dict[str, Any]
    seed: int
    library_versions: dict[str, str]
    deleted_at: datetime | None


class LabelsIn(BaseModel):
    """What to write on a version; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    notes: str | None = Field(None, max_length=MAX_NOTES_CHARS)
    tags: list[str] | None = Field(None, max_length=MAX_TAGS)


class RunOut(Out):
    """The job that made the version."""

    id: uuid.UUID
    kind: JobKind
    state: JobState
    created_by: str | None
    created_at: datetime
    finished_at: datetime | None


class LineageDatasetOut(Out):
    """The frozen rows. `num_gone` have lost their interaction since."""

    id: uuid.UUID
    name: str
    purpose: DatasetPurpose
    content_hash: str
    num_rows: int
    num_gone: int
    parts: dict[str, int]
    frozen_at: datetime


class RelativeOut(Out):
    """A version that it was made of, or that was made of it."""

    role: str
    name: str
    version_id: uuid.UUID | None


class RaterOut(Out):
    """Somebody whose judgements the rows hold."""

    rater_id: uuid.UUID
    name: str
    rater_kind: RaterKind
    num_judgements: int


class LineageOut(Out):
    """Where the version comes from. End users are counted, never listed."""

    version_id: uuid.UUID
    version: str
    run: RunOut | None
    dataset: LineageDatasetOut | None
    parents: list[RelativeOut]
    children: list[RelativeOut]
    raters: list[RaterOut]
    num_end_users: int
    num_by_end_users: int


class RowOut(Out):
    """A frozen row, and the beginning of the interaction that it came from."""

    row_number: int
    split: Split
    interaction_id: uuid.UUID | None
    feedback_id: uuid.UUID | None
    comparison_id: uuid.UUID | None
    prompt: str | None
    completion: str | None
    occurred_at: datetime | None


class RowsOut(Out):
    """Some of the rows in their order, and how many there are."""

    rows: list[RowOut]
    num_all: int


class TrainedOnOut(Out):
    """A version that learned from the row; `through` names the version that it has it from."""

    version_id: uuid.UUID
    version: str
    dataset: str
    row_numbers: list[int]
    splits: list[Split]
    through: str


class TrainedOnAllOut(Out):
    """The versions that learned from an interaction."""

    versions: list[TrainedOnOut]


class CheckedOut(Out):
    """Every byte of so many files is as it was registered."""

    num_files: int


class ModelStorageOut(Out):
    """What a model's versions weigh."""

    model_name: str
    num_versions: int
    num_bytes: int
    num_deleted: int


class StorageOut(Out):
    """Room that models take, and what is free."""

    models: list[ModelStorageOut]
    num_bytes: int
    free_bytes: int | None


@router.get("/v1/storage", response_model=StorageOut, summary="How much room the models take")
async def get_model_storage(actor: Reader) -> Any:
    """By model, the heaviest first."""
    return await run_in_threadpool(_storage, actor)


@router.get(
    "/v1/interactions/{interaction_id}/models",
    response_model=TrainedOnAllOut,
    summary="Which versions learned from an interaction",
)
async def get_trained_on(actor: Reader, interaction_id: uuid.UUID) -> Any:
    """Those with the row in their own dataset, and those made of them.

    Needs `read_interactions` too.
    """
    return await run_in_threadpool(_trained_on, actor, interaction_id)


@router.get(PATH, response_model=VersionOut, summary="All that is recorded of a version")
async def get_one(actor: Reader, name: Name, number: Number) -> Any:
    """Also of a deleted one."""
    return await run_in_threadpool(_get, actor, name, number)


@router.patch(PATH, response_model=VersionOut, summary="Replace a version's notes or tags")
async def patch_labels(actor: Promoter, name: Name, number: Number, body: LabelsIn) -> Any:
    """An empty text removes the notes, an empty list the tags."""
    return await run_in_threadpool(_label, actor, name, number, body)


@router.delete(PATH, response_model=VersionOut, summary="Delete a version's files")
async def delete_one(
    actor: Promoter,
    name: Name,
    number: Number,
    reason: Annotated[str, Query(min_length=1, max_length=MAX_REASON_CHARS)],
) -> Any:
    """Refused (409) while anything needs it. Its history stays."""
    return await run_in_threadpool(_delete, actor, name, number, reason)


@router.get(
    f"{PATH}/card",
    response_class=Response,
    responses={200: {"description": "Markdown", "content": {"text/markdown": {}}}},
    summary="The model card",
)
async def get_card(actor: Reader, name: Name, number: Number) -> Response:
    """Written from the facts as they are now."""
    text = await run_in_threadpool(_card, actor, name, number)
    return Response(text, media_type="text/markdown")


@router.get(f"{PATH}/lineage", response_model=LineageOut, summary="Where a version comes from")
async def get_version_lineage(actor: Reader, name: Name, number: Number) -> Any:
    """Run, dataset, raters, and the versions around it. Needs `read_analytics` too."""
    return await run_in_threadpool(_lineage, actor, name, number)


@router.get(f"{PATH}/rows", response_model=RowsOut, summary="The rows that a version learned from")
async def get_rows(
    actor: Reader,
    name: Name,
    number: Number,
    limit: Annotated[int, Query(ge=1, le=MAX_ROWS)] = 100,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Any:
    """Each with the interaction that it came from. Needs `read_interactions` too."""
    return await run_in_threadpool(_rows, actor, name, number, limit, offset)


@router.post(f"{PATH}/check", response_model=CheckedOut, summary="Verify a version's files")
async def post_check(actor: Reader, name: Name, number: Number) -> Any:
    """Reads every byte. 422 names the file that is not as it was registered."""
    return await run_in_threadpool(_check, actor, name, number)


@router.get(
    f"{PATH}/files",
    response_class=StreamingResponse,
    responses={200: {"description": "A zip", "content": {"application/zip": {}}}},
    summary="A version's files as a zip",
)
async def get_files(actor: Exporter, name: Name, number: Number) -> StreamingResponse:
    """The files as they are, their manifest and the model card, streamed. Needs `read_models` too.

    The download is in the audit.
    """
    chunks, stem = await run_in_threadpool(_zip, actor, name, number)
    return StreamingResponse(
        chunks,
        media_type="application/zip",
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(stem)}.zip"},
    )


def _storage(actor: Actor) -> dict[str, Any]:
    with get_store().reading() as db:
        found = get_storage(db, actor=actor)
    return {**vars(found), "models": [vars(one) for one in found.models]}


def _trained_on(actor: Actor, interaction_id: uuid.UUID) -> dict[str, Any]:
    with get_store().reading() as db:
        found = find_trained_on(db, interaction_id, actor=actor)
    return {
        "versions": [
            {**vars(one), "version": one.version.name, "version_id": one.version.id}
            for one in found
        ]
    }


def _get(actor: Actor, name: str, number: int) -> dict[str, Any]:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        return {**vars(version), "is_demo": version.id in find_marks(db).model_versions}


def _label(actor: Actor, name: str, number: int, body: LabelsIn) -> dict[str, Any]:
    with get_store().writing() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        if body.notes is not None:
            set_notes(db, version.id, actor=actor, notes=body.notes)
        if body.tags is not None:
            set_tags(db, version.id, actor=actor, tags=body.tags)
    return _get(actor, name, number)


def _delete(actor: Actor, name: str, number: int, reason: str) -> dict[str, Any]:
    with get_store().writing() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        delete_version(db, version.id, actor=actor, reason=reason)
    with get_store().reading() as db:
        remove_deleted_files(db)
    return _get(actor, name, number)


def _card(actor: Actor, name: str, number: int) -> str:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        return read_card(db, version.id, actor=actor)


def _lineage(actor: Actor, name: str, number: int) -> dict[str, Any]:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        found = get_lineage(db, version.id, actor=actor)
        raters = list_lineage_raters(db, version.id, actor=actor)
    return {
        "version_id": version.id,
        "version": version.name,
        "run": _plain(found.run),
        "dataset": _plain(found.dataset),
        "parents": [_relative(one) for one in found.parents],
        "children": [_relative(one) for one in found.children],
        "raters": [vars(one) for one in raters.raters],
        "num_end_users": raters.num_end_users,
        "num_by_end_users": raters.num_by_end_users,
    }


def _plain(part: LineageRun | LineageDataset | None) -> dict[str, Any] | None:
    return None if part is None else vars(part)


def _relative(one: Relative) -> dict[str, Any]:
    version_id = None if one.version is None else one.version.id
    return {"role": one.role, "name": one.name, "version_id": version_id}


def _rows(actor: Actor, name: str, number: int, limit: int, offset: int) -> dict[str, Any]:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        found = list_lineage_rows(db, version.id, actor=actor, limit=limit, offset=offset)
    return {"rows": [vars(row) for row in found.rows], "num_all": found.num_all}


def _check(actor: Actor, name: str, number: int) -> dict[str, int]:
    with get_store().reading() as db:
        version = get_version_by_number(db, name, number, actor=actor)
    return {"num_files": check_files(version)}


def _zip(actor: Actor, name: str, number: int) -> tuple[Iterator[bytes], str]:
    """The stream with its first chunk made, so that damaged files are an answer, not half a zip."""
    with get_store().writing() as db:
        version = get_version_by_number(db, name, number, actor=actor)
        begin_download(db, version, actor=actor, how="api")
        card = read_card(db, version.id, actor=actor)
    chunks = stream_zip(version, card=card)
    return chain([next(chunks)], chunks), file_stem(version)
