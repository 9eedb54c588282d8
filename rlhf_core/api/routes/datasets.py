"""Frozen datasets: which there are, and their rows as a file."""

import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import IO, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.api.auth import needs
from rlhf_core.api.schemas import REFUSALS, Out
from rlhf_core.dataset.export import (
    MEDIA_TYPES,
    SUFFIXES,
    begin_export,
    export_name,
    export_version,
)
from rlhf_core.dataset.service import get_version, list_versions
from rlhf_core.demo.marks import find_marks
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetFormat, DatasetPurpose, Split

router = APIRouter(responses=REFUSALS)

IN_MEMORY_BYTES = 8 * 2**20
CHUNK_BYTES = 2**18
MAX_NUMBER = 2**31 - 1


class DatasetVersionOut(Out):
    """A frozen version. `left_out` counts by reason what gave no row; `card` describes the rows.

    `is_demo`: rows of the demo world are in it.
    """

    id: uuid.UUID
    dataset: str
    number: int
    purpose: DatasetPurpose
    content_hash: str
    params: dict[str, Any]
    num_rows: int
    num_groups: int
    left_out: dict[str, int]
    card: dict[str, Any]
    created_by: str | None
    created_at: datetime
    is_demo: bool


class DatasetsOut(Out):
    """All versions, by name, newest first."""

    versions: list[DatasetVersionOut]


@router.get("/v1/datasets", response_model=DatasetsOut, summary="All frozen datasets")
async def get_datasets(actor: Annotated[Actor, needs(Permission.MANAGE_DATASETS)]) -> Any:
    """Every version of every dataset with its data card."""
    return await run_in_threadpool(_list_versions, actor)


@router.get(
    "/v1/datasets/{name}/{number}/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The file",
            "content": {media: {} for media in MEDIA_TYPES.values()},
        }
    },
    summary="The rows of a frozen dataset as a file",
)
async def get_export(
    actor: Annotated[Actor, needs(Permission.EXPORT_DATA)],
    name: Annotated[str, Path(max_length=200)],
    number: Annotated[int, Path(ge=1, le=MAX_NUMBER)],
    format: Annotated[DatasetFormat, Query()],
    split: Annotated[Split | None, Query()] = None,
) -> StreamingResponse:
    """The same bytes as from the page and the command line. Also needs `manage_datasets`.

    `split` chooses the rows of one part; without it, all.
    """
    file, file_name = await run_in_threadpool(_export, actor, name, number, format, split)
    return StreamingResponse(
        _chunks(file),
        media_type=MEDIA_TYPES[SUFFIXES[format]],
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name)}"},
    )


def _list_versions(actor: Actor) -> dict[str, Any]:
    with get_store().reading() as db:
        versions = list_versions(db, actor=actor)
        marked = find_marks(db).dataset_versions
    return {"versions": [{**vars(one), "is_demo": one.id in marked} for one in versions]}


def _export(
    actor: Actor, name: str, number: int, format: DatasetFormat, split: Split | None
) -> tuple[IO[bytes], str]:
    """The whole file, on the disk where it is large; so a failure is an answer, not half a file."""
    with get_store().writing() as db:
        version = get_version(db, name, number, actor=actor)
        begin_export(db, actor=actor, version=version, format=format, split=split)
    file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
    try:
        export_version(version, format, file, split=split)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file, export_name(version, format, split)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
