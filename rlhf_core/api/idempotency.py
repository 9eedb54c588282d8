"""`Idempotency-Key`: the repetition of a request gets the answer of the first, and does nothing."""

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Header
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from rlhf_core.accounts.permissions import Actor
from rlhf_core.api.writer import Writer
from rlhf_core.clock import utcnow
from rlhf_core.errors import Conflict, InvalidInput
from rlhf_core.store.tables import IdempotencyKey
from rlhf_core.store.upsert import changed_rows, insert_if_absent

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 200
KEPT_DAYS = 7
MAX_TRIES = 3
FORGET_EVERY, FORGET_AT_ONCE = 500, 1_000
"""After so many answers, so many old ones are deleted: always quick, and more than are added."""

_num_stored = itertools.count(1)

KeyHeader = Annotated[
    str | None,
    Header(
        alias=HEADER,
        description="Any text of 1 to 200 printable characters. A repetition with the same key and "
        f"body, within {KEPT_DAYS} days, gets the first answer and stores nothing more.",
    ),
]


@dataclass(frozen=True)
class Answer:
    """What a request gets; `was_replayed` where it was answered before."""

    status_code: int
    body: dict[str, Any]
    was_replayed: bool = False


class _Raced(Exception):
    """The same key was committed by another request at this moment."""


async def answer_once(
    writer: Writer,
    work: Callable[[Session], Answer],
    *,
    actor: Actor,
    key: str | None,
    route: str,
    body: BaseModel,
) -> Answer:
    """Run `work` in a transaction, or return what it answered to the same key before.

    The answer is stored in the transaction of the work itself: both are kept, or neither. A
    request that fails keeps nothing, so its repetition is tried anew.

    Raises:
        InvalidInput: the key is malformed, or was used with another body.
    """
    if key is None:
        return await writer.run(work)
    if not key or len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            f"{HEADER}: use 1 to {MAX_KEY_CHARS} printable ASCII characters", field=HEADER
        )
    request_hash = hashlib.sha256(
        f"{route}\n{body.model_dump_json(exclude_unset=True)}".encode(errors="surrogatepass")
    ).hexdigest()

    def work_once(db: Session) -> Answer:
        known = db.execute(
            sa.select(
                IdempotencyKey.request_hash, IdempotencyKey.status_code, IdempotencyKey.response
            ).where(IdempotencyKey.account_id == actor.account_id, IdempotencyKey.key == key)
        ).one_or_none()
        if known is not None:
            if known.request_hash != request_hash:
                raise InvalidInput(
                    f"{HEADER}: {key!r} was used with another body; use a new key for a new "
                    "request",
                    field=HEADER,
                )
            return Answer(known.status_code, known.response, was_replayed=True)
        answer = work(db)
        row = {
            "account_id": actor.account_id,
            "key": key,
            "request_hash": request_hash,
            "status_code": answer.status_code,
            "response": answer.body,
            "created_at": utcnow(),
        }
        if insert_if_absent(db, IdempotencyKey, [row]) == 0:
            raise _Raced  # rolls our work back; the next try finds the other's answer
        if next(_num_stored) % FORGET_EVERY == 0:
            forget_old_answers(db)
        return answer

    for _ in range(MAX_TRIES):
        try:
            return await writer.run(work_once)
        except _Raced:
            continue
    raise Conflict(f"{HEADER}: {key!r} is in use by another request; try again.")


def respond(answer: Answer) -> JSONResponse:
    """The answer as it is sent, with a header where it is a repetition's."""
    headers = {"Idempotency-Replayed": "true"} if answer.was_replayed else None
    return JSONResponse(answer.body, status_code=answer.status_code, headers=headers)


def forget_old_answers(db: Session) -> int:
    """Delete up to `FORGET_AT_ONCE` answers older than `KEPT_DAYS`; return how many."""
    row_id = sa.tuple_(IdempotencyKey.account_id, IdempotencyKey.key)
    old = (
        sa.select(IdempotencyKey.account_id, IdempotencyKey.key)
        .where(IdempotencyKey.created_at < utcnow() - timedelta(days=KEPT_DAYS))
        .limit(FORGET_AT_ONCE)
        .with_for_update(skip_locked=True)  # two at once delete other rows
    )
    delete = sa.delete(IdempotencyKey).where(row_id.in_(old))
    return changed_rows(db.execute(delete.execution_options(synchronize_session=False)))
