"""Import and export: a file, a dry run that says what would happen, then the import itself."""

import streamlit as st

from pages._ui.demo_card import draw_demo_state
from pages._ui.guard import require_page
from pages._ui.messages import empty_state, reporting
from pages._ui.state import notify, show_notices
from pages._ui.transfer_form import ask_transfer
from pages._ui.transfer_report import (
    EXPORTS,
    MAX_DOWNLOAD_BYTES,
    run_export,
    run_import,
    show_report,
)
from rlhf_core.accounts.permissions import Actor, Permission
from rlhf_core.interchange.exporters import list_export_sources
from rlhf_core.store.engine import get_store
from rlhf_core.vocabulary import ExportFormat


def show_import(actor: Actor) -> None:
    """The form, the dry run's result, and the import."""
    transfer = ask_transfer(actor)
    if transfer is None:
        return
    checked = st.session_state.get("import_checked")
    is_checked = checked is not None and checked[0] == transfer.fingerprint
    if not is_checked:
        with st.container(horizontal=True, vertical_alignment="center"):
            is_asked = st.button(
                "Check", key="import_check", type="primary", icon=":material/fact_check:"
            )
            st.caption("Reads the whole file and stores nothing.")
        if not is_asked:
            return
        report = run_import(transfer, actor, dry_run=True)
        st.session_state["import_checked"] = checked = (transfer.fingerprint, report)
        st.rerun()
    report = checked[1]
    show_report(report)
    if not report.is_dry_run:
        st.success("The import is finished.", icon=":material/task_alt:")
        st.page_link(
            "pages/collect/rate.py",
            label="Rate what was imported",
            icon=":material/thumbs_up_down:",
        )
        return
    if not report.stored:
        st.info("There is nothing new to store in this file.", icon=":material/info:")
        return
    label = f"Import {report.stored:,} line{'s' if report.stored > 1 else ''}"
    if st.button(label, key="import_start", type="primary", icon=":material/upload:"):
        report = run_import(transfer, actor, dry_run=False)
        st.session_state["import_checked"] = (transfer.fingerprint, report)
        notify(f"{report.stored:,} lines stored.")
        st.rerun()


def show_export(actor: Actor) -> None:
    """What to write, and the file."""
    with get_store().reading() as db:
        sources = list_export_sources(db, actor=actor)
    if not sources:
        empty_state("Nothing to export yet", "Import or rate something first.")
        return
    chosen = st.segmented_control(
        "Format",
        list(EXPORTS),
        format_func=lambda format: EXPORTS[format][0],
        default=ExportFormat.NATIVE,
        required=True,
        key="export_format",
    )
    st.caption(EXPORTS[chosen][1])
    counts = dict(sources)
    source = st.selectbox(
        "Source",
        [None, *counts],
        format_func=lambda name: (
            f"All ({sum(counts.values()):,} interactions)"
            if name is None
            else f"{name} ({counts[name]:,} interactions)"
        ),
        key="export_source",
    )
    if st.button("Prepare the file", key="export_start", icon=":material/inventory_2:"):
        report, name = run_export(actor, chosen, source)
        st.session_state["export_ready"] = (chosen, source, report, name)
    ready = st.session_state.get("export_ready")
    if ready is None or ready[:2] != (chosen, source):
        return
    report, name = ready[2:]
    if report.num_bytes > MAX_DOWNLOAD_BYTES:
        st.warning(
            f"The file has {report.num_bytes / 1e6:,.0f} MB, more than a page can hand out. On the "
            f"server: `python -m rlhf_core export --format {chosen.value} --out FILE`.",
            icon=":material/terminal:",
        )
        return
    with report.path.open("rb") as file:
        st.download_button(
            f"Download {report.lines:,} lines ({report.num_bytes / 1e6:,.1f} MB)",
            file,
            file_name=name,
            type="primary",
            icon=":material/download:",
            on_click="ignore",
            key="export_download",
        )


actor = require_page(Permission.EXPORT_DATA)
st.title("Import and export")
show_notices()
may_import = actor.may(Permission.IMPORT_DATA)
names = ["Import", "Export", "Demo world"] if may_import else ["Export"]
part = names[0]
if may_import:
    part = st.segmented_control(
        "Direction", names, default=part, required=True, key="transfer_part",
        label_visibility="collapsed",
    )  # fmt: skip
with reporting():
    if part == "Import":
        show_import(actor)
    elif part == "Demo world":
        draw_demo_state(actor)
    else:
        show_export(actor)
