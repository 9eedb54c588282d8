"""Frozen versions: the list, and one of them with its card, its rows and its files."""

import hashlib
import uuid
from itertools import islice

import pandas as pd
import streamlit as st

from pages._ui.dataset_form import PURPOSES
from pages._ui.dataset_rows import show_rows
from pages._ui.demo_mark import draw_mark, mark_rows, read_marks
from pages._ui.messages import empty_state, plain, reporting
from pages._ui.tab_files import tab_folder
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.dataset.card_text import card_markdown, describe_facts, find_cautions
from rlhf_core.dataset.export import begin_export, export_name, export_version
from rlhf_core.dataset.service import DatasetVersionView, stream_rows
from rlhf_core.examples import Example
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import DatasetFormat, Split

MAX_DOWNLOAD_BYTES = 200_000_000
PREVIEW_ROWS = 50
FORMATS = {
    DatasetFormat.OPENAI_CHAT: ("OpenAI chat", "A conversation a line, for fine-tuning at OpenAI."),
    DatasetFormat.TRL: ("TRL", "JSON lines with the columns that Hugging Face's TRL expects."),
    DatasetFormat.PARQUET: ("Parquet", "A typed table with all columns, for pandas or DuckDB."),
    DatasetFormat.CSV: ("CSV", "For a spreadsheet; texts that it would run are made inert."),
}
ALL = "all"
PARTS = {Split.TRAIN: "Training", Split.VALIDATION: "Validation", Split.TEST: "Test"}
SEGMENTS = {
    "source": "Sources",
    "action_type": "Action types",
    "model_name": "Models",
    "language": "Languages",
}


@st.cache_data(ttl=600, max_entries=20, show_spinner=False)
def read_rows(_version: DatasetVersionView, content_hash: str) -> list[Example]:
    """The first rows; frozen rows never change."""
    return [row for row, _ in islice(stream_rows(_version), PREVIEW_ROWS)]


def show_versions(actor: Actor, versions: list[DatasetVersionView]) -> None:
    """The table, and below it the version that the address names (else the newest)."""
    if not versions:
        empty_state("Nothing is frozen yet", "Choose rows under Build, then freeze them.")
        return
    versions = sorted(versions, key=lambda version: version.created_at, reverse=True)
    wanted = st.query_params.get("version", "")
    chosen = next((one for one in versions if str(one.id) == wanted), versions[0])
    _show_table(versions, chosen.id)
    with reporting():
        _show_version(actor, chosen)


def _show_table(versions: list[DatasetVersionView], selected: uuid.UUID) -> None:
    frame = pd.DataFrame(
        {
            "Dataset": [version.dataset for version in versions],
            "Version": [version.number for version in versions],
            "What": [PURPOSES[version.purpose][0] for version in versions],
            **mark_rows([one.id for one in versions], read_marks().dataset_versions),
            "Rows": [version.num_rows for version in versions],
            "Prompts": [version.num_groups for version in versions],
            "Frozen": [version.created_at for version in versions],
            "By": [version.created_by or "system" for version in versions],
        }
    )
    ids = [version.id for version in versions]
    # A row is known to the browser by its place only: with the list, the table is a new one.
    key = hashlib.sha256(repr((ids, selected)).encode()).hexdigest()[:12]

    def choose() -> None:
        rows = st.session_state[f"versions_{key}"].selection.rows
        if rows:
            st.query_params["version"] = str(ids[rows[0]])

    st.dataframe(
        frame,
        hide_index=True,
        height="auto" if len(versions) < 7 else 248,
        column_config={
            "Version": st.column_config.NumberColumn(width="small"),
            "Rows": st.column_config.NumberColumn(format="localized"),
            "Prompts": st.column_config.NumberColumn(format="localized"),
            "Frozen": st.column_config.DatetimeColumn(format="distance"),
        },
        on_select=choose,
        selection_mode="single-row",
        selection_default={"selection": {"rows": [ids.index(selected)]}},
        key=f"versions_{key}",
        alt="Frozen versions, newest first",
    )


def _show_version(actor: Actor, version: DatasetVersionView) -> None:
    parts = version.card.get("parts", {})
    head = st.container(horizontal=True, vertical_alignment="center", key="version_head")
    with head:
        st.header(plain(version.name), width="content")
        st.badge(PURPOSES[version.purpose][0], color="blue")
        draw_mark(version.id, read_marks().dataset_versions, head)
        st.space("stretch")
        if actor.may(Permission.RUN_JOBS):
            st.page_link(
                "pages/train/launch.py",
                label="Launch training",
                icon=":material/rocket_launch:",
                width="content",
            )
    with st.container(horizontal=True, key="version_counts"):
        st.metric("Rows", f"{version.num_rows:,}", border=True)
        st.metric("Prompts", f"{version.num_groups:,}", border=True)
        for split, name in PARTS.items():
            if split.value in parts and len(parts) > 1:
                st.metric(name, f"{parts[split.value]:,}", border=True)
        st.metric("Left out", f"{sum(version.left_out.values()):,}", border=True)
    st.caption(f"{_describe_period(version)}SHA-256 {version.content_hash[:16]}…")
    tab = st.segmented_control(
        "Show",
        ["Data card", "Rows", "Export"],
        default="Data card",
        required=True,
        key="version_tab",
        label_visibility="collapsed",
    )
    match tab:
        case "Rows":
            show_rows(read_rows(version, version.content_hash), key=f"rows_{version.id.hex}")
        case "Export":
            _ask_export(actor, version)
        case _:
            _show_card(version)


def _show_card(version: DatasetVersionView) -> None:
    card = version.card
    cautions = find_cautions(version)
    if cautions:
        with st.container(border=True, key="version_cautions"):
            st.markdown("**:material/warning: Be careful with**")
            st.markdown("\n".join(f"- {caution}" for caution in cautions))
    near = card.get("near_duplicates")
    if near and near["num_prompts"]:
        st.caption(
            f"{near['num_prompts']:,} prompts are nearly the same as another; each of these "
            f"{near['num_clusters']:,} groups lies in one part."
        )
    left, right = st.columns(2, gap="medium")
    with left:
        _show_counts("Labels", "Label", card.get("labels", {}).get("counts", {}))
        _show_counts("Left out", "Why", version.left_out)
        _show_facts(card)
        _show_lengths(card.get("length", {}))
    with right:
        for name, title in SEGMENTS.items():
            if len(card.get(name, {})) > 1:
                _show_counts(title, "Value", card[name])
    _show_bias(card)
    st.download_button(
        "Download the card",
        card_markdown(version),
        file_name=f"{export_name(version, DatasetFormat.CSV).removesuffix('.csv')}.md",
        mime="text/markdown",
        icon=":material/description:",
        on_click="ignore",
        key="version_card",
    )


def _describe_period(version: DatasetVersionView) -> str:
    period = version.card.get("period", {})
    if not period.get("first"):
        return ""
    return f"Interactions from {period['first']} to {period['last']} · "


def _show_counts(title: str, column: str, counts: dict[str, int]) -> None:
    if not counts:
        return
    st.markdown(f"**{title}**")
    st.dataframe(
        pd.DataFrame({column: list(counts), "Number": list(counts.values())}),
        hide_index=True,
        height="content" if len(counts) < 8 else 300,
        key=f"version_{title}",
        column_config={"Number": st.column_config.NumberColumn(format="localized", width="small")},
        alt=title,
    )


def _show_facts(card: dict[str, object]) -> None:
    """Raters, agreement and consent, in words."""
    st.markdown("**Raters**")
    st.markdown("\n".join(f"- {fact}" for fact in describe_facts(card)))


def _show_lengths(lengths: dict[str, dict[str, float]]) -> None:
    if not lengths:
        return
    st.markdown("**Length in characters**")
    names = {"p5": "5 %", "median": "Median", "p95": "95 %", "max": "Longest"}
    frame = pd.DataFrame(
        {"Text": [name.capitalize() for name in lengths]}
        | {shown: [found[key] for found in lengths.values()] for key, shown in names.items()}
    )
    number = st.column_config.NumberColumn(format="localized", width="small")
    st.dataframe(
        frame.round(),
        hide_index=True,
        column_config=dict.fromkeys(names.values(), number),
        key="version_lengths",
        alt="Length of the texts in characters",
    )


def _show_bias(card: dict[str, object]) -> None:
    rows = card.get("bias")
    if not isinstance(rows, list) or not rows:
        return
    labels = card["labels"]
    outcome = labels["outcome"] if isinstance(labels, dict) else ""
    with st.expander(f"By segment: {outcome}", key="version_bias"):
        frame = pd.DataFrame(
            {
                "By": [row["segment"].replace("_", " ") for row in rows],
                "Value": [row["value"] for row in rows],
                "Rows": [row["rows"] for row in rows],
                "Here": [100 * row["rate"] for row in rows],
                "Elsewhere": [100 * row["rate_of_others"] for row in rows],
                "Notable": [row["is_notable"] for row in rows],
            }
        )
        share = st.column_config.NumberColumn(format="%.1f %%", width="small")
        st.dataframe(frame, hide_index=True, column_config={"Here": share, "Elsewhere": share},
                     key="version_bias_table", alt="The outcome by segment")  # fmt: skip


def _ask_export(actor: Actor, version: DatasetVersionView) -> None:
    """Format and part, then the file."""
    if not actor.may(Permission.EXPORT_DATA):
        st.info("Your role may not take data out. Ask an admin.", icon=":material/lock:")
        return
    format = st.segmented_control(
        "Format",
        list(FORMATS),
        format_func=lambda format: FORMATS[format][0],
        default=DatasetFormat.TRL,
        required=True,
        key="dataset_format",
    )
    st.caption(FORMATS[format][1])
    known = version.card.get("parts", {})
    chosen = st.segmented_control(
        "Rows",
        [ALL, *(part for part in PARTS if part.value in known)],
        format_func=lambda part: "All" if part == ALL else PARTS[part],
        default=ALL,
        required=True,
        key="dataset_split",
    )
    split = None if chosen == ALL else Split(chosen)
    wanted = (version.id, format, split)
    if st.button("Prepare the file", key="dataset_prepare", icon=":material/inventory_2:"):
        path = tab_folder("datasets") / export_name(version, format, split)
        with get_store().writing() as db:
            begin_export(db, actor=actor, version=version, format=format, split=split)
        with st.spinner("Writing ..."):
            num_rows = export_version(version, format, path, split=split)
        st.session_state["dataset_file"] = (wanted, path, num_rows)
    ready = st.session_state.get("dataset_file")
    if ready is None or ready[0] != wanted or not ready[1].exists():
        return
    _, path, num_rows = ready
    size = path.stat().st_size
    if size > MAX_DOWNLOAD_BYTES:
        st.warning(
            f"The file has {size / 1e6:,.0f} MB, more than a page can hand out. On the server: "
            "`python -m rlhf_core dataset export NAME --format FORMAT --out FILE`.",
            icon=":material/terminal:",
        )
        return
    with path.open("rb") as file:
        st.download_button(
            f"Download {num_rows:,} rows ({size / 1e6:,.1f} MB)",
            file,
            file_name=path.name,
            type="primary",
            icon=":material/download:",
            on_click="ignore",
            key="dataset_download",
        )
