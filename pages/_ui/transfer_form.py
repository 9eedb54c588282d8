"""What the import page asks: which file, what its lines are, what its columns mean."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages._ui.messages import plain
from pages._ui.tab_files import keep_upload
from rlhf_core.accounts.permissions import Actor
from rlhf_core.config import get_settings
from rlhf_core.errors import InvalidInput
from rlhf_core.interchange.columns import (
    list_columns,
    preview_table,
    show_cell,
    suggest_pairs,
)
from rlhf_core.interchange.importers import find_file
from rlhf_core.interchange.mapping import (
    Join,
    TableMapping,
    check_file_name,
    check_mapping,
    mapping_of_pairs,
    with_joined_file,
)
from rlhf_core.interchange.readers import table_kind
from rlhf_core.vocabulary import ImportFormat, Role

SHOWN_ROWS = 5
FIELDS_A_ROW = 4
FORMATS = {
    ImportFormat.TABLE: "Table",
    ImportFormat.NATIVE: "Native",
    ImportFormat.OPENAI_CHAT: "OpenAI chat",
    ImportFormat.HH_RLHF: "HH-RLHF",
    ImportFormat.PRM800K: "PRM800K",
}
HINTS = {
    ImportFormat.TABLE: "CSV, JSON Lines or Parquet; you say below what the columns mean.",
    ImportFormat.NATIVE: "JSON Lines, one interaction a line with its steps, feedback and "
    "comparisons, as the export writes it.",
    ImportFormat.OPENAI_CHAT: "JSON Lines with `messages`; the last one is the completion.",
    ImportFormat.HH_RLHF: "JSON Lines with the transcripts `chosen` and `rejected`.",
    ImportFormat.PRM800K: "Raw PRM800K records: steps with several completions and their ratings.",
}
FIELDS = {
    "prompt": "Prompt",
    "completion": "Completion",
    "external_id": "Interaction id",
    "model_name": "Model",
    "rating": "Rating, 1 to 5",
    "thumb": "Thumb",
    "comment": "Comment",
    "rater": "Rater",
}
MORE_FIELDS = {
    "steps": "Reasoning steps",
    "action_type": "Action type",
    "user": "User",
    "chat_id": "Chat id",
    "message_id": "Message id",
    "occurred_at": "When it happened",
    "feedback.external_id": "Feedback id",
    "feedback.occurred_at": "When it was rated",
    "duration_s": "Seconds it took to rate",
}
NATIVE_COLUMNS = {
    "prompt", "completion", "external_id", "model_name", "action_type", "chat_id", "message_id",
    "user", "steps", "occurred_at", "source", "feedback", "comparisons", "extra", "context", "turn",
    "language", "action_data", "comparison", "interaction",
}  # fmt: skip


@dataclass(frozen=True)
class Transfer:
    """A file and how to read it. `fingerprint` changes with everything that was chosen."""

    path: Path
    format: ImportFormat
    mapping: TableMapping | None
    source: str | None
    fingerprint: str


def import_folder() -> Path:
    """Where files lie that are too large to upload. Nothing outside is read for a page."""
    return get_settings().data_dir.resolve() / "import"


def ask_transfer(actor: Actor) -> Transfer | None:
    """The whole form; None while something is missing.

    Raises:
        InvalidInput: what was chosen cannot be read.
    """
    path = _ask_file(actor)
    if path is None:
        return None
    chosen = _ask_format(path)
    mapping = _ask_mapping(path) if chosen is ImportFormat.TABLE else None
    if chosen is ImportFormat.TABLE and mapping is None:
        return None
    path = find_file(path, mapping)
    default = (mapping.source if mapping else None) or path.name.partition(".")[0]
    source = st.text_input(
        "Source",
        placeholder=default,
        max_chars=200,
        key="import_source",
        help="The name under which the data is kept apart from other data. Lines of a native file "
        "that name their own source keep it if this stays empty.",
    ).strip()
    said = json.dumps(
        [str(path), path.stat().st_mtime_ns, chosen.value, mapping and mapping.raw, source]
    )
    fingerprint = hashlib.sha256(said.encode()).hexdigest()
    return Transfer(path, chosen, mapping, source or None, fingerprint)


def _ask_file(actor: Actor) -> Path | None:
    if actor.role is Role.ADMIN:
        place = st.segmented_control(
            "Where is the file?",
            ["Upload", "On the server"],
            default="Upload",
            required=True,
            key="import_place",
        )
        if place == "On the server":
            return _ask_server_file()
    limit = st.get_option("server.maxUploadSize")
    upload = st.file_uploader(
        f"File (at most {limit} MB)",
        type=["jsonl", "json", "csv", "tsv", "parquet", "pq"],
        key="import_file",
    )
    return None if upload is None else keep_upload(upload)


def _ask_server_file() -> Path | None:
    folder = import_folder()
    found = sorted(
        path for path in folder.glob("*") if path.resolve().is_relative_to(folder)
    ) if folder.is_dir() else []  # fmt: skip
    st.caption(
        f"For files too large to upload. Only admins see this, and only the folder "
        f"`{folder}` is read: put files, or a folder with the files of a mapping, there."
    )
    if not found:
        st.info("The folder is empty.", icon=":material/folder_open:")
        return None
    name = st.selectbox(
        "File or folder", [path.name for path in found], index=None, key="import_server_file"
    )
    return None if name is None else folder / check_file_name(name)


def _ask_format(path: Path) -> ImportFormat:
    if path.is_dir() or table_kind(path) != "jsonl":
        return ImportFormat.TABLE  # nothing else is CSV or Parquet, or lies in several files
    chosen = st.segmented_control(
        "Format",
        list(FORMATS),
        format_func=FORMATS.__getitem__,
        default=_guess_format(path),
        required=True,
        key="import_format",
    )
    st.caption(HINTS[chosen])
    return chosen


def _guess_format(path: Path) -> ImportFormat:
    try:
        columns = set(list_columns(preview_table(path, 20)))
    except InvalidInput:
        return ImportFormat.NATIVE
    if {"chosen", "rejected"} <= columns:
        return ImportFormat.HH_RLHF
    if "messages" in columns and columns <= {"messages", "metadata"}:
        return ImportFormat.OPENAI_CHAT
    if {"question", "label"} <= columns:
        return ImportFormat.PRM800K
    looks_native = {"prompt", "completion"} <= columns <= NATIVE_COLUMNS
    return ImportFormat.NATIVE if looks_native else ImportFormat.TABLE


def _ask_mapping(path: Path) -> TableMapping | None:
    kinds = ["Choose columns", "Mapping file"]
    kind = kinds[1]
    if not path.is_dir():
        kind = st.segmented_control(
            "What the columns mean", kinds, default=kinds[0], required=True, key="import_mapping"
        )
    if kind == "Mapping file":
        st.caption("A JSON file, for what columns alone cannot say: comparisons, nested lists.")
        upload = st.file_uploader("Mapping file", type=["json"], key="import_mapping_file")
        mapping = None if upload is None else _read_mapping(upload)
        for needed in mapping.joins if mapping and not path.is_dir() else ():
            if not (path.parent / needed.file).exists():
                label = f"The file that it joins, {plain(needed.file)}"
                other = st.file_uploader(label, key=f"join_{needed.file}")
                if other is None:
                    return None
                keep_upload(other, name=needed.file)
        return mapping
    rows = preview_table(path)
    _show_preview(rows, "The first rows")
    columns = list_columns(rows)
    join, more = _ask_join(columns, path)
    return _ask_columns([*columns, *more], join)


def _read_mapping(upload: UploadedFile) -> TableMapping:
    try:
        return check_mapping(json.loads(upload.getvalue()))
    except ValueError as error:
        raise InvalidInput(f"The mapping {upload.name} is no JSON: {error}.") from error


def _ask_join(columns: list[str], path: Path) -> tuple[Join | None, list[str]]:
    """A second file whose rows complete those of the first, and its columns."""
    with st.expander("Texts in a second file?", key="import_join"):
        st.caption(
            "If ratings and texts lie in two files, add the other one and say how they join."
        )
        upload = st.file_uploader(
            "Second file", type=["jsonl", "csv", "tsv", "parquet", "pq"], key="import_second"
        )
        if upload is None:
            return None, []
        other = keep_upload(upload)
        if other.parent != path.parent:
            raise InvalidInput("A second file joins an uploaded one; use a mapping file here.")
        if other.name == path.name:
            raise InvalidInput("The second file has the name of the first: rename one.")
        rows = preview_table(other)
        others = list_columns(rows)
        _show_preview(rows, "The first rows of the second file")
        shared = [name for name in columns if name in others]
        shared.sort(key=lambda name: (_is_unique(rows, name), name.endswith("id")), reverse=True)
        left, right = st.columns(2)
        on = left.selectbox(
            "Column of the first file", columns,
            index=columns.index(shared[0]) if shared else None, key="import_join_on",
        )  # fmt: skip
        to = right.selectbox(
            "equals column of the second", others,
            index=others.index(shared[0]) if shared else None, key="import_join_to",
        )  # fmt: skip
    if on is None or to is None:
        return None, []
    name = other.name.partition(".")[0]
    return Join(other.name, on, to, name), [f"{name}.{column}" for column in others]


def _is_unique(rows: list[dict[str, Any]], column: str) -> bool:
    values = [str(row.get(column)) for row in rows]
    return len(set(values)) == len(values)


def _ask_columns(columns: list[str], join: Join | None) -> TableMapping | None:
    suggested = suggest_pairs(columns)
    pairs = _ask_fields(FIELDS, columns, suggested)
    found = sum(field in suggested for field in MORE_FIELDS)
    title = f"More fields ({found} found by name)" if found else "More fields"
    with st.expander(title, key="import_more"):
        pairs |= _ask_fields(MORE_FIELDS, columns, suggested)
    rest = [name for name in columns if name not in pairs.values() and "." not in name]
    kept = rest and st.multiselect(
        "Keep as well",
        rest,
        placeholder="columns without a field",
        key=f"map_extra_{_digest(columns)}",
        help="These columns are stored with the feedback; without feedback, with the interaction.",
    )
    missing = [field for field in ("prompt", "completion") if field not in pairs]
    if missing:
        st.info(f"Choose a column for the {' and the '.join(missing)}.", icon=":material/info:")
        return None
    mapping = mapping_of_pairs([f"{field}={column}" for field, column in pairs.items()])
    if kept:
        raw = json.loads(json.dumps(mapping.raw))
        spec = raw["interactions"][0]
        (spec["feedback"][0] if spec.get("feedback") else spec)["extra"] = {n: n for n in kept}
        mapping = check_mapping(raw)
    return mapping if join is None else with_joined_file(mapping, join)


def _ask_fields(
    fields: dict[str, str], columns: list[str], suggested: dict[str, str]
) -> dict[str, str]:
    """The column chosen for each of these fields, left to right and row by row."""
    pairs: dict[str, str] = {}
    names = list(fields)
    for at in range(0, len(names), FIELDS_A_ROW):
        for field, side in zip(names[at : at + FIELDS_A_ROW], st.columns(FIELDS_A_ROW)):  # noqa: B905
            column = side.selectbox(
                fields[field],
                columns,
                index=columns.index(suggested[field]) if field in suggested else None,
                placeholder="no column",
                key=f"map_{field}_{_digest(columns)}",
            )
            if column is not None:
                pairs[field] = column
    return pairs


def _digest(columns: list[str]) -> str:
    """Part of the widgets' keys: other columns are other choices, suggested afresh."""
    return hashlib.sha256("\n".join(columns).encode()).hexdigest()[:8]


def _show_preview(rows: list[dict[str, Any]], title: str) -> None:
    st.caption(title)
    shown = [{k: show_cell(v) for k, v in row.items()} for row in rows[:SHOWN_ROWS]]
    st.dataframe(pd.DataFrame(shown), hide_index=True, height="content")
