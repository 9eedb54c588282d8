"""The columns of a table: shown before an import, held against its mapping, and guessed."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.decode import decode_object
from rlhf_core.interchange.mapping import TableMapping
from rlhf_core.interchange.readers import preview_rows

LOOK_AT_ROWS = 200
LOOK_FOR_COLUMNS_IN_ROWS = 5_000
KNOWN_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "instruction", "query", "input", "user_message"),
    "completion": ("completion", "response", "answer", "output", "reply", "assistant_message"),
    "external_id": (
        "external_id", "interaction_id", "response_id", "completion_id", "answer_id",
    ),
    "model_name": ("model_name", "model", "bot"),
    "action_type": ("action_type", "action"),
    "chat_id": ("chat_id", "conversation_id", "thread_id"),
    "message_id": ("message_id",),
    "user": ("user", "user_id"),
    "steps": ("steps", "reasoning_steps", "reasoning", "thoughts"),
    "rating": ("rating", "score", "stars", "feedback_score"),
    "thumb": ("thumb", "feedback_type", "vote", "liked", "sentiment"),
    "comment": ("comment", "feedback_text", "reason", "note", "explanation"),
    "rater": (
        "rater", "rater_id", "annotator", "annotator_id", "reviewer", "reviewer_id", "worker_id",
        "labeler", "labeller",
    ),
    "duration_s": ("duration_s", "duration", "seconds", "seconds_on_page"),
    "feedback.external_id": ("rating_id", "feedback_id", "annotation_id", "judgment_id"),
    "feedback.occurred_at": (
        "rated_at", "annotated_at", "session_started_at", "submitted_at", "feedback_at",
    ),
    "occurred_at": ("occurred_at", "created_at", "timestamp", "ts", "date", "time"),
}  # fmt: skip
PERHAPS_IDS = ("id", "uuid")
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


def list_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of these rows, in the order in which they first stand there."""
    return list(dict.fromkeys(name for row in rows for name in row))


def preview_table(path: Path, count: int = LOOK_AT_ROWS) -> list[dict[str, Any]]:
    """The first readable rows of a table as dicts.

    Raises:
        InvalidInput: the file cannot be read, or no row of it can.
    """
    rows = preview_rows(path, count, decode_object)
    if not rows:
        raise InvalidInput(f"{path.name} has no row that can be read: is it CSV, JSONL or Parquet?")
    return rows


def suggest_pairs(columns: Sequence[str]) -> dict[str, str]:
    """A column for each field whose name says so; each column is used once.

    Of joined columns (`answers.text`) the last part counts. A column `id` is the interaction's
    only where the rows name no rater: else each row is a rating, and several rate one completion.
    """
    names: dict[str, str] = {}
    for column in columns:
        names.setdefault(re.sub(r"[^a-z0-9]+", "_", column.rpartition(".")[2].lower()), column)
    taken: set[str] = set()
    pairs: dict[str, str] = {}
    for field, known in KNOWN_NAMES.items():
        found = next((names[k] for k in known if k in names and names[k] not in taken), None)
        if found is not None:
            pairs[field] = found
            taken.add(found)
    if "external_id" not in pairs and "rater" not in pairs:
        found = next((names[k] for k in PERHAPS_IDS if k in names), None)
        if found is not None:
            pairs["external_id"] = found
    return pairs


def check_columns(path: Path, mapping: TableMapping) -> None:
    """Refuse a mapping that names a column which the file does not have.

    A column that some rows of a JSONL file lack is no error: there the field is not given.

    Raises:
        InvalidInput: the message names the column, the file and the columns that it has.
    """
    known = set(list_columns(preview_table(path, LOOK_FOR_COLUMNS_IN_ROWS)))
    joined = {join.name for join in mapping.joins}
    for join in mapping.joins:
        if join.on not in known:
            raise _no_column(join.on, path, known)
        other = path.parent / join.file
        if not other.is_file():
            raise InvalidInput(f"There is no file {other}, which the mapping joins.")
        others = set(list_columns(preview_table(other, LOOK_FOR_COLUMNS_IN_ROWS)))
        if join.to not in others:
            raise _no_column(join.to, other, others)
        for name in _named_columns(mapping):
            head, _, rest = name.partition(".")
            if head == join.name and rest and rest.partition(".")[0] not in others:
                raise _no_column(rest, other, others)
    for name in _named_columns(mapping):
        if name not in known and name.partition(".")[0] not in known | joined:
            raise _no_column(name, path, known)


def _no_column(name: str, path: Path, known: set[str]) -> InvalidInput:
    return InvalidInput(
        f"{path.name} has no column {name!r}; it has {', '.join(sorted(known))}.", field=name
    )


def _named_columns(mapping: TableMapping) -> Iterator[str]:
    for spec in (*mapping.interactions, *mapping.comparisons):
        for name in _columns_of_entry(spec):
            if not name.startswith("@"):
                yield name


def _columns_of_entry(spec: dict[str, Any]) -> Iterator[str]:
    for name, value in spec.items():
        if name == "feedback":
            for entry in value:
                yield from _columns_of_entry(entry)
        elif isinstance(value, dict) and (
            "each" in value or name in {"extra", "action_data", "aspects"}
        ):
            yield from _columns_of_entry(value)
        else:
            yield from _columns_of_expression(value)


def _columns_of_expression(expression: Any) -> Iterator[str]:
    if isinstance(expression, str):
        yield expression
    elif "path" in expression:
        yield expression["path"]
    elif "text" in expression:
        yield from _PLACEHOLDER.findall(expression["text"])
    elif isinstance(expression.get("join"), list):
        for part in expression["join"]:
            yield from _columns_of_expression(part)
    elif "join" in expression:
        yield expression["join"]


def show_cell(value: Any) -> str:
    """A cell as a short text for a preview."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:199] + "…"
