"""The store into files, streamed. `native` holds everything and can be imported again.

Export, import into an empty database, export: the second file is the first, byte for byte. Raters
and users leave under their pseudonyms; a rater that is an account under a keyed pseudonym made of
it. Demo data and withdrawn feedback stay here.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, assert_never

from sqlalchemy.orm import Session

from rlhf_core.accounts.audit import record_event
from rlhf_core.accounts.permissions import Actor, Permission, require
from rlhf_core.config import get_settings
from rlhf_core.dataset.export import make_inert
from rlhf_core.errors import InvalidInput
from rlhf_core.privacy.pseudonyms import is_pseudonym, make_pseudonym
from rlhf_core.store.engine import Store
from rlhf_core.store.queries.exchange import (
    FeedbackRow,
    InteractionRow,
    Row,
    list_sources,
    stream_comparisons,
    stream_interactions,
)
from rlhf_core.vocabulary import Choice, ExportFormat

PROGRESS_LINES = 1_000
FEEDBACK_A_LINE = 5_000
CSV_COLUMNS = (
    "source", "external_id", "chat_id", "message_id", "model_name", "action_type", "occurred_at",
    "prompt", "completion", "step", "step_content", "rater", "rater_kind", "thumb", "rating",
    "label", "comment", "correction", "feedback_at",
)  # fmt: skip


@dataclass(frozen=True)
class ExportReport:
    """What was written."""

    lines: int
    num_bytes: int
    path: Path | None


def export_file(
    store: Store,
    path: Path,
    *,
    format: ExportFormat,
    actor: Actor,
    source: str | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> ExportReport:
    """Write all (or one source) into a file, which appears only when it is whole.

    Args:
        store: where from.
        path: the file to write; an existing one is replaced.
        format: what to write.
        actor: who exports; needs the permission to export data.
        source: only interactions and comparisons of this source.
        on_progress: called with the number of lines written so far.

    Raises:
        Forbidden: the actor may not.
        InvalidInput: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as out:
            report = export_to(
                store, out, format=format, actor=actor, source=source, on_progress=on_progress
            )
        part.replace(path)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)
    return ExportReport(report.lines, report.num_bytes, path)


def export_to(
    store: Store,
    out: TextIO,
    *,
    format: ExportFormat,
    actor: Actor,
    source: str | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> ExportReport:
    """As `export_file`, into an open stream of text."""
    require(actor, Permission.EXPORT_DATA)
    details = {"format": format.value, "source": source}
    with store.writing() as db:
        record_event(db, actor=actor, action="export.start", details=details)
    lines = num_bytes = 0
    with store.reading() as db:
        if not store.is_sqlite:  # one snapshot for all queries, as SQLite gives by itself
            db.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        for line in _lines(db, format, source):
            out.write(line)
            lines += 1
            num_bytes += len(line.encode())
            if on_progress is not None and lines % PROGRESS_LINES == 0:
                on_progress(lines)
    return ExportReport(lines, num_bytes, None)


def list_export_sources(db: Session, *, actor: Actor) -> list[tuple[str, int]]:
    """Each source that can be exported, with its number of interactions."""
    require(actor, Permission.EXPORT_DATA)
    return list_sources(db)


def _lines(db: Session, format: ExportFormat, source: str | None) -> Iterator[str]:
    match format:
        case ExportFormat.NATIVE:
            for item in stream_interactions(db, source=source):
                yield from map(to_line, _native_lines(item))
            for row in stream_comparisons(db, source=source):
                yield to_line({"comparison": _native_comparison(row)})
        case ExportFormat.OPENAI_CHAT:
            for item in stream_interactions(db, source=source):
                yield to_line(_chat(item))
        case ExportFormat.HH_RLHF:
            for row in stream_comparisons(db, source=source):
                if row.choice in (Choice.LEFT, Choice.RIGHT):
                    yield to_line(_transcripts(row))
        case ExportFormat.CSV:
            yield _csv_line(CSV_COLUMNS)
            for item in stream_interactions(db, source=source):
                for cells in _csv_rows(item):
                    yield _csv_line(cells)
        case _:
            assert_never(format)


def to_line(data: dict[str, Any]) -> str:
    """One line of JSON."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


def _native_lines(item: InteractionRow) -> Iterator[dict[str, Any]]:
    """One line; more where there is more feedback than one line may hold."""
    row = item.row
    feedback = [_native_feedback(f, row.source) for f in item.feedback]
    yield {**_native_interaction(item), **_given(feedback=feedback[:FEEDBACK_A_LINE] or None)}
    for at in range(FEEDBACK_A_LINE, len(feedback), FEEDBACK_A_LINE):
        part = feedback[at : at + FEEDBACK_A_LINE]
        yield {"interaction": row.external_id, "source": row.source, "feedback": part}


def _native_interaction(item: InteractionRow) -> dict[str, Any]:
    row = item.row
    names = (
        "source", "external_id", "chat_id", "message_id", "turn", "model_name", "language",
        "action_type", "prompt", "completion", "context",
    )  # fmt: skip
    data = {name: getattr(row, name) for name in names}
    data["context"] = row.context and [
        {"role": message["role"], "content": message["content"]} for message in row.context
    ]
    data |= {
        "user": row.user_pseudonym,
        "occurred_at": _moment(row.occurred_at),
        "action_data": _sorted(row.action_data),
        "extra": _sorted(row.extra),
        "steps": [
            _given(content=step.content, kind=step.kind, external_id=step.external_id)
            for step in item.steps
        ],
    }
    return {k: v for k, v in data.items() if v not in (None, []) or k == "completion"}


def _native_feedback(item: FeedbackRow, source: str) -> dict[str, Any]:
    row = item.row
    return _given(
        external_id=row.external_id,
        source=None if row.source == source else row.source,
        step=row.position,
        thumb=row.thumb,
        rating=row.rating,
        label=row.label,
        comment=row.comment,
        correction=row.correction,
        aspects=item.aspects or None,
        spans=[
            _given(start_at=s.start_at, end_at=s.end_at, tag=s.tag, note=s.note) for s in item.spans
        ]
        or None,
        rater=_outside(row.pseudonym),
        rater_kind=row.rater_kind.value,
        occasion=row.occasion,
        duration_s=row.duration_s,
        occurred_at=_moment(row.occurred_at),
        extra=_sorted(row.extra),
    )


def _native_comparison(row: Row) -> dict[str, Any]:
    return _given(
        source=row.source,
        external_id=row.external_id,
        left=row.left_external_id,
        right=row.right_external_id,
        left_source=None if row.left_source == row.source else row.left_source,
        right_source=None if row.right_source == row.source else row.right_source,
        choice=row.choice.value,
        strength=row.strength,
        reason=row.reason,
        rater=_outside(row.pseudonym),
        rater_kind=row.rater_kind.value,
        occasion=row.occasion,
        is_blind=row.is_blind,
        duration_s=row.duration_s,
        occurred_at=_moment(row.occurred_at),
        extra=_sorted(row.extra),
    )


def _chat(item: InteractionRow) -> dict[str, Any]:
    """The metadata are what the import of this format reads, and counts of the feedback."""
    row = item.row
    messages = [
        *(row.context or []),
        {"role": "user", "content": row.prompt},
        {"role": "assistant", "content": row.completion},
    ]
    on_completion = [f.row for f in item.feedback if f.row.step_id is None]
    ratings = [f.rating for f in on_completion if f.rating is not None]
    metadata = _given(
        source=row.source,
        external_id=row.external_id,
        chat_id=row.chat_id,
        message_id=row.message_id,
        turn=row.turn,
        model_name=row.model_name,
        language=row.language,
        action_type=row.action_type,
        occurred_at=_moment(row.occurred_at),
        num_ratings=len(ratings) or None,
        mean_rating=round(sum(ratings) / len(ratings), 4) if ratings else None,
        thumbs_up=sum(f.thumb == 1 for f in on_completion) or None,
        thumbs_down=sum(f.thumb == -1 for f in on_completion) or None,
        steps=[step.content for step in item.steps] or None,
    )
    return {"messages": messages, "metadata": metadata}


def _transcripts(row: Row) -> dict[str, Any]:
    names = {"user": "Human", "assistant": "Assistant"}
    turns = [
        *((names.get(m["role"], m["role"].title()), m["content"]) for m in row.context or []),
        ("Human", row.prompt),
    ]
    head = "".join(f"\n\n{name}: {content}" for name, content in turns)
    left, right = row.left_completion, row.right_completion
    chosen, rejected = (left, right) if row.choice is Choice.LEFT else (right, left)
    return {
        "id": row.external_id,
        "chosen": f"{head}\n\nAssistant: {chosen}",
        "rejected": f"{head}\n\nAssistant: {rejected}",
    }


def _csv_rows(item: InteractionRow) -> Iterator[list[Any]]:
    row = item.row
    shared = [
        row.source, row.external_id, row.chat_id, row.message_id, row.model_name, row.action_type,
        _moment(row.occurred_at), row.prompt, row.completion,
    ]  # fmt: skip
    for feedback in item.feedback:
        f = feedback.row
        step = None if f.position is None else item.steps[f.position].content
        yield [
            *shared, f.position, step, _outside(f.pseudonym), f.rater_kind.value, f.thumb, f.rating,
            f.label, f.comment, f.correction, _moment(f.occurred_at),
        ]  # fmt: skip
    if not item.feedback:
        yield [*shared, *[None] * (len(CSV_COLUMNS) - len(shared))]


def _csv_line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([make_inert(cell) for cell in cells])
    return out.getvalue()


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _sorted(value: Any) -> Any:
    """Objects with sorted names: PostgreSQL does not keep the order in which they came."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def _moment(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _outside(pseudonym: str) -> str:
    """An account's own rater (`a_...`) leaves as a keyed pseudonym, which cannot be taken back."""
    if is_pseudonym(pseudonym):
        return pseudonym
    return make_pseudonym(pseudonym, get_settings().read_secret_key())
