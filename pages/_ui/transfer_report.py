"""Running an import or an export from a page, and showing what became of it."""

import pandas as pd
import streamlit as st

from pages._ui.messages import plain
from pages._ui.tab_files import tab_folder
from pages._ui.transfer_form import Transfer
from rlhf_core.accounts.permissions import Actor
from rlhf_core.interchange.exporters import ExportReport, export_file
from rlhf_core.interchange.importers import ImportReport, import_file
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ExportFormat

MAX_DOWNLOAD_BYTES = 200_000_000
EXPORTS = {
    ExportFormat.NATIVE: ("Native", "Everything; can be imported again, here or elsewhere."),
    ExportFormat.CSV: ("CSV", "One row for each feedback, for a spreadsheet."),
    ExportFormat.OPENAI_CHAT: ("OpenAI chat", "Conversations as `messages`, for fine-tuning."),
    ExportFormat.HH_RLHF: ("HH-RLHF", "Comparisons as `chosen` and `rejected`, without ties."),
}
SUFFIXES = {ExportFormat.CSV: "csv"}


def run_import(transfer: Transfer, actor: Actor, *, dry_run: bool) -> ImportReport:
    """Import with a progress bar; refused lines go to a temporary file of this tab.

    Raises:
        RlhfError: as `import_file`.
    """
    doing = "Checking" if dry_run else "Importing"
    bar = st.progress(0.0, text=f"{doing} ...")
    try:
        return import_file(
            get_store(),
            transfer.path,
            format=transfer.format,
            actor=actor,
            mapping=transfer.mapping,
            source=transfer.source,
            dry_run=dry_run,
            on_progress=lambda done, lines: bar.progress(done, text=f"{doing}: {lines:,} lines"),
            rejected_path=tab_folder("rejected") / f"{transfer.path.name}.rejected.jsonl",
        )
    finally:
        bar.empty()


def show_report(report: ImportReport) -> None:
    """Counts, the refused lines, and their file."""
    labels = (
        ("Lines read", report.lines),
        ("To be stored" if report.is_dry_run else "Stored", report.stored),
        ("Duplicate", report.duplicate),
        ("Rejected", report.rejected),
    )
    with st.container(horizontal=True, key="import_counts"):
        for label, count in labels:
            st.metric(label, f"{count:,}", border=True)
    parts = (
        (report.num_interactions, "interaction", "interactions"),
        (report.num_steps, "reasoning step", "reasoning steps"),
        (report.num_feedback, "feedback", "feedback"),
        (report.num_comparisons, "comparison", "comparisons"),
        (report.num_raters, "rater", "raters"),
    )
    new = ", ".join(
        f"{count:,} {one if count == 1 else many}" for count, one, many in parts if count
    )
    st.caption(f"New under the source {plain(report.source)}: {new or 'nothing'}.")
    if not report.rejected:
        return
    st.markdown("**Rejected lines**")
    refused = pd.DataFrame(report.reasons, columns=["Line", "Reason"])
    st.dataframe(
        refused,
        hide_index=True,
        height="content" if len(refused) < 10 else 380,
        column_config={"Line": st.column_config.NumberColumn(width="small", format="%d")},
    )
    if report.rejected > len(report.reasons):
        st.caption(f"The first {len(report.reasons)} of {report.rejected:,}; the file has all.")
    if report.rejected_path is not None and report.rejected_path.exists():
        with report.rejected_path.open("rb") as file:
            st.download_button(
                "Download rejected lines",
                file,
                file_name=report.rejected_path.name,
                icon=":material/download:",
                on_click="ignore",
                key="import_rejected",
            )


def run_export(actor: Actor, format: ExportFormat, source: str | None) -> tuple[ExportReport, str]:
    """Write the export into a temporary file of this tab; return the report and the file's name.

    Raises:
        RlhfError: as `export_file`.
    """
    name = f"{source or 'all'}.{format.value}.{SUFFIXES.get(format, 'jsonl')}"
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    bar = st.empty()
    try:
        report = export_file(
            get_store(),
            tab_folder("exports") / safe,
            format=format,
            actor=actor,
            source=source,
            on_progress=lambda lines: bar.caption(f"{lines:,} lines written ..."),
        )
    finally:
        bar.empty()
    return report, safe
